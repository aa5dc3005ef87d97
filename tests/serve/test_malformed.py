"""Malformed requests from hypothesis: the server does not crash, and no status is 500 or above, except 503."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.chain import SIDE, Running, image

IMAGES = [image(number) for number in range(4)]
SIZE = 3 * SIDE * SIDE
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=8,
)
KEYS = ["name", "datatype", "shape", "data", "parameters", "extra"]
ERRORS = ["image", "values", "key", "number", "member", "length", "header", "model", "path", "json", "bytes"]


@st.composite
def image_bytes(draw: st.DrawFn, changed: bool) -> bytes:
    """An image file, with some bytes changed, cut off or added."""
    data = bytearray(draw(st.sampled_from(IMAGES)))
    if not changed:
        return bytes(data)
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


@st.composite
def inputs(draw: st.DrawFn, errors: set[str]) -> tuple[dict[str, Any], bytes]:
    """An input, and its binary data."""
    rest = b""
    binary = draw(st.booleans())
    if draw(st.booleans()):
        tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
        data = draw(image_bytes("image" in errors))
        rest = len(data).to_bytes(4, "little") + data
        value: Any = [base64.b64encode(data).decode()]
    else:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}
        element, count = 0.5, SIZE
        rest = bytes(4)
        if "values" in errors:
            element = draw(st.sampled_from([3e38, -1e300, 7, True, "1", None]))
            count, rest = SIZE + draw(st.integers(-1, 1)), draw(st.binary(min_size=4, max_size=4))
        value, rest = [element] * count, rest * count
    if binary:
        tensor["parameters"] = {"binary_data_size": len(rest)}
    else:
        tensor["data"], rest = value, b""
    if "key" in errors:
        tensor[draw(st.sampled_from(KEYS))] = draw(JSON | st.lists(st.integers(-(2**70), 2**70), max_size=5))
    return tensor, rest


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request with up to three errors."""
    errors = draw(st.sets(st.sampled_from(ERRORS), max_size=3))
    tensor, rest = draw(inputs(errors))
    model = "small" if tensor.get("datatype") == "BYTES" else "small_tensor"
    content: dict[str, Any] = {"inputs": [tensor]}
    headers: dict[str, str] = {}
    if "number" in errors:
        content["inputs"] *= draw(st.sampled_from([0, 2]))
    if "member" in errors:
        objects = st.dictionaries(st.sampled_from(["name", "parameters"]), JSON)
        content[draw(st.sampled_from(["id", "outputs", "parameters", "inputs"]))] = draw(JSON | st.lists(objects))
    head = json.dumps(draw(JSON) if "json" in errors else content).encode()
    if rest:
        wrong = draw(st.sampled_from([-1, 1, 10**9])) if "length" in errors else 0
        headers["Inference-Header-Content-Length"] = str(len(head) + wrong)
    if "header" in errors:
        name = draw(st.sampled_from(["Inference-Header-Content-Length", "Content-Type", "Content-Encoding", "Accept"]))
        headers[name] = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8))
    if "model" in errors:
        model = draw(st.sampled_from(["small", "small_tensor", "%2e%2e", "x"]))
    path = f"/v2/models/{model}/infer"
    if "path" in errors:
        path = draw(st.sampled_from([f"/v2/models/{model}", "/v2", "/%ff", "//v2?a=%00"]))
    return path, draw(st.binary(max_size=64)) if "bytes" in errors else head + rest, headers


def check(server: Running, count: int) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=120)
    statuses: dict[int, int] = {}

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(requests())
    def ask(request: tuple[str, bytes, dict[str, str]]) -> None:
        path, body, headers = request
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()  # an idle connection would be closed while the next example is made
        statuses[response.status] = statuses.get(response.status, 0) + 1
        assert response.status < 500 or response.status == 503, (response.status, text)
        if response.status >= 400 and response.getheader("Content-Type") == "application/json":
            assert list(json.loads(text)) == ["error"]

    ask()
    connection.close()
    assert server.process.poll() is None
    print(f"{sum(statuses.values())} requests: {statuses}")
    assert statuses.get(200, 0) > count // 100 and statuses[400] > count // 4


def test_malformed_requests(server: Running) -> None:
    check(server, 150)


@pytest.mark.slow
def test_10_000_malformed_requests(server: Running) -> None:
    check(server, 10_000)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 64 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v2/models/small/infer HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/models/small/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v2/models/small/infer HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
    ],
)
def test_data_that_is_not_http(server: Running, data: bytes) -> None:
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as broken:
        broken.sendall(data)
        broken.shutdown(socket.SHUT_WR)
        answer = broken.recv(1 << 16)
    assert not answer or answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 2"), answer
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == 200
    connection.close()
