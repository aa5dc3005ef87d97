"""data/weights.py against a real server on 127.0.0.1: resume, checks, redirects, and one line for each fault."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data import weights
from hrnet.cli import UserError
from hrnet.io.files import locked
from hrnet.io.runs import PartRecord

DATA = np.random.default_rng(0).bytes(700_001)  # several blocks and a bit
HALF = 400_000
MD5 = hashlib.md5(DATA).hexdigest()
ZOO = "https://github.com/HRNet/HRNet-Image-Classification"


class Server(ThreadingHTTPServer):
    """What it serves, how it behaves, and which Range each call asked for."""

    data = DATA
    etag: str | None = '"v1"'
    ranges = True
    cut: int | None = None  # bytes of a body after which the connection ends
    sized = True
    kind = "application/octet-stream"
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """Of a client that hung up: not on the screen that a test reads."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wished = self.server, self.headers["Range"]
        server.asked.append(wished)
        if self.path == "/moved":
            return self.redirect("/file.pth")
        if self.path == "/loop":
            return self.redirect("/loop")
        if self.path == "/ftp":
            return self.redirect("ftp://127.0.0.1/file.pth")
        if self.path != "/file.pth":
            return self.send_error(404)
        start = int(re.fullmatch("bytes=([0-9]+)-", wished)[1]) if wished and server.ranges else 0
        if start and start >= len(server.data):
            return self.send_error(416)
        body = server.data[start:]
        self.send_response(206 if start else server.status)
        self.send_header("Content-Type", server.kind)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        if server.sized:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that wants no more of it hangs up
            self.wfile.write(body[: server.cut])
        return None

    def redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(url: str, md5: str = "") -> int:
    Path("m.yaml").write_text(f"WEIGHTS: {{URL: '{url}', MD5: '{md5}'}}\n")
    return weights.main(["--cfg", "m.yaml", "--output", "w/m.pth"])


def there() -> list[str]:
    return sorted(path.name for path in Path("w").iterdir()) if Path("w").exists() else []


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    line = capsys.readouterr().err
    assert line.startswith("data.weights: error: ") and line.count("\n") == 1
    return line[len("data.weights: error: ") : -1]


