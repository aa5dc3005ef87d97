"""Which models are served: the verdict must be about one of the files, and the other files must be compiled from the
same model by the same command."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Optional

import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.io.compiled import CompiledModel
from serve.verdict import check_verdict, main
from tests.serve.chain import VERDICT

MODELS = [Path("om/bs1.onnx"), Path("om/bs4.onnx")]


@pytest.fixture(autouse=True)
def here(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(chain, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def check(
    metrics: Optional[str] = VERDICT,
    allow_unjudged: bool = False,
    tool: str = "onnxruntime",
    flip: Optional[bool] = None,
    models: Optional[dict[Path, CompiledModel]] = None,
) -> str:
    models = models or {path: CompiledModel.read(path) for path in MODELS}
    return check_verdict(metrics and Path(metrics), models, tool, flip, allow_unjudged)


def change(**changes: Any) -> None:
    record = json.loads(Path(VERDICT).read_text())
    Path(VERDICT).write_text(json.dumps({**record, **changes}))


def test_the_line_is_the_verdict_of_make_gate() -> None:
    assert check().startswith("PASS: small top1 ")


def test_a_model_that_failed_is_not_served_even_with_allow_unjudged() -> None:
    change(verdict="fail")
    for allow in (False, True):
        with pytest.raises(WorkFailed, match="failed its gate"):
            check(allow_unjudged=allow)


@pytest.mark.parametrize(
    ("points", "board", "hint"),
    [
        (0.5, False, "to judge again with the default GATE=1: make gate"),  # an earlier call had GATE=0.1
        (1.0, True, "to judge again with the default GATE=1: make gate"),
        (2.341, False, "make compare shows where accuracy is lost; to accept this drop: make gate GATE=2.35"),
        (30.0, True, "to accept this drop: make gate GATE=30"),
    ],
)
def test_after_a_fail_a_command_can_be_pasted(
    points: float, board: bool, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrnet.BOARD", board)
    change(verdict="fail", drop={"points": points, "relative_percent": points})
    with pytest.raises(WorkFailed) as caught:
        check()
    assert str(caught.value.hint).startswith(hint)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no file", "not evaluated"),
        ("no path", "not evaluated"),
        ("not judged", "no verdict: no reference is known"),
        ("another model", "another compiled model"),
        ("another tool", "another tool"),
        ("another flip", "another FLIP"),
        ("another precision", "not compiled in the same way"),
        ("unknown source", "not compiled in the same way"),
        ("damaged", "not a complete metrics record"),
    ],
)
def test_a_model_without_a_verdict_is_served_only_with_gate_none(case: str, words: str) -> None:
    given: dict[str, Any] = {}
    models = {path: CompiledModel.read(path) for path in MODELS}
    first = models[MODELS[0]]
    if case == "no file":
        given = {"metrics": "eval/none.json"}
    elif case == "no path":
        given = {"metrics": None}
    elif case == "not judged":
        given = {"metrics": "eval/unjudged.json"}
    elif case == "another model":
        given = {"models": {MODELS[0]: first}}
    elif case == "another tool":
        given = {"tool": "openvino"}
    elif case == "another flip":
        given = {"flip": True}
    elif case == "another precision":
        command = [*first.command, "--precision_mode=force_fp16"]
        given = {"models": {**models, MODELS[0]: dataclasses.replace(first, command=command)}}
    elif case == "unknown source":
        given = {"models": {**models, MODELS[0]: dataclasses.replace(first, source_sha256="")}}
    else:
        change(evaluated={})
    with pytest.raises(UserError) as caught:
        check(**given)
    assert words in caught.value.what and "make eval" in str(caught.value.hint)
    line = check(**given, allow_unjudged=True)
    assert line.startswith("NOT JUDGED: ") and words in line


@pytest.mark.parametrize(
    ("changes", "flags", "code", "words"),
    [
        ({}, (), 0, ()),
        ({"evaluated": {"model_sha256": "0"}}, (), 0, ()),
        ({"verdict": "fail"}, (), 1, ("failed its gate", VERDICT)),
        ({"verdict": "not judged", "why": "too few"}, (), 2, ("no verdict: too few", "GATE=none")),
        ({}, ("--backend", "ascend"), 2, ("another tool", "expected ais_bench")),
        ({"flip": True}, ("--flip", "0"), 2, ("another FLIP", "expected 0, found 1")),
    ],
)
def test_the_record_alone_is_checked_before_anything_is_compiled(
    changes: dict[str, Any],
    flags: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(**changes)
    shutil.rmtree("om")
    assert main(["--metrics", VERDICT, *flags]) == code
    err = capsys.readouterr().err
    assert all(word in err for word in words) and err.count("\n") == (code > 0)


def test_a_missing_record_is_rejected_before_anything_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--metrics", "eval/none.json"]) == 2
    err = capsys.readouterr().err
    assert "eval/none.json: accuracy was not evaluated" in err and "make eval" in err and "make serve GATE=none" in err
