"""The server with a fake runtime that a test controls: readiness, a full queue, timeouts, and the end."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve import app
from serve.listen import TimedProtocol
from tests.serve.twice import Twice, ask, body, post, serve_twice


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ready_after_the_models_are_loaded() -> None:
    loaded = threading.Event()
    with serve_twice(Twice(2), load=lambda: loaded.wait(60)) as (address, _):
        assert ask(f"{address}/v2/health/live")[0] == 200
        assert ask(f"{address}/v2/health/ready")[:2] == (503, {"live": True, "ready": False})
        assert ask(f"{address}/v2/models/m_tensor/ready")[0] == 503
        status, content, headers = post(address, body(1))
        assert status == 503 and "loaded" in content["error"] and headers["Retry-After"] == "1"
        loaded.set()
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        assert post(address, body(1))[1]["outputs"][0]["data"] == [2, 2]


def test_a_full_queue_answers_503_and_loses_nothing() -> None:
    """At most 4 images are processed at a time. A request that would exceed this is rejected, the accepted ones are
    answered."""
    runtime = Twice(1)
    with serve_twice(runtime, max_images=4) as (address, _), ThreadPoolExecutor(4) as pool:
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        runtime.gate.clear()
        accepted = [pool.submit(post, address, body(value)) for value in range(3)]
        until(lambda: "serve_pending_images 3.0" in metrics(address))
        status, content, headers = post(address, body(7, 8))
        assert status == 503 and "of 4 images" in content["error"] and headers["Retry-After"] == "1"
        assert post(address, body(*range(5)))[0] == 400, "one request has more images than the limit"
        runtime.gate.set()
        for value, future in enumerate(accepted):
            assert future.result()[1]["outputs"][0]["data"] == [2 * value, 2 * value]
        assert post(address, body(7, 8))[0] == 200
        assert "serve_pending_images 0.0" in metrics(address)


def is_rejected(address: str) -> bool:
    try:
        ask(f"{address}/v2")
    except OSError:
        return True
    return False


def metrics(address: str) -> str:
    with urllib.request.urlopen(f"{address}/metrics") as response:
        text: str = response.read().decode()
    return text


def test_too_many_bytes_at_once_answer_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_HELD", 10_000)
    with serve_twice(Twice(1)) as (address, _):
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        assert post(address, body(1) + b" " * 20_000)[0] == 503
        assert post(address, body(1))[0] == 200, "the bytes are released"


def test_timeouts() -> None:
    """A body that does not arrive in time gets 408; a batch that takes too long gets 503, and the next request is
    computed."""
    runtime = Twice(1)
    with serve_twice(runtime, timeout=1.0) as (address, _):
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /v2/models/m_tensor/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        runtime.gate.clear()
        status, content, headers = post(address, body(1))
        assert status == 503 and "1 s" in content["error"] and headers["Retry-After"] == "1"
        runtime.gate.set()
        assert post(address, body(2))[1]["outputs"][0]["data"] == [4, 4]
        assert "serve_pending_images 0.0" in metrics(address)


@pytest.mark.parametrize("sent", [b"", b"POST /v2/mod", b"GET /v2 HTTP/1.1\r\nHost: x\r\n"])
def test_connections_without_a_request_are_closed(sent: bytes) -> None:
    with serve_twice(Twice(1), timeout=0.2) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(sent)
            silent.settimeout(30)
            assert silent.recv(100) == b""
    assert TimedProtocol.header_seconds == 30.0, "the timeout of one server does not change the class"


def test_after_an_error_of_the_device_the_server_is_not_ready() -> None:
    runtime = Twice(1)
    with serve_twice(runtime) as (address, _):
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        runtime.error = True
        status, content, _ = post(address, body(1))
        assert status == 500 and "device lost" in content["error"]
        assert ask(f"{address}/v2/health/ready")[0] == 503
        runtime.error = False
        assert post(address, body(1))[0] == 200
        assert ask(f"{address}/v2/health/ready")[0] == 200


def test_accepted_requests_are_answered_before_the_end() -> None:
    runtime = Twice(1)
    with serve_twice(runtime) as (address, http), ThreadPoolExecutor(3) as pool:
        until(lambda: ask(f"{address}/v2/health/ready")[0] == 200)
        runtime.gate.clear()
        accepted = [pool.submit(post, address, body(value)) for value in range(3)]
        until(lambda: "serve_pending_images 3.0" in metrics(address))
        http.should_exit = True
        until(lambda: is_rejected(address))
        runtime.gate.set()
        assert [future.result()[0] for future in accepted] == [200, 200, 200]
