"""Requests and responses of the Open Inference Protocol V2 over HTTP: JSON, and the binary tensor extension.

With the extension, a body is a JSON object followed by the bytes of its tensors, in the order of the JSON. The header
Inference-Header-Content-Length is the length of the JSON; `binary_data_size` in the parameters of a tensor is its
number of bytes. Values are little-endian. An element of type BYTES is its length as uint32, then its bytes. In JSON, an
element of type BYTES is base64 text in a request, and UTF-8 text in a response.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Optional, Union

import numpy as np

DATATYPES = {  # the protocol's name: numpy's name, for the dtypes that a compiled model may have
    "FP32": "float32",
    "FP16": "float16",
    "FP64": "float64",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
DTYPES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}
BYTES = "BYTES"
LENGTH = struct.Struct("<I")  # before each element of type BYTES
JSON_LENGTH = "Inference-Header-Content-Length"  # the header

Values = Union[np.ndarray, list[bytes]]  # list: elements of type BYTES


class RequestError(Exception):
    """A request that is rejected: the response's status and text."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Spec(NamedTuple):
    """An input or output of a served model."""

    name: str
    datatype: str
    shape: list[int]  # -1 where it varies


class Tensor(NamedTuple):
    """An output, or the values of an input."""

    name: str
    values: Values
    shape: Sequence[int]


@dataclass(frozen=True)
class Request:
    """A request: the values of the only input, and the requested outputs."""

    id: Optional[str]
    values: Values
    outputs: dict[str, bool]  # name: whether its values are sent as binary data


def reject(what: str, expected: object = None, found: object = None) -> NoReturn:
    """Raise RequestError. Each value is cut to 80 characters, since `found` may be as long as a request."""
    named = (("expected", expected), ("found", found))
    facts = [f"{name} {str(value)[:80]}" for name, value in named if value is not None]
    raise RequestError(f"{what} ({', '.join(facts)})" if facts else what)


# --- requests ---------------------------------------------------------------------------------------------------------


def read_request(
    body: Union[bytes, bytearray], json_length: Optional[str], spec: Spec, outputs: Collection[str]
) -> Request:
    """Read the body of an infer request. `json_length`: the header JSON_LENGTH, or None; `spec`: the model's input;
    `outputs`: the names of its outputs. Raises RequestError."""
    size = _json_size(json_length, len(body))
    content = _read_json(body[:size])
    inputs = _member(content, "inputs", list, "the request")
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        reject("wrong number of inputs", f"one, named {spec.name}", len(inputs))
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        reject("id is not a string", found=request_id)
    values = _read_input(inputs[0], memoryview(body)[size:], spec)
    return Request(request_id, values, _read_outputs(content, outputs))


def _json_size(json_length: Optional[str], size: int) -> int:
    if json_length is None:
        return size
    if not (json_length.isascii() and json_length.isdigit()) or len(json_length) > 12 or int(json_length) > size:
        reject(f"invalid {JSON_LENGTH}", f"an integer up to the length of the body, {size}", json_length)
    return int(json_length)


def _read_json(text: Union[bytes, bytearray]) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError:
        reject("not JSON: too many levels")
    except ValueError as error:  # UnicodeDecodeError is a ValueError
        reject(f"not JSON: {str(error)[:80]}", "a JSON object, with images as base64 text")
    if not isinstance(content, dict):
        reject("the request is not a JSON object", found=content)
    return content


