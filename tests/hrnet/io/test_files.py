"""hrnet/io/files.py: modes, files that appear only when complete, order, locks, free disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.io import files, tensors
from tests.support import ROOT


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_ais_bench_accepts_the_modes(tmp_path: Path) -> None:
    folder = files.make_folder(tmp_path / "a" / "b")
    files.write_text(folder / "x.txt", "ä\n")
    tensors.write_bin(folder / "x.bin", np.zeros(2, np.float32))
    tensors.write_output(folder / "x.npy", np.zeros(2, np.float32))
    assert folder == tmp_path / "a" / "b"
    assert [mode(path) for path in (tmp_path / "a", folder)] == [0o750, 0o750]
    assert {path.name: mode(path) for path in folder.iterdir()} == {"x.txt": 0o640, "x.bin": 0o640, "x.npy": 0o640}
    assert (folder / "x.txt").read_bytes() == b"\xc3\xa4\n"


def test_an_existing_folder_keeps_its_mode_and_content(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "x").touch()
    assert files.make_folder(str(tmp_path)) == tmp_path
    assert mode(tmp_path) == 0o755
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("below", ["", "b/c"])
def test_a_file_in_place_of_a_folder_is_rejected(below: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with pytest.raises(
        UserError, match=f"^{path}: not a directory; move the file out of the way: mv {path} {path}.old$"
    ):
        files.make_folder(path / below)


def test_replacing_shows_the_file_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert (path.read_text(), temporary.parent) == ("old", tmp_path)
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt()])
def test_replacing_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(type(error)), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_replacing_overwrites_files_of_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.temporary_name(path).write_text("half of a longer text")
    files.write_text(path, "whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["x"]


def test_two_writers_of_one_file_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with files.replacing(path) as temporary:
        temporary.write_text("first")
        with pytest.raises(UserError, match=f"^{path}: another run is writing it .found process {os.getpid()}.; wait"):
            files.write_text(path, "second")
        assert temporary.read_text() == "first", "the rejected run changes nothing"
    assert path.read_text() == "first"
    files.write_text(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["x"]


def test_a_lock_taken_while_its_file_is_renamed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After this run opens the temporary file and before it locks it, another run may finish and rename that file. Then
    this run would lock the finished file, so it opens and locks a new one."""
    path = tmp_path / "x"
    hold, moments = fcntl.flock, iter([lambda: os.replace(files.temporary_name(path), path)])

    def flock(descriptor: int, how: int) -> None:
        next(moments, lambda: None)()
        hold(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.replacing(path) as temporary:
        assert path.read_bytes() == b"" and temporary.exists()
        temporary.write_text("mine")
        assert path.read_bytes() == b"", "the other's file is not written to"
    assert path.read_text() == "mine"


def test_a_disk_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    line = "cannot lock files on this disk: No locks available; give BUILD=<directory on another disk>"
    with pytest.raises(UserError, match=f"^{tmp_path / '.x.tmp'}: {line}$"):
        files.write_text(tmp_path / "x", "")


def test_a_folder_never_has_too_many_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the run is killed before it sets the mode."""
    before = os.umask(0)
    try:
        monkeypatch.setattr(Path, "chmod", lambda path, mode: None)
        assert mode(files.make_folder(tmp_path / "a")) == 0o750
    finally:
        os.umask(before)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    path = tmp_path / "deep/result"
    for old, new in ((None, "a"), ("a", "b")):
        with files.replacing_folder(path) as temporary:
            (temporary / new).write_text(new)
            assert [each.name for each in path.iterdir()] == [old] if old else not path.exists()
            with pytest.raises(UserError, match="locked by another run"), files.replacing_folder(path):
                pass
        assert [each.name for each in path.iterdir()] == [new] and mode(path) == 0o750
    with pytest.raises(KeyboardInterrupt), files.replacing_folder(path) as temporary:
        (temporary / "c").write_text("c")
        raise KeyboardInterrupt
    assert [each.name for each in path.iterdir()] == ["b"]
    assert sorted(each.name for each in path.parent.iterdir()) == ["result", "result_lock"]


REPLACE = """
import sys
from hrnet.io.files import replacing_folder
for number in range(10**6):
    with replacing_folder(sys.argv[1]) as folder:
        for name in "ab":
            (folder / name).write_text(str(number))
"""


def test_a_folder_is_whole_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "result"
    for wait in (0.0, 0.031, 0.077):
        started = subprocess.Popen([sys.executable, "-c", REPLACE, str(path)], cwd=ROOT)
        before = path.stat().st_ino if path.exists() else 0
        deadline = time.monotonic() + 20
        while not path.exists() or path.stat().st_ino == before:
            assert started.poll() is None and time.monotonic() < deadline
        time.sleep(wait)
        started.kill()
        started.wait()
        assert (path / "a").read_text() == (path / "b").read_text() and len(list(path.iterdir())) == 2


def test_a_folder_of_a_killed_run_is_restored(tmp_path: Path) -> None:
    """It was killed between its two renames, on a disk that cannot exchange folders."""
    (tmp_path / ".result.old").mkdir()
    (tmp_path / ".result.old/a").touch()
    (tmp_path / ".result.tmp").mkdir()
    (tmp_path / ".result.tmp/half").touch()
    with pytest.raises(ZeroDivisionError), files.replacing_folder(tmp_path / "result") as temporary:
        assert not list(temporary.iterdir())
        raise ZeroDivisionError
    assert [each.name for each in (tmp_path / "result").iterdir()] == ["a"]


def test_replacing_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x"
    with pytest.raises(FileNotFoundError) as caught:
        files.write_text(path, "")
    assert (caught.value.filename, caught.value.strerror) == (str(path), "No such file or directory")


FULL_DISK = """
import sys
import numpy as np
from hrnet import cli
from hrnet.io import tensors

@cli.command
def main(argv=None):
    tensors.write_output(sys.argv[1], np.zeros((1, 50000), np.float32))

sys.exit(main())
"""


@pytest.mark.parametrize("ending", ["bin", "npy", "txt"])
def test_a_disk_that_becomes_full_during_a_write_is_reported_in_one_line(ending: str, tmp_path: Path) -> None:
    """A limit on the size of files instead of a full disk: the write fails after its first part."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    path = tmp_path / f"x.{ending}"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], cwd=ROOT, preexec_fn=limit, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"-c: error: {path}: File too large\n")
    assert os.listdir(tmp_path) == []


def test_sha256_covers_all_blocks_of_a_file(tmp_path: Path) -> None:
    data = b"0123456789abcdef" * 100_000  # 1.6 MB
    (tmp_path / "x").write_bytes(data)
    assert files.sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    (tmp_path / "empty").touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files.sha256_file(tmp_path / "empty") == empty


def test_file_names_are_sorted_in_natural_order() -> None:
    names = ["img10.bin", "img2.bin", "img1.bin", "10.bin", "9.bin", "a.bin", "img2_b.bin", "img01.bin", "²1", "٣"]
    expected = ["9.bin", "10.bin", "a.bin", "img01.bin", "img1.bin", "img2.bin", "img2_b.bin", "img10.bin", "²1", "٣"]
    assert sorted(names, key=files.natural_key) == expected


@given(st.lists(st.text(st.sampled_from("a1023²_/\x01\udce9")), unique=True, max_size=8))
def test_natural_order_compares_texts_and_numbers_in_turn(names: list[str]) -> None:
    def parts(name: str) -> tuple[list[Union[int, str]], str]:
        return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))], name

    ordered = sorted(names, key=parts)
    assert sorted(names, key=files.natural_key) == sorted(sorted(names), key=files.natural_key) == ordered


