"""A file server on 127.0.0.1; tests set its responses."""

from __future__ import annotations

import contextlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DATA = np.random.default_rng(0).bytes(700_001)  # several blocks and a partial one
REDIRECTS = {"/moved": "/file.pth", "/loop": "/loop", "/ftp": "ftp://127.0.0.1/file.pth", "/hub": "/moved"}


class Server(ThreadingHTTPServer):
    """A file server; `asked` has the Range of each request."""

    data = DATA
    etag: str | None = '"v1"'
    linked: str | None = None  # only sent by /hub, with the redirect, as Hugging Face does
    ranges = True
    cut: int | None = None  # bytes of the body before the connection is closed
    sized = True
    kind = "application/octet-stream"
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """Print nothing about a client that closed the connection."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.asked.append(wanted)
        if self.path in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[self.path])
            if server.linked and self.path == "/hub":
                self.send_header("X-Linked-ETag", f'"{server.linked}"')
            return self.end_headers()
        if self.path != "/file.pth":
            return self.send_error(404)
        start = int(re.fullmatch("bytes=([0-9]+)-", wanted)[1]) if wanted and server.ranges else 0
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
        with contextlib.suppress(ConnectionError):  # the client closed the connection
            self.wfile.write(body[: server.cut])
        return None

    def log_message(self, *_: object) -> None:
        pass