def _member(content: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = content.get(name)
    if not isinstance(value, kind):
        reject(f"invalid {name} in {where}", "a list" if kind is list else "a string", json.dumps(value)[:80])
    return value


def _parameters(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    parameters = content.get("parameters", {})
    if not isinstance(parameters, dict):
        reject(f"invalid parameters in {where}", "an object")
    return parameters


def _read_outputs(content: Mapping[str, Any], known: Collection[str]) -> dict[str, bool]:
    """{requested output (default: all): whether it is sent as binary data}."""
    binary = _parameters(content, "the request").get("binary_data_output", False) is True
    asked = content.get("outputs")
    if asked is None or asked == []:
        return dict.fromkeys(known, binary)
    found = {}
    for output in _member(content, "outputs", list, "the request"):
        if not isinstance(output, dict):
            reject("invalid output", "an object", output)
        name = _member(output, "name", str, "an output")
        if name not in known:
            reject("no such output", f"one of {', '.join(known)}", name)
        parameters = _parameters(output, f"output {name}")
        if "classification" in parameters:
            hint = "; request the output classes instead" if "classes" in known else ""
            reject(f"the classification extension is not supported{hint}")
        found[name] = parameters.get("binary_data", binary) is True
    return found


def _read_input(content: Mapping[str, Any], rest: memoryview, spec: Spec) -> Values:
    name, datatype = (_member(content, key, str, "the input") for key in ("name", "datatype"))
    if name != spec.name:
        reject("no such input", spec.name, name)
    if datatype != spec.datatype:
        reject(f"wrong datatype of {name}", spec.datatype, datatype)
    shape = _read_shape(content, spec)
    parameters = _parameters(content, f"input {name}")
    if "shared_memory_region" in parameters:
        reject("shared memory is not supported", "data in the request")
    size = parameters.get("binary_data_size")
    if size is None:
        if len(rest):
            reject("bytes after the JSON, but no binary_data_size", found=f"{len(rest)} bytes")
        return _from_json(_member(content, "data", list, f"input {name}"), shape, spec)
    if type(size) is not int or size != len(rest):
        reject("wrong binary_data_size", f"{len(rest)}, the bytes after the JSON", size)
    if "data" in content:
        reject(f"input {name} has data and binary_data_size", "one of them")
    return _from_bytes(rest, shape, spec)


def _read_shape(content: Mapping[str, Any], spec: Spec) -> list[int]:
    shape = _member(content, "shape", list, f"input {spec.name}")
    fits = len(shape) == len(spec.shape) and all(type(size) is int and size > 0 for size in shape)
    if not fits or any(wanted not in (-1, size) for wanted, size in zip(spec.shape, shape)):
        reject(f"wrong shape of {spec.name}", f"{spec.shape}, where -1 is any size from 1 up", shape)
    return shape


def _from_json(data: list[Any], shape: list[int], spec: Spec) -> Values:
    """The values of a flat or a nested list."""
    if spec.datatype == BYTES:
        flat = list(_flatten(data))
        if len(flat) != math.prod(shape):
            reject(f"wrong number of values of {spec.name}", math.prod(shape), len(flat))
        return [_from_base64(element, spec) for element in flat]
    try:
        values = np.array(data)
    except ValueError:
        reject(f"the lists in {spec.name} differ in length")
    if values.size != math.prod(shape):
        reject(f"wrong number of values of {spec.name}", math.prod(shape), values.size)
    dtype = np.dtype(DATATYPES[spec.datatype])
    if values.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu"):
        reject(f"invalid values of {spec.name}", f"numbers of type {spec.datatype}", values.dtype)
    if dtype.kind != "f" and not (np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max):
        found = f"{values.min()} to {values.max()}"
        reject(f"invalid values of {spec.name}", f"numbers of type {spec.datatype}", found)
    with np.errstate(over="ignore"):
        return _finite(values.astype(dtype).reshape(shape), spec)


def _flatten(data: Any) -> Iterator[Any]:
    """The elements of nested lists, in order."""
    waiting = [iter([data])]
    while waiting:
        for element in waiting[-1]:
            if isinstance(element, list):
                waiting.append(iter(element))
                break
            yield element
        else:
            waiting.pop()


def _from_base64(element: Any, spec: Spec) -> bytes:
    try:
        return base64.b64decode(element, validate=True)
    except (TypeError, ValueError, binascii.Error):
        reject(f"invalid value of {spec.name}", "base64 text, or binary data by the binary tensor extension")


def _from_bytes(data: memoryview, shape: list[int], spec: Spec) -> Values:
    count = math.prod(shape)
    if spec.datatype == BYTES:
        elements = []
        while data:
            size = LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else -1
            if not 0 <= size <= len(data) - LENGTH.size:
                reject(f"invalid binary data of {spec.name}", "for each element its length as uint32, and its bytes")
            elements.append(bytes(data[LENGTH.size : LENGTH.size + size]))
            data = data[LENGTH.size + size :]
        if len(elements) != count:
            reject(f"wrong number of values of {spec.name}", count, len(elements))
        return elements
    dtype = np.dtype(DATATYPES[spec.datatype]).newbyteorder("<")
    if len(data) != count * dtype.itemsize:
        reject(f"wrong number of bytes of {spec.name}", count * dtype.itemsize, len(data))
    return _finite(np.frombuffer(data, dtype).reshape(shape), spec)


def _finite(values: np.ndarray, spec: Spec) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        reject(f"invalid values of {spec.name}", f"numbers of type {spec.datatype}", "NaN or infinity")
    return values


# --- responses --------------------------------------------------------------------------------------------------------


def write_response(model: str, request: Request, outputs: Sequence[Tensor]) -> tuple[bytes, Optional[int]]:
    """The body of a response, and the length of its JSON if binary data follow, else None. Raises RequestError for
    values that JSON cannot represent."""
    described, parts = [], []
    for tensor in outputs:
        if tensor.name not in request.outputs:
            continue
        datatype, shape = datatype_of(tensor.values), list(tensor.shape)
        entry: dict[str, Any] = {"name": tensor.name, "datatype": datatype, "shape": shape}
        if request.outputs[tensor.name]:
            parts.append(_to_bytes(tensor.values))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = _to_json(tensor)
        described.append(entry)
    identity = {} if request.id is None else {"id": request.id}
    text = json.dumps({"model_name": model, **identity, "outputs": described}, separators=(",", ":")).encode()
    return (b"".join([text, *parts]), len(text)) if parts else (text, None)


def datatype_of(values: Values) -> str:
    return BYTES if isinstance(values, list) else DTYPES[values.dtype]


def _to_bytes(values: Values) -> bytes:
    if isinstance(values, list):
        return b"".join(part for value in values for part in (LENGTH.pack(len(value)), value))
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _to_json(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.values, list):
        return [value.decode() for value in tensor.values]
    if tensor.values.dtype.kind == "f" and not np.isfinite(tensor.values).all():
        raise RequestError(f"output {tensor.name} has NaN or infinite values, which JSON cannot represent")
    flat: list[Any] = tensor.values.reshape(-1).tolist()
    return flat