def test_too_little_disk_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def disk_usage(path: Path) -> tuple[int, int, int]:
        asked.append(path)
        return namedtuple("usage", "total used free")(10**12, 9 * 10**11, 12_340_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder = tmp_path / "not" / "there yet"
    files.check_free_disk(folder, 12_340_000_000)
    with pytest.raises(UserError) as caught:
        files.check_free_disk(folder, 30_100_000_000)
    facts = "too little free disk space (expected 30.1 GB, found 12.3 GB); give BUILD=<directory on a larger disk>"
    assert str(caught.value) == f"{folder}: {facts}"
    with pytest.raises(UserError, match=r"expected 2\.5 MB, found 100\.0 kB"):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(0, 0, 100_000))
        files.check_free_disk(folder, 2_500_000)
    assert asked == [tmp_path, tmp_path]


def test_a_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(2):
        with files.locked(path) as descriptor:
            assert os.fstat(descriptor).st_ino == path.stat().st_ino
            line = f"^{path}: locked by another run.* .found process {os.getpid()}.; wait until"
            with pytest.raises(UserError, match=line), files.locked(path):
                pass
    with pytest.raises(ValueError, match="ours"), files.locked(path):
        raise ValueError("ours")
    with files.locked(path):
        pass


def test_locks_below_a_directory_are_found(tmp_path: Path) -> None:
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/other_lock").touch()
    (tmp_path / "out/.gone_lock").symlink_to("nowhere")
    assert files.find_locked(tmp_path) is files.find_locked(tmp_path / "nowhere") is None
    with files.locked(tmp_path / "out/deep/x_lock"):
        found = files.find_locked(tmp_path)
        assert found == (str(tmp_path / "out/deep/x_lock"), f"process {os.getpid()}")
    assert files.find_locked(tmp_path) is None
    with files.replacing(tmp_path / "out/model.onnx"):
        found = files.find_locked(tmp_path)
        assert found and found[0] == str(tmp_path / "out/.model.onnx.tmp")


def test_a_tool_that_inherits_a_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with files.locked(path) as descriptor:
        tool = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    with pytest.raises(UserError), files.locked(path):
        pass
    tool.communicate(b"\n", timeout=10)
    with files.locked(path):
        pass


def test_paths_in_lists_are_normalised_or_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in ("", ".", tmp_path, "link", "no/such/../.."):
        for name in ("a/b", "./a/b", "a//b", "c/../a/b", "a\\b", f"{tmp_path}/a/b", f"{tmp_path}/./a/c/../b"):
            assert files.relative_path(folder, name) == "a/b"
    assert files.relative_path("", "..a") == "..a"
    for name in (
        "..",
        "../a",
        "a/../../a",
        "/",
        "/a",
        f"{tmp_path}",
        f"{tmp_path}x/a",
        "",
        ".",
        "a/..",
        "a\0",
        "\ud800",
    ):
        with pytest.raises(ValueError):
            files.relative_path("", name)


def test_a_disk_without_modes_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On vfat all files have the mode of the mount, and ais_bench would reject such directories."""
    chmod = Path.chmod
    monkeypatch.setattr(Path, "chmod", lambda path, mode: chmod(path, 0o755))
    with pytest.raises(UserError) as caught:
        files.make_folder(tmp_path / "build")
    assert (caught.value.where, caught.value.found) == (tmp_path / "build", "0755")
    assert "BUILD=" in str(caught.value.hint)
