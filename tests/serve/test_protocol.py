"""serve/protocol.py: requests and responses of the Open Inference Protocol as bytes."""

from __future__ import annotations

import json
from typing import Any, Optional

import numpy as np
import pytest

from serve.protocol import RequestError, Spec, Tensor, read_request, write_response

PIXELS = Spec("pixels", "UINT8", [-1, 2, 2])
IMAGES = Spec("image", "BYTES", [-1])
OUTPUTS = ["output", "names"]


def tensor(**changes: Any) -> dict[str, Any]:
    given = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 255], **changes}
    return {key: value for key, value in given.items() if value is not None}


def read(content: Any, rest: bytes = b"", length: Optional[str] = None, spec: Spec = PIXELS) -> Any:
    head = json.dumps(content).encode()
    return read_request(head + rest, str(len(head)) if rest and length is None else length, spec, OUTPUTS)


def test_flat_nested_and_binary_values_are_equal() -> None:
    binary = tensor(data=None, parameters={"binary_data_size": 4})
    for content, rest in (
        ({"inputs": [tensor()]}, b""),
        ({"inputs": [tensor(data=[[[1, 2], [3, 255]]])]}, b""),
        ({"inputs": [binary]}, bytes([1, 2, 3, 255])),
    ):
        found = read(content, rest)
        assert found.values.dtype == np.uint8 and found.values.tolist() == [[[1, 2], [3, 255]]]
        assert found.id is None and found.outputs == {"output": False, "names": False}


def test_elements_of_bytes() -> None:
    given = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 11}}
    rest = b"\x03\0\0\0abc\0\0\0\0"
    assert read({"inputs": [given]}, rest, spec=IMAGES).values == [b"abc", b""]
    given = {"name": "image", "datatype": "BYTES", "shape": [2], "data": ["YWJj", ""]}
    assert read({"inputs": [given]}, spec=IMAGES).values == [b"abc", b""]


def test_which_outputs_are_binary() -> None:
    asked = {"inputs": [tensor()], "parameters": {"binary_data_output": True}}
    assert read(asked).outputs == {"output": True, "names": True}
    asked["outputs"] = [{"name": "names", "parameters": {"binary_data": False}}, {"name": "output"}]
    assert read(asked).outputs == {"names": False, "output": True}


@pytest.mark.parametrize(
    ("content", "rest", "length", "words"),
    [
        ([], b"", None, "not a JSON object"),
        ({}, b"", None, "invalid inputs"),
        ({"inputs": []}, b"", None, "number of inputs"),
        ({"inputs": [tensor(name="x")]}, b"", None, "no such input (expected pixels, found x)"),
        ({"inputs": [tensor(datatype="FP32")]}, b"", None, "datatype"),
        ({"inputs": [tensor(shape=[0, 2, 2])]}, b"", None, "shape"),
        ({"inputs": [tensor(shape=[2**62, 2, 2])]}, b"", None, "number of values"),
        ({"inputs": [tensor(data=[1, 2, 3, 256])]}, b"", None, "1 to 256"),
        ({"inputs": [tensor(data=[1, 2, 3, 0.5])]}, b"", None, "UINT8"),
        ({"inputs": [tensor(data=[[1, 2], 3, 4])]}, b"", None, "differ in length"),
        ({"inputs": [tensor(data=[True, False, True, True])]}, b"", None, "bool"),
        ({"inputs": [tensor()]}, b"more", None, "no binary_data_size"),
        ({"inputs": [tensor(parameters={"binary_data_size": 4})]}, b"1234", None, "one of them"),
        ({"inputs": [tensor(data=None, parameters={"binary_data_size": 5})]}, b"1234", None, "4, the bytes after"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}, b"", None, "shared memory"),
        ({"inputs": [tensor()]}, b"", "1e3", "Inference-Header-Content-Length"),
        ({"inputs": [tensor()]}, b"", "99999", "Inference-Header-Content-Length"),
        ({"inputs": [tensor()], "id": 7}, b"", None, "id"),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, b"", None, "one of output, names"),
        ({"inputs": [tensor()], "outputs": ["output"]}, b"", None, "an object"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "output", "parameters": {"classification": 5}}]},
            *(b"", None, "the classification extension is not supported"),
        ),
    ],
)
def test_invalid_requests_are_rejected(content: Any, rest: bytes, length: Optional[str], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(content, rest, length)
    assert words in str(caught.value) and caught.value.status == 400 and len(str(caught.value)) < 400


def test_a_response_with_json_and_binary_data() -> None:
    asked = read(
        {
            "id": "a",
            "inputs": [tensor()],
            "outputs": [{"name": "output"}, {"name": "names", "parameters": {"binary_data": True}}],
        }
    )
    values = np.array([[0.1, -2.5]], np.float32)
    body, size = write_response("m", asked, [Tensor("output", values, [1, 2]), Tensor("names", ["ä".encode()], [1])])
    content = json.loads(body[:size])
    assert (content["model_name"], content["id"]) == ("m", "a")
    output, names = content["outputs"]
    assert np.array(output["data"], np.float32).tobytes() == values.tobytes() and output["datatype"] == "FP32"
    assert names == {"name": "names", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}
    assert body[size:] == b"\x02\0\0\0\xc3\xa4"


def test_infinite_outputs_need_binary_data() -> None:
    tensors = [Tensor("output", np.array([np.inf], np.float32), [1])]
    with pytest.raises(RequestError, match="output has NaN or infinite"):
        write_response("m", read({"inputs": [tensor()], "outputs": [{"name": "output"}]}), tensors)
    asked = read({"inputs": [tensor()], "parameters": {"binary_data_output": True}})
    assert write_response("m", asked, tensors)[0].endswith(np.float32(np.inf).tobytes())