def cut_in_the_middle(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.cut = HALF
    assert load(f"{server.url}/file.pth", MD5) == 2
    assert told(capsys) == (
        f"{server.url}/file.pth: the connection ended early (expected 700001 bytes, found 400000 bytes); run the same "
        "command again to resume"
    )
    assert there() == ["m.pth.part", "m.pth.part.json"]
    assert Path("w/m.pth.part").read_bytes() == DATA[:HALF]
    server.cut = None
    server.asked.clear()


@pytest.mark.usefixtures("folder")
def test_a_whole_file_with_its_modes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(f"{server.url}/file.pth", MD5.upper()) == 0
    assert Path("w/m.pth").read_bytes() == DATA
    assert there() == ["m.pth"]
    assert stat.S_IMODE(os.stat("w/m.pth").st_mode) == 0o640 and stat.S_IMODE(os.stat("w").st_mode) == 0o750
    line = capsys.readouterr().out
    assert re.fullmatch(r"wrote w/m\.pth \(0\.7 MB, [0-9.]+ MB/s, MD5 as published\)\n", line)
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert capsys.readouterr().out == "w/m.pth is there already, MD5 as published\n"
    assert server.asked == [None]


@pytest.mark.usefixtures("folder")
def test_a_cut_download_goes_on(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cut_in_the_middle(server, capsys)
    assert PartRecord.read("w/m.pth.part") == PartRecord(f"{server.url}/file.pth", len(DATA), '"v1"', None)
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert server.asked == [f"bytes={HALF}-"]
    assert "w/m.pth.part: going on after 400000 bytes\n" in capsys.readouterr().out
    assert Path("w/m.pth").read_bytes() == DATA and there() == ["m.pth"]


@pytest.mark.usefixtures("folder")
def test_a_server_that_does_not_resume(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cut_in_the_middle(server, capsys)
    server.ranges = False
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert server.asked == [f"bytes={HALF}-", None]
    assert "w/m.pth.part: the server does not resume, starting afresh\n" in capsys.readouterr().out
    assert Path("w/m.pth").read_bytes() == DATA and there() == ["m.pth"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("size", [HALF - 1, HALF, HALF + 50_000, len(DATA)])
def test_a_changed_file_is_never_mixed(server: Server, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Shorter than the part (416), or another one by its ETag or its size alone."""
    cut_in_the_middle(server, capsys)
    server.data = bytes(size)
    if size == len(DATA):
        server.etag = '"v2"'
    assert load(f"{server.url}/file.pth") == 0
    assert server.asked == [f"bytes={HALF}-", None]
    assert "w/m.pth.part: the file has changed, starting afresh\n" in capsys.readouterr().out
    assert Path("w/m.pth").read_bytes() == server.data and there() == ["m.pth"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("record", ["", "{}", None])
def test_a_part_that_nothing_is_known_of(server: Server, record: str | None) -> None:
    Path("w").mkdir()
    Path("w/m.pth.part").write_bytes(b"x" * HALF)
    if record is not None:
        Path("w/m.pth.part.json").write_text(record)
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert server.asked == [None]
    assert Path("w/m.pth").read_bytes() == DATA and there() == ["m.pth"]


@pytest.mark.usefixtures("folder")
def test_a_part_of_another_url(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cut_in_the_middle(server, capsys)
    assert load(f"{server.url}/moved", MD5) == 0
    assert server.asked == [None, None]
    assert Path("w/m.pth").read_bytes() == DATA


@pytest.mark.usefixtures("folder")
def test_all_bytes_there_is_checked_without_a_call(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cut_in_the_middle(server, capsys)
    Path("w/m.pth.part").write_bytes(DATA)
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert server.asked == [] and there() == ["m.pth"]


@pytest.mark.usefixtures("folder")
def test_redirects_keep_the_range(server: Server) -> None:
    server.cut = HALF
    assert load(f"{server.url}/moved", MD5) == 2
    server.cut = None
    assert load(f"{server.url}/moved", MD5) == 0
    assert server.asked == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert Path("w/m.pth").read_bytes() == DATA


@pytest.mark.usefixtures("folder")
def test_another_hash_is_no_checkpoint(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    other = "0123456789abcdef" * 2
    assert load(f"{server.url}/file.pth", other) == 2
    assert told(capsys) == (
        f"{server.url}/file.pth: has another MD5 than the config (expected {other}, found {MD5}); it was removed; "
        "load it again, or ask its publisher"
    )
    assert there() == []


@pytest.mark.usefixtures("folder")
def test_without_a_published_hash_ours_is_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(f"{server.url}/file.pth") == 0
    assert capsys.readouterr().out.endswith(f" MB/s, MD5 {MD5}, which the config does not know)\n")
    assert load(f"{server.url}/file.pth") == 0
    assert capsys.readouterr().out == "w/m.pth is there already, unchecked: the config knows no MD5\n"


@pytest.mark.usefixtures("folder")
def test_a_checkpoint_of_ones_own_is_not_overwritten(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    Path("w/m.pth").write_bytes(b"mine")
    assert load(f"{server.url}/file.pth", MD5) == 2
    mine = hashlib.md5(b"mine").hexdigest()
    assert told(capsys) == (
        f"w/m.pth: is another file than the published one (expected {MD5}, found {mine}); to load it, move this one "
        "away: mv w/m.pth w/m.pth.old"
    )
    assert Path("w/m.pth").read_bytes() == b"mine" and server.asked == []


@pytest.mark.usefixtures("folder")
def test_no_size_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.sized = False
    assert load(f"{server.url}/file.pth", MD5) == 0
    assert Path("w/m.pth").read_bytes() == DATA
    server.data = b""
    Path("w/m.pth").unlink()
    assert load(f"{server.url}/file.pth", MD5) == 2
    assert told(capsys) == (
        f"{server.url}/file.pth: the connection ended early (expected some bytes, found 0 bytes); run the same command "
        "again to resume"
    )
    assert there() == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "path, line",
    [
        ("/gone", "{url}/gone: the server refused (found 404 Not Found); load it by hand and put it to w/m.pth"),
        ("/loop", "{url}/loop: the server refused (found 302 The HTTP server returned a redirect error that would"),
        ("/ftp", "{url}/ftp: cannot load from there (expected an http or https URL, found ftp://127.0.0.1/file.pth)"),
    ],
)
def test_refusals(server: Server, path: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(f"{server.url}{path}", MD5) == 2
    assert told(capsys).startswith(line.format(url=server.url))
    assert there() == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("status, kind", [(200, "text/html"), (204, "application/octet-stream")])
def test_a_page_is_no_checkpoint(server: Server, status: int, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    server.status, server.kind = status, kind
    assert load(f"{server.url}/file.pth") == 2
    assert told(capsys) == (
        f"{server.url}/file.pth: is no file (found {status}, {kind}); open it and load it by hand and put it to w/m.pth"
    )
    assert there() == []


@pytest.mark.usefixtures("folder", "server")
def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert load("http://nowhere.invalid/x.pth") == 2
    assert told(capsys) == (
        "http://nowhere.invalid/x.pth: cannot be reached: Name or service not known; check the network, or load it by "
        "hand and put it to w/m.pth"
    )
    assert there() == []


@pytest.mark.usefixtures("folder")
def test_a_port_where_nobody_listens(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound, so that nobody else gets it, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.pth"
        assert load(url) == 2
    assert told(capsys).startswith(f"{url}: cannot be reached: Connection refused; check the network, or ")


@pytest.mark.usefixtures("folder")
def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.pth"
        assert load(url) == 2
    assert told(capsys) == f"{url}: the server gave no answer: timed out; run the same command again to resume"
    assert there() == []


@pytest.mark.usefixtures("folder")
def test_a_stalled_download_keeps_its_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        url = f"http://127.0.0.1:{stalled.getsockname()[1]}/x.pth"
        ended = threading.Event()

        def answer() -> None:
            connection, _ = stalled.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(weights.BLOCK))
                ended.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        assert load(url) == 2
        ended.set()
        thread.join()
    assert told(capsys) == (
        f"{url}: the connection broke: timed out (found {weights.BLOCK} bytes); run the same command again to resume"
    )
    assert there() == ["m.pth.part", "m.pth.part.json"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "url", ["ftp://x/y.pth", "file:///etc/passwd", "weights.pth", "http://", "http://x y/z", "http://x:port/z", "//x/y"]
)
def test_urls_that_are_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(url) == 2
    assert told(capsys) == (f"m.yaml: WEIGHTS.URL: cannot load from there (expected an http or https URL, found {url})")


@pytest.mark.usefixtures("folder")
def test_no_url_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("") == 2
    assert told(capsys) == (
        f"m.yaml: has no WEIGHTS.URL; take the checkpoint from where it was published or trained (most: {ZOO}) and put "
        "it to w/m.pth"
    )


@pytest.mark.usefixtures("folder")
def test_a_disk_too_small_is_told_before(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    server.data = bytes(60_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 10_000_000))
    assert load(f"{server.url}/file.pth") == 2
    assert told(capsys) == ("w: too little free disk (expected 0.1 GB, found 0.0 GB); give WEIGHTS= on a larger disk")
    assert there() == []


@pytest.mark.usefixtures("folder")
def test_a_disk_that_fills_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    real = open
    monkeypatch.setattr(
        "builtins.open", lambda name, *more, **kw: real("/dev/full" if more == ("ab",) else name, *more, **kw)
    )
    assert load(f"{server.url}/file.pth") == 2
    assert told(capsys) == "w/m.pth.part: No space left on device"
    assert there() == []


@pytest.mark.usefixtures("folder")
def test_two_at_once_exclude_each_other(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("w").mkdir()
    with locked("w/m.pth.part"):
        assert load(f"{server.url}/file.pth", MD5) == 2
    assert told(capsys).startswith("w/m.pth.part: another run, or the tool of a killed one, is still at work")
    assert server.asked == []


def test_the_published_configs_have_loadable_urls() -> None:
    for path in sorted(Path(weights.__file__).parents[1].glob("configs/*.yaml")):
        url = weights.load_config(path).WEIGHTS.URL
        if url:
            weights.check_url(url, path)
    with pytest.raises(UserError):
        weights.check_url("gopher://x", "y")
