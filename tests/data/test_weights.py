"""data/weights.py with a real server on 127.0.0.1: resume, checks, redirects and errors."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import http_download, weights
from hrnet.cli import UserError
from hrnet.io.files import locked
from tests.support import ROOT
from tests.support.http_server import DATA, Server

HALF = 400_000
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def download(url: str, md5: str = "") -> int:
    Path("m.yaml").write_text(f"WEIGHTS: {{URL: '{url}', MD5: '{md5}'}}\n")
    return weights.main(["--cfg", "m.yaml", "--output", "w/m.pth"])


def files() -> list[str]:
    return sorted(path.name for path in Path("w").iterdir()) if Path("w").exists() else []


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    line = capsys.readouterr().err
    assert line.startswith("data.weights: error: ") and line.count("\n") == 1
    return line


def is_whole() -> bool:
    """Whether the file is complete, without a part beside it."""
    return Path("w/m.pth").read_bytes() == DATA and files() == ["m.pth"]


@pytest.fixture
def interrupted(server: Server, capsys: pytest.CaptureFixture[str]) -> Server:
    """The server after it closed the connection in the middle of a download."""
    server.cut = HALF
    assert download(f"{server.url}/file.pth", MD5) == 2
    line = error(capsys)
    assert f"{server.url}/file.pth: " in line and "(expected 700001 bytes, found 400000 bytes); run the same" in line
    assert files() == ["m.pth.part", "m.pth.part.json"]
    assert Path("w/m.pth.part").read_bytes() == DATA[:HALF]
    server.cut = None
    server.asked.clear()
    return server


def test_a_complete_file_gets_mode_0640_and_its_directory_0750(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(f"{server.url}/file.pth", MD5.upper()) == 0
    assert is_whole()
    assert stat.S_IMODE(os.stat("w/m.pth").st_mode) == 0o640 and stat.S_IMODE(os.stat("w").st_mode) == 0o750
    line = capsys.readouterr().out
    assert re.fullmatch(r"wrote w/m\.pth \(0\.7 MB, [0-9.]+ MB/s, MD5 as published\)\n", line)
    assert download(f"{server.url}/file.pth", MD5) == 0
    assert capsys.readouterr().out == "w/m.pth exists, MD5 as published\n"
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("ranges", "asked", "printed"),
    [
        (True, [f"bytes={HALF}-"], "resuming after 400000 bytes"),
        (False, [f"bytes={HALF}-", None], "the server does not resume, starting again"),
    ],
)
def test_an_interrupted_download_is_resumed_where_the_server_can(
    ranges: bool, asked: list[str | None], printed: str, interrupted: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{interrupted.url}/file.pth"
    assert http_download.PartRecord.read("w/m.pth.part") == http_download.PartRecord(url, len(DATA), '"v1"', None, None)
    interrupted.ranges = ranges
    assert download(url, MD5) == 0
    assert interrupted.asked == asked and is_whole()
    assert f"w/m.pth.part: {printed}\n" in capsys.readouterr().out


@pytest.mark.parametrize("size", [HALF - 1, HALF, HALF + 50_000, len(DATA)])
def test_a_changed_file_is_downloaded_again(interrupted: Server, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not longer than the part (status 416), or has another ETag or another size."""
    interrupted.data = b"\xff" * size
    if size == len(DATA):
        interrupted.etag = '"v2"'
    assert download(f"{interrupted.url}/file.pth") == 0
    assert interrupted.asked == [f"bytes={HALF}-", None]
    assert "w/m.pth.part: the file has changed, starting again\n" in capsys.readouterr().out
    assert Path("w/m.pth").read_bytes() == interrupted.data and files() == ["m.pth"]


@pytest.mark.parametrize("record", ["", "{}", None])
def test_a_part_without_a_valid_record_is_downloaded_again(server: Server, record: str | None) -> None:
    Path("w").mkdir()
    Path("w/m.pth.part").write_bytes(b"x" * HALF)
    if record is not None:
        Path("w/m.pth.part.json").write_text(record)
    assert download(f"{server.url}/file.pth", MD5) == 0
    assert server.asked == [None] and is_whole()


def test_a_part_of_another_url_is_downloaded_again(interrupted: Server) -> None:
    assert download(f"{interrupted.url}/moved", MD5) == 0
    assert interrupted.asked == [None, None] and is_whole()


def test_a_complete_part_is_checked_without_a_request(interrupted: Server) -> None:
    Path("w/m.pth.part").write_bytes(DATA)
    assert download(f"{interrupted.url}/file.pth", MD5) == 0
    assert interrupted.asked == [] and is_whole()


def test_redirects_keep_the_range(server: Server) -> None:
    server.cut = HALF
    assert download(f"{server.url}/moved", MD5) == 2
    server.cut = None
    assert download(f"{server.url}/moved", MD5) == 0
    assert server.asked == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert Path("w/m.pth").read_bytes() == DATA


