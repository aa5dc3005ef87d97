"""make/ray_nodes.py without Ray: what runs on a node, and which clusters are rejected."""

from __future__ import annotations

import io
import os
import socket
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from hrnet.cli import UserError
from hrnet.io.files import locked
from make import ray_nodes
from tests.support import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unpacked bundle with what make.attached needs."""
    (tmp_path / "Makefile").write_text("MODEL  ?= a# b\nall: ; @echo made\n")
    for package in ("hrnet", "make"):
        (tmp_path / package).symlink_to(ROOT / package)
    return tmp_path


def archive(text: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, mode, kind in (("top", 0o750, tarfile.DIRTYPE), ("top/a", 0o640, tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.mode, info.type, info.size = mode, kind, len(text) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(text))
    return file.getvalue()


def test_a_bundle_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    place = Path(ray_nodes.unpack(archive(b"1"), "net-12"))
    assert place == tmp_path / f"hrnet_cluster-{os.getuid()}/net-12" and (place / "a").read_bytes() == b"1"
    assert place.parent.stat().st_mode & 0o777 == 0o700 and place.stat().st_mode & 0o777 == 0o750
    (place / "own").touch()
    assert Path(ray_nodes.unpack(archive(b"2"), "net-12")) == place
    assert (place / "own").exists() and (place / "a").read_bytes() == b"1"
    ray_nodes.leave(str(place))
    assert list(place.parent.iterdir()) == []


def test_a_partly_unpacked_bundle_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    half = tmp_path / f"hrnet_cluster-{os.getuid()}/net-12.tmp/top"
    half.mkdir(parents=True)
    (half / "half").touch()
    place = Path(ray_nodes.unpack(archive(b"1"), "net-12"))
    assert [path.name for path in place.iterdir()] == ["a"] and not half.parent.exists()


def test_a_directory_of_another_user_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"hrnet_cluster-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="hrnet_cluster"):
        ray_nodes.unpack(archive(b"1"), "net-12")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_of_a_part_are_returned_and_removed(folder: Path) -> None:
    (folder / "build/parts").mkdir(parents=True)
    (folder / "build/parts/1-of-2_lock").touch()
    (folder / "build/parts/1-of-22.json").write_text("another part")
    script = "import pathlib; pathlib.Path('build/parts/1-of-2.json').write_text('x'); print('written')"
    outcome = ray_nodes.execute(str(folder), ["{python}", "-c", script], "build/*/1-of-2.*")
    assert (outcome.code, outcome.output, outcome.files) == (0, "written\n", {"1-of-2.json": b"x"})
    assert sorted(path.name for path in (folder / "build/parts").iterdir()) == ["1-of-22.json", "1-of-2_lock"]


def test_a_failed_command_returns_its_last_lines(folder: Path) -> None:
    script = "import sys; [print(i) for i in range(100)]; print('why', file=sys.stderr); sys.exit(3)"
    outcome = ray_nodes.execute(str(folder), ["{python}", "-u", "-c", script], "")
    assert outcome.code == 3 and outcome.files == {}
    assert outcome.output.splitlines() == [*map(str, range(100 - ray_nodes.OUTPUT_LINES + 1, 100)), "why"]


def test_settings_of_the_calling_make_are_not_inherited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster on this machine has the environment of make cluster. The variables of make in it must not reach the
    commands."""
    inherited = {"MODEL": "x", "MAKEFLAGS": "n", "OTHER": "o", "ASCEND_RT_VISIBLE_DEVICES": ""}
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    script = f"import os; print(*(name for name in {list(inherited)} if name in os.environ))"
    assert ray_nodes.execute(str(folder), ["{python}", "-c", script], "").output == "OTHER\n"
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3")
    assert ray_nodes.execute(str(folder), ["{python}", "-c", script], "").output == "OTHER ASCEND_RT_VISIBLE_DEVICES\n"
    assert ray_nodes.execute(str(folder), ["make", "all"], "").output == "made\n"


def test_the_processes_of_a_killed_attempt_are_waited_for(folder: Path) -> None:
    (folder / "build").mkdir()
    lock = folder / "build/1-of-2_lock"
    freed: list[float] = []

    def hold() -> None:
        with locked(lock):
            held.set()
            time.sleep(0.3)
            freed.append(time.time())

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    outcome = ray_nodes.execute(str(folder), ["{python}", "-c", "import time; print(time.time())"], "build/1-of-2.*")
    thread.join()
    assert float(outcome.output) >= freed[0]


def test_commands_after_a_failed_command_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(ray_nodes, "unpack", lambda archive, name: str(folder))
    commands = [["{python}", "-c", f"print({number}); raise SystemExit({number})"] for number in (0, 2, 0)]
    outcome = ray_nodes.enter(b"", "net", commands)
    assert (outcome.code, outcome.output, outcome.folder) == (2, "2\n", str(folder))


def test_a_missing_package_ray_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as caught:
        ray_nodes.connect("")
    assert caught.value.where == sys.executable and "pip install" in str(caught.value.hint)


def test_addresses_of_the_ray_client_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "import_ray", lambda: None)
    with pytest.raises(UserError) as caught:
        ray_nodes.connect("ray://head:10001")
    assert "ray://head:10001" in str(caught.value.where) and "RAY_ADDRESS=auto" in str(caught.value.hint)


def test_a_head_that_does_not_answer_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "import_ray", lambda: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*free.getsockname())
        with pytest.raises(UserError) as caught:
            ray_nodes.connect(address)
    assert address in str(caught.value.where) and "refused" in str(caught.value.found)
    assert "ray start" in str(caught.value.hint)
