"""Each error is one line, with its exit code."""

from __future__ import annotations

import argparse
import errno
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Optional, Union

import pytest

from hrnet.cli import UserError, WorkFailed, command, cores, first_few, integer, plural, progress, real
from hrnet.io.records import FormatError
from tests.support import ROOT


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "is broken"),
        ({"where": "a.bin"}, "a.bin: is broken"),
        ({"expected": 4}, "is broken (expected 4)"),
        ({"found": 0}, "is broken (found 0)"),
        ({"hint": "run make infer"}, "is broken; run make infer"),
    ],
)
def test_an_error_is_reported_in_one_line(parts: dict[str, Any], line: str) -> None:
    assert str(UserError("is broken", **parts)) == line


@pytest.mark.parametrize("kind", [UserError, WorkFailed, FormatError])
def test_errors_keep_their_parts_across_processes(kind: type[UserError]) -> None:
    parts = {"where": Path("a"), "expected": 4, "found": 0, "hint": "run make infer"}
    error = pickle.loads(pickle.dumps(kind("is broken", **parts)))
    assert type(error) is kind
    assert vars(error) == {"what": "is broken", **parts}
    assert str(error) == "a: is broken (expected 4, found 0); run make infer"


def stage(result: Union[int, BaseException, None]) -> Callable[..., int]:
    """A script that returns or raises `result`."""

    @command
    def main(argv: Optional[list[str]] = None) -> Optional[int]:
        if isinstance(result, BaseException):
            raise result
        return result

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no such model", where="m.onnx"), 2, "error: m.onnx: no such model"),
        (WorkFailed("1 of 9 rejected"), 1, "failed: 1 of 9 rejected"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), 2, "error: a: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device"),
        (MemoryError(), 2, "error: out of memory"),
        (MemoryError("Unable to allocate 3 GiB"), 2, "error: out of memory (Unable to allocate 3 GiB)"),
        (KeyboardInterrupt(), 130, "interrupted; finished work is kept, rerun the same command"),
    ],
)
def test_an_error_is_reported_in_one_line_on_stderr(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(error)([]) == code
    assert capsys.readouterr() == ("", f"{__name__}: {line}\n")


@pytest.mark.parametrize("error", [ValueError("ours"), OSError("ours")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        stage(error)([])


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_what_main_returns_is_the_exit_code(returned: Optional[int], code: int) -> None:
    assert stage(returned)([]) == code


SCRIPT = """
import sys
from hrnet.cli import UserError, command

@command
def main(argv=None):
    raise UserError("no such model")

sys.exit(main())
"""


@pytest.mark.parametrize(("call", "name"), [(["-m", "some_stage"], "some_stage"), (["some_stage.py"], "some_stage.py")])
def test_errors_start_with_the_name_of_the_script(call: list[str], name: str, tmp_path: Path) -> None:
    (tmp_path / "some_stage.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *call], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{name}: error: no such model\n")


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")],
)
def test_long_lists_are_shortened(names: list[str], text: str) -> None:
    assert first_few(iter(names)) == text


@pytest.mark.parametrize(("least", "text", "value"), [(0, "0", 0), (0, "007", 7), (1, "50000", 50000)])
def test_integers_are_read(least: int, text: str, value: int) -> None:
    assert integer(least)(text) == value


@pytest.mark.parametrize(("least", "text"), [(0, "-1"), (1, "0"), (0, "1.5"), (0, ""), (0, "²"), (0, "many")])
def test_other_values_than_integers_are_rejected(least: int, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        integer(least)(text)
    assert str(caught.value) == f"expected an integer of at least {least}, found {text!r}"


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.5", 1.5), ("1e-3", 0.001), ("100", 100.0)])
def test_numbers_are_read(text: str, value: float) -> None:
    assert real(0, 100)(text) == value


@pytest.mark.parametrize("text", ["-1", "101", "nan", "inf", "", "one"])
def test_other_values_than_numbers_are_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        real(0, 100)(text)
    assert str(caught.value) == f"expected a number of at least 0 and at most 100, found {text!r}"
    with pytest.raises(argparse.ArgumentTypeError):
        real(above=0)("0")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    one = next(iter(os.sched_getaffinity(0)))
    call = f"import os; os.sched_setaffinity(0, [{one}]); from hrnet.cli import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 5, 7})
    assert cores() == 3


@pytest.mark.parametrize(("counted", "expected"), [(6, 6), (None, 1)])
def test_cores_are_counted_where_affinity_is_unknown(
    counted: Optional[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert cores() == expected


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), 3, unit="images")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    assert list(progress(range(3), 3, unit="images", file=screen)) == [0, 1, 2]
    assert "0/3 [00:00<?, ?images/s]" in screen.getvalue()


NAMES = r"""
from hrnet.cli import UserError, command

@command
def main(argv=None):
    print("val/\u56fe.JPEG, val/caf\udce9.JPEG")
    raise UserError("a link to nothing", where="val/caf\udce9\n.JPEG", found="\u56fe")

raise SystemExit(main([]))
"""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_file_names_that_the_terminal_cannot_show_are_escaped(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, env=environment)
    character = "\\u56fe" if encoding == "ascii" else "图"
    assert done.returncode == 2
    assert done.stdout.decode() == f"val/{character}.JPEG, val/caf\\udce9.JPEG\n"
    assert done.stderr.decode().endswith(f"error: val/caf\\udce9\\n.JPEG: a link to nothing (found {character})\n")
    assert done.stderr.count(b"\n") == 1


def test_numbers_of_things() -> None:
    assert [plural(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [plural(count, "person", "people") for count in (1, 3)] == ["1 person", "3 people"]
