"""Clients that send one HTTP request after another over their own connections, in one thread, with little work for each
request, so that the machine's cores are left to the server."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence

from hrnet.cli import WorkFailed

ANSWER_SECONDS = 60
FILLING = 0.2  # the first fraction of the time, which is not measured: the server's queue fills


def http_request(path: str, body: bytes, headers: str = "Content-Type: application/json\r\n") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.expected = b"", 0

    def send(self, request: bytes) -> None:
        self.received, self.expected, self.sent = b"", 0, time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what has arrived; whether the response is complete. Raises WorkFailed for another status than 200."""
        data = self.socket.recv(1 << 16)
        self.received += data
        if not self.expected:
            head, found, _ = self.received.partition(b"\r\n\r\n")
            if found:
                if not head.startswith(b"HTTP/1.1 200"):
                    raise WorkFailed("the server rejected a request", found=self.received[:400])
                (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                self.expected = len(head) + 4 + int(length.split(b":")[1])
        if not data:
            raise WorkFailed("the server closed a connection", found=self.received[:400])
        return bool(self.expected) and len(self.received) >= self.expected


def drive(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Send `requests` in turn by `clients` connections for `seconds`, then wait for the last answers, so that no work
    is left for a later measurement. Returns the responses per second and the latency of each in seconds.

    The rate is measured from the last response in the first fifth of `seconds` to the last response within
    `seconds`. At both times requests are being computed, so the unfinished ones at the end are balanced by those at the
    start. Raises WorkFailed if there are no such responses."""
    selector = selectors.DefaultSelector()
    connections = [Connection(port) for _ in range(clients)]
    for number, connection in enumerate(connections):
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(requests[number % len(requests)])
    latencies: list[float] = []
    sent = clients
    first, last = (0, 0.0), (0, 0.0)  # responses, and the time of the last of them
    begun = time.perf_counter()
    while len(latencies) < sent:
        ready = selector.select(1.0)
        if not ready and time.perf_counter() - begun > seconds + ANSWER_SECONDS:
            raise WorkFailed("no answer", found=f"{len(latencies)} of {sent} answers")
        for key, _ in ready:
            if not key.data.receive():
                continue
            now = time.perf_counter()
            latencies.append(now - key.data.sent)
            if now - begun < seconds:
                last = (len(latencies), now)
                if now - begun < FILLING * seconds:
                    first = last
                key.data.send(requests[sent % len(requests)])
                sent += 1
    for connection in connections:
        connection.socket.close()
    selector.close()
    if not 0 < first[0] < last[0]:
        raise WorkFailed("too few responses", found=f"{last[0]} in {seconds:g} s", hint="give more --seconds")
    return (last[0] - first[0]) / (last[1] - first[1]), latencies
