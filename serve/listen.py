"""Listen on a port, and run the server until SIGTERM or Ctrl-C. Accepted requests are answered before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, Optional

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hrnet.cli import UserError

MAX_CONNECTIONS = 1024
MAX_PORT = 65535
DRAIN_SECONDS = 0.5  # see Server.shutdown
ADDRESSES = "give HOST=127.0.0.1 for clients on this machine only, or HOST=0.0.0.0 for all networks"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address cannot be used."""
    where = f"HOST={host} PORT={port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        expected = "a name or an IP address of this machine"
        raise UserError("no such address", where=where, expected=expected, hint=ADDRESSES) from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(MAX_CONNECTIONS)
    except OSError as error:
        bound.close()
        hints = {
            errno.EADDRINUSE: f"give PORT={port + 1 if port < MAX_PORT else port - 1}, or stop the other server",
            errno.EADDRNOTAVAIL: ADDRESSES,
            errno.EACCES: "give PORT=8000, or another port above 1023",
        }
        hint = hints.get(error.errno or 0)
        raise UserError(f"cannot listen: {error.strerror}", where=where, hint=hint) from None
    return bound


def url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class TimedProtocol(HttpToolsProtocol):
    """Closes a connection if its request line and headers do not arrive in time; uvicorn would wait forever. While the
    server drains, each connection is closed after its next response."""

    header_seconds = 30.0
    draining = False
    timer: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start()

    def on_headers_complete(self) -> None:
        self._stop()
        super().on_headers_complete()
        if self.draining:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(self.header_seconds, self.transport.close)

    def _stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Server(uvicorn.Server):
    protocol: type[TimedProtocol]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in uvicorn, but the process exits with 0 after the server has drained."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        """Answer with `Connection: close` for DRAIN_SECONDS, so that clients do not send the next request on a
        connection that is being closed. Then, as in uvicorn, accept no connections and end after the last response."""
        self.protocol.draining = True
        for connection in list(self.server_state.connections):
            if isinstance(connection, TimedProtocol) and connection.cycle is not None:
                connection.cycle.keep_alive = False
        await asyncio.sleep(DRAIN_SECONDS)
        await super().shutdown(sockets)


def make_server(app: Starlette, timeout: float) -> Server:
    """A server for `app`. `timeout`: seconds in which the headers of a request must arrive. After SIGTERM or Ctrl-C,
    accepted requests have up to one second more than this."""
    protocol = type("Protocol", (TimedProtocol,), {"header_seconds": timeout})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=int(timeout) + 1,
    )
    server = Server(config)
    server.protocol = protocol
    return server
