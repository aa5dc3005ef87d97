"""A server process, called with the unchanged tritonclient and with plain HTTP: the protocol, and outputs equal to the
chain's."""

from __future__ import annotations

import base64
import http.client
import json
import re
import struct
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.predictions import ClassPrediction, read_predictions
from tests.serve.chain import COUNT, NAMES, SIDE, Running, image

triton = pytest.importorskip("tritonclient.http")

IMAGES = [image(number) for number in range(COUNT)]


@pytest.fixture
def client(server: Running) -> Any:
    with triton.InferenceServerClient(server.address) as client:
        yield client


def bytes_input(images: list[bytes], binary: bool = True) -> Any:
    given = triton.InferInput("image", [len(images)], "BYTES")
    elements = images if binary else [base64.b64encode(each) for each in images]
    given.set_data_from_numpy(np.array(elements, object), binary_data=binary)
    return given


def ask(server: Running, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(server.url + path, body, {key.replace("_", "-"): headers[key] for key in headers})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("small") and client.is_model_ready("small_tensor")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    tensors = client.get_model_metadata("small_tensor")
    assert tensors["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}]
    assert tensors["outputs"] == [{"name": "class", "datatype": "FP32", "shape": [-1, 10]}]
    images = client.get_model_metadata("small")
    assert images["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in images["outputs"]] == ["output", "classes", "probabilities", "names"]


def test_the_responses_about_health(server: Running) -> None:
    assert ask(server, "/v2/health/live") == (200, {"live": True})
    assert ask(server, "/v2/health/ready") == (200, {"live": True, "ready": True})
    assert ask(server, "/v2/models/small/ready") == (200, {"name": "small", "ready": True})


@pytest.mark.parametrize("binary", [True, False])
def test_images_give_the_outputs_and_predictions_of_the_chain(client: Any, chain: Path, binary: bool) -> None:
    """The chain computed the same 4 images in one batch, so the bytes of the outputs are equal. Classes, names and
    probabilities are equal to those in predictions.jsonl."""
    predictions = list(read_predictions(chain / "eval/judged/predictions.jsonl", ClassPrediction))
    for start in range(0, COUNT - 3, 4):
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("output", "classes", "names")]
        outputs.append(triton.InferRequestedOutput("probabilities", binary_data=binary))
        found = client.infer("small", [bytes_input(IMAGES[start : start + 4], binary)], outputs=outputs)
        for i, expected in enumerate(predictions[start : start + 4]):
            file = chain / f"out/run/img{start + i}_0.bin"
            assert found.as_numpy("output")[i].astype("<f4").tobytes() == file.read_bytes()
            assert found.as_numpy("classes")[i].tolist() == expected.classes
            assert found.as_numpy("probabilities")[i].round(6).tolist() == expected.probabilities
            names = [name.decode() if binary else name for name in found.as_numpy("names")[i]]
            assert names == [NAMES[index] for index in expected.classes]


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_give_the_outputs_of_the_chain(client: Any, chain: Path, binary: bool) -> None:
    rows = [np.fromfile(chain / f"in/img{i}.bin", np.float32).reshape(3, SIDE, SIDE) for i in range(4)]
    given = triton.InferInput("image", [4, 3, SIDE, SIDE], "FP32")
    given.set_data_from_numpy(np.stack(rows), binary_data=binary)
    outputs = [triton.InferRequestedOutput("class", binary_data=binary)]
    found = client.infer("small_tensor", [given], outputs=outputs, request_id="17")
    assert found.get_response()["id"] == "17" and found.get_response()["model_name"] == "small_tensor"
    for i, row in enumerate(found.as_numpy("class")):
        assert row.astype("<f4").tobytes() == (chain / f"out/run/img{i}_0.bin").read_bytes()


def test_other_batches_give_nearly_the_same_outputs(client: Any, chain: Path) -> None:
    """One image is computed at batch 1; more images than the largest batch are computed in several batches."""
    expected = np.stack([np.fromfile(chain / f"out/run/img{i}_0.bin", np.float32) for i in range(COUNT)])
    alone = [client.infer("small", [bytes_input([each])]).as_numpy("output")[0] for each in IMAGES]
    together = client.infer("small", [bytes_input(IMAGES)]).as_numpy("output")
    for found in (np.stack(alone), together):
        assert np.abs(found - expected).max() <= 1e-4


def tensor_json(**changes: Any) -> bytes:
    given = {"name": "image", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": [0.5] * (3 * SIDE * SIDE)}
    return json.dumps({"inputs": [{**given, **changes}]}).encode()


def image_json(data: bytes) -> bytes:
    text = base64.b64encode(data).decode()
    return json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}).encode()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header has this size, with almost no pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(9))]
    packed = [struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("model", "body", "status", "parts"),
    [
        ("nothing", tensor_json(), 404, ["nothing", "small, small_tensor"]),
        ("small_tensor", b"{", 400, ["not JSON"]),
        ("small_tensor", b"[" * 100_000, 400, ["not JSON"]),
        ("small_tensor", tensor_json(shape=[1, 3, 4, 4]), 400, ["shape", f"[-1, 3, {SIDE}, {SIDE}]"]),
        ("small_tensor", tensor_json(data=[1.0]), 400, ["number of values", str(3 * SIDE * SIDE)]),
        ("small_tensor", tensor_json(datatype="FP64"), 400, ["datatype", "FP32", "FP64"]),
        ("small", tensor_json(), 400, ["datatype", "BYTES"]),
        ("small", image_json(b"GIF89a"), 400, ["image 1", "JPEG or PNG"]),
        ("small", image_json(IMAGES[0][:400]), 400, ["image 1", "Truncated"]),
        ("small", image_json(b""), 400, ["image 1"]),
        ("small", image_json(png_header(20_000, 20_000)), 400, ["image 1", "400000000 pixels"]),
        ("small", image_json(IMAGES[0]) + b" " * (32 << 20), 413, ["too large", str(32 << 20)]),
    ],
)
def test_invalid_requests_are_rejected(server: Running, model: str, body: bytes, status: int, parts: list[str]) -> None:
    found, content = ask(server, f"/v2/models/{model}/infer", body)
    assert found == status and list(content) == ["error"]
    assert all(part in content["error"] for part in parts), content