def test_hugging_face_sends_a_hash(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.linked = "0" * 64
    assert download(f"{server.url}/hub") == 2
    found = hashlib.sha256(DATA).hexdigest()
    assert f"/hub: SHA-256 mismatch with the server's (expected {'0' * 64}, found {found})" in error(capsys)
    assert files() == []
    server.linked, server.cut = found, HALF
    assert download(f"{server.url}/hub") == 2
    assert http_download.PartRecord.read("w/m.pth.part").sha256 == found
    server.cut = None
    capsys.readouterr()
    assert download(f"{server.url}/hub") == 0
    out = capsys.readouterr().out
    assert "resuming after 400000 bytes" in out and "SHA-256 as published" in out and is_whole()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_of_hugging_face(
    server: Server, slash: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url + slash)
    assert download("https://huggingface.co/file.pth", MD5) == 0 and is_whole()
    assert http_download.at_mirror("https://huggingface.co.example/x") == "https://huggingface.co.example/x"
    Path("w/m.pth").unlink()
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    assert download("https://huggingface.co/file.pth", MD5) == 2
    line = error(capsys)
    assert "HF_ENDPOINT: " in line and "(expected an http or https URL, found hf-mirror.com)" in line


def test_weights_of_paddle_are_a_checkpoint(server: Server) -> None:
    server.data = b"\x80\x02}q\x00X\x1b\x00\x00\x00StructuredToParameterName@@q\x01}s."
    assert download(f"{server.url}/file.pth") == 0 and Path("w/m.pth").read_bytes() == server.data


def test_another_hash_removes_the_file(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    other = "0123456789abcdef" * 2
    assert download(f"{server.url}/file.pth", other) == 2
    assert f"{server.url}/file.pth: MD5 mismatch with the config (expected {other}, found {MD5})" in error(capsys)
    assert files() == []


def test_the_hash_is_printed_if_none_is_published(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(f"{server.url}/file.pth") == 0
    assert f" MB/s, MD5 {MD5}; " in capsys.readouterr().out
    assert download(f"{server.url}/file.pth") == 0
    assert "w/m.pth exists, not checked" in capsys.readouterr().out


def test_a_users_checkpoint_is_not_overwritten(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    Path("w/m.pth").write_bytes(b"mine")
    assert download(f"{server.url}/file.pth", MD5) == 2
    mine = hashlib.md5(b"mine").hexdigest()
    line = error(capsys)
    assert f"w/m.pth: MD5 mismatch with the published file (expected {MD5}, found {mine})" in line
    assert line.endswith(": mv w/m.pth w/m.pth.old\n")
    assert Path("w/m.pth").read_bytes() == b"mine" and server.asked == []


def test_a_server_may_send_no_size(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.sized = False
    assert download(f"{server.url}/file.pth", MD5) == 0
    assert Path("w/m.pth").read_bytes() == DATA
    server.data = b""
    Path("w/m.pth").unlink()
    assert download(f"{server.url}/file.pth", MD5) == 2
    assert "(expected some bytes, found 0 bytes)" in error(capsys)
    assert files() == []


@pytest.mark.parametrize(
    "path, found",
    [("/gone", "404 Not Found"), ("/loop", "302 The HTTP server returned"), ("/ftp", "ftp://127.0.0.1/file.pth")],
)
def test_errors_of_the_server_are_reported_in_one_line(
    server: Server, path: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(f"{server.url}{path}", MD5) == 2
    line = error(capsys)
    assert f"{server.url}{path}: " in line and f"found {found}" in line
    assert files() == []


@pytest.mark.parametrize("status, kind", [(200, "text/html"), (204, "application/octet-stream")])
def test_an_answer_that_is_not_a_file_is_rejected(
    server: Server, status: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status, server.kind = status, kind
    assert download(f"{server.url}/file.pth") == 2
    assert f"{server.url}/file.pth: not a file (found status {status}, {kind}); " in error(capsys)
    assert files() == []


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 85000000\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [(LFS, "a Git LFS pointer"), (b"<html>Sign in</html>", "an HTML page"), (bytes(9000), "zeros")],
)
def test_a_file_that_is_not_a_checkpoint_is_rejected(
    server: Server, content: bytes, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its Content-Type does not matter."""
    server.data = content
    assert download(f"{server.url}/file.pth") == 2
    line = error(capsys)
    assert f"{server.url}/file.pth: not a checkpoint" in line and found in line and files() == []
    Path("w/m.pth").write_bytes(content)
    assert download(f"{server.url}/file.pth") == 2
    line = error(capsys)
    assert "w/m.pth: not a checkpoint" in line and "mv w/m.pth w/m.pth.old" in line


def test_an_unknown_host_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert download("http://nowhere.invalid/x.pth") == 2
    assert "http://nowhere.invalid/x.pth: cannot be reached: Name or service not known; check the" in error(capsys)
    assert download("https://huggingface.co/x.pth") == 2
    assert "; check the network, give HF_ENDPOINT=<URL of a mirror>, or download it by hand to w/m.pth" in error(capsys)
    assert files() == []


def test_a_port_without_a_server_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound, so that nobody else uses it, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.pth"
        assert download(url) == 2
    assert f"{url}: cannot be reached: Connection refused; check the network, or " in error(capsys)


def test_a_silent_server_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http_download, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.pth"
        assert download(url) == 2
    assert f"{url}: the server did not respond: timed out; run the same command again" in error(capsys)
    assert files() == []


def test_a_stalled_download_keeps_its_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(http_download, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        url = f"http://127.0.0.1:{stalled.getsockname()[1]}/x.pth"
        ended = threading.Event()

        def answer() -> None:
            connection, _ = stalled.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(http_download.BLOCK))
                ended.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        assert download(url) == 2
        ended.set()
        thread.join()
    assert f"{url}: the connection failed: timed out (found {http_download.BLOCK} bytes); run the same" in error(capsys)
    assert files() == ["m.pth.part", "m.pth.part.json"]


@pytest.mark.parametrize(
    "url", ["ftp://x/y.pth", "file:///etc/passwd", "weights.pth", "http://", "http://x y/z", "http://x:port/z", "//x/y"]
)
def test_invalid_urls_are_rejected(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(url) == 2
    line = error(capsys)
    assert "m.yaml: WEIGHTS.URL: " in line and f"(expected an http or https URL, found {url})" in line


@pytest.mark.parametrize(
    ("cfg", "upstream"),
    [("demo_digits", "HRNet-Image-Classification"), ("demo_pose", "HigherHRNet-Human-Pose-Estimation")],
)
def test_a_config_without_url_is_rejected(cfg: str, upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["--cfg", f"{ROOT}/configs/{cfg}.yaml", "--output", "w/m.pth"]) == 2
    line = error(capsys)
    assert f"{cfg}.yaml: no WEIGHTS.URL; " in line and f"https://github.com/HRNet/{upstream})" in line
    assert line.endswith(" copy it to w/m.pth\n")


def test_an_existing_checkpoint_needs_no_url(capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    Path("w/m.pth").write_bytes(DATA)
    assert download("") == 0
    assert capsys.readouterr().out == "w/m.pth exists, not checked: the config has no MD5\n"
    Path("w/m.pth").write_text("<!doctype html><html></html>")
    assert download("") == 2
    assert "w/m.pth: not a checkpoint" in error(capsys)


def test_a_missing_checkpoint_is_reported_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)

    def hint(cfg: str) -> str:
        assert weights.main(["--cfg", cfg, "--missing", str(tmp_path / "m.pth")]) == 2
        line = error(capsys)
        assert f"{tmp_path / 'm.pth'}: no such checkpoint; " in line
        return line

    url = weights.load_config(weights.CONFIGS / "hrnet_w18.yaml").WEIGHTS.URL
    assert f"make weights MODEL=hrnet_w18 downloads it from {url}\n" in hint("hrnet_w18")
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com")
    assert "downloads it from https://hf-mirror.com/timm/hrnet_w30.ms_in1k/" in hint("hrnet_w30")
    assert "make weights" not in (line := hint("demo_pose")) and "WEIGHTS=" in line
    (tmp_path / "mine.yaml").write_text("WEIGHTS: {URL: 'http://x/y'}\n")
    assert f"make weights CFG={tmp_path}/mine.yaml downloads it from http://x/y\n" in hint(f"{tmp_path}/mine.yaml")
    (tmp_path / "m.pth").touch()
    assert weights.main(["--cfg", "hrnet_w18", "--missing", str(tmp_path / "m.pth")]) == 0


def test_too_little_disk_is_reported_before_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    server.data = bytes(60_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 10_000_000))
    assert download(f"{server.url}/file.pth") == 2
    line = error(capsys)
    assert "w: " in line and "(expected 60.0 MB, found 10.0 MB); give WEIGHTS=<file on a larger disk>" in line
    assert files() == []


def test_a_disk_that_fills_up_is_reported_in_one_line_and_leaves_no_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    real = open
    monkeypatch.setattr(
        "builtins.open", lambda name, *more, **kw: real("/dev/full" if more == ("ab",) else name, *more, **kw)
    )
    assert download(f"{server.url}/file.pth") == 2
    assert "w/m.pth.part: No space left on device" in error(capsys)
    assert files() == []


def test_two_runs_exclude_each_other(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    with locked("w/m.pth.part"):
        assert download(f"{server.url}/file.pth", MD5) == 2
    assert "w/m.pth.part: " in error(capsys)
    assert server.asked == []


def test_urls_of_the_published_configs() -> None:
    for path in sorted(ROOT.glob("configs/*.yaml")):
        url = weights.load_config(path).WEIGHTS.URL
        if not path.stem.startswith("demo_"):  # the weights of demo_* are in the repository: no URL
            http_download.check_url(url, path)
    with pytest.raises(UserError):
        http_download.check_url("gopher://x", "y")