def test_compressed_bodies_and_other_paths_are_rejected(server: Running) -> None:
    assert ask(server, "/v2/models/small/infer", b"x", Content_Encoding="gzip")[0] == 415
    assert ask(server, "/v2/models/small/infer")[0] == 405
    assert ask(server, "/v3")[0] == 404


def test_a_body_without_a_length_is_limited_too(server: Running) -> None:
    connection = http.client.HTTPConnection(server.address)
    blocks = (b"x" * (1 << 20) for _ in range(33))
    try:
        connection.request("POST", "/v2/models/small/infer", blocks, encode_chunked=True)
    except ConnectionError:
        pass  # the server may answer and close the connection before the body ends
    else:
        assert connection.getresponse().status == 413
    connection.close()


def test_metrics(client: Any, server: Running) -> None:
    client.infer("small", [bytes_input(IMAGES[:2])])
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        text = response.read().decode()
    for name in ("serve_request_seconds_bucket", "serve_queue_seconds_bucket", "serve_batch_images_bucket"):
        assert name in text
    assert re.search(r'serve_requests_total\{model="small",status="200"\} [1-9]', text)
    assert re.search(r"^serve_pending_images 0.0$", text, re.MULTILINE)


def test_the_page_names_the_model_and_its_verdict(server: Running) -> None:
    with urllib.request.urlopen(server.url) as response:
        text, policy = response.read().decode(), response.headers["Content-Security-Policy"]
    facts = json.loads(re.search('<script type="application/json" id="facts">(.*?)</script>', text)[1])
    assert facts["model"] == "small" and facts["verdict"].startswith("PASS: small top1")
    assert "http" not in re.sub("https?:", "", policy) and not re.search(r"""(src|href)=["']?http""", text)
