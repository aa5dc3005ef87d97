"""hrnet/io/compiled.py: the bytes of the record beside a compiled model, and records that are rejected."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Optional

import pytest

from hrnet.io.compiled import CompiledModel, Gear, TensorInfo, check_export
from hrnet.io.records import FormatError, write_record
from tests.support.invalid_records import HASH

IMAGE = TensorInfo("image", "float32", [16, 3, 224, 224])
DIGEST = hashlib.sha256(b"model").hexdigest()
STATIC = CompiledModel(
    model_sha256=DIGEST,
    source_sha256=HASH,
    command=["atc", "--framework=5"],
    tool="atc",
    inputs=[IMAGE],
    outputs=[TensorInfo("class", "float32", [16, 1000])],
    gears=[],
    metadata={},
)
DYNAMIC = dataclasses.replace(
    STATIC,
    inputs=[TensorInfo("input", "float32", [1, 3, -1, -1])],
    outputs=[TensorInfo("output1", "float32", [1, 34, -1, -1]), TensorInfo("output2", "float16", [1, 17, -1, -1])],
    gears=[
        Gear([1, 3, 512, 640], [[1, 34, 128, 160], [1, 17, 256, 320]]),
        Gear([1, 3, 512, 512], [[1, 34, 128, 128], [1, 17, 256, 256]]),
    ],
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "m.om").write_bytes(b"model")
    return tmp_path / "m.om"


def check_rejected(model: Path, expected: Optional[str] = None) -> None:
    """Reading the record is an error that names the model, the expected value and the commands that make the record."""
    with pytest.raises(FormatError) as caught:
        CompiledModel.read(model)
    error = caught.value
    assert str(error.where) == f"{model}.json" and error.expected == expected
    assert f"rm {model}; make om" in str(error.hint) and f"atc.adopt --om {model}" in str(error.hint)


def test_a_static_model_is_read_as_written(model: Path) -> None:
    STATIC.write(model)
    assert Path(f"{model}.json").read_text() == (
        "{\n"
        ' "kind": "compiled",\n'
        ' "format_version": 1,\n'
        f' "model_sha256": "{DIGEST}",\n'
        f' "source_sha256": "{HASH}",\n'
        ' "command": ["atc", "--framework=5"],\n'
        ' "tool": "atc",\n'
        ' "inputs": [\n  {"name": "image", "dtype": "float32", "shape": [16, 3, 224, 224]}\n ],\n'
        ' "outputs": [\n  {"name": "class", "dtype": "float32", "shape": [16, 1000]}\n ],\n'
        ' "gears": [],\n'
        ' "metadata": {}\n'
        "}\n"
    )
    assert CompiledModel.read(model) == STATIC
    assert STATIC.accepts([3, 224, 224]) and not STATIC.accepts([3, 224, 192])
    assert STATIC.output_bytes([3, 224, 224]) == [4000]


def test_a_model_with_gears_is_read_as_written(model: Path) -> None:
    DYNAMIC.write(model)
    assert (
        ' "gears": [\n'
        '  {"input": [1, 3, 512, 640], "outputs": [[1, 34, 128, 160], [1, 17, 256, 320]]},\n'
        '  {"input": [1, 3, 512, 512], "outputs": [[1, 34, 128, 128], [1, 17, 256, 256]]}\n'
        " ],\n"
    ) in Path(f"{model}.json").read_text()
    assert CompiledModel.read(model) == DYNAMIC
    assert DYNAMIC.accepts([3, 512, 640]) and not DYNAMIC.accepts([3, 640, 512])
    assert DYNAMIC.output_bytes([3, 512, 640]) == [34 * 128 * 160 * 4, 17 * 256 * 320 * 2]


@pytest.mark.parametrize(
    "changes", [{"gears": []}, {"inputs": [IMAGE]}, {"gears": [Gear([1, 3, 512, 640], [[1, 34, 128, 160]])]}]
)
def test_invalid_gears_are_rejected(changes: dict[str, Any], model: Path) -> None:
    dataclasses.replace(DYNAMIC, **changes).write(model)
    with pytest.raises(FormatError) as caught:
        CompiledModel.read(model)
    assert str(caught.value.where) == f"{model}.json" and "gears" in caught.value.what
    assert caught.value.hint == f"rm {model}; make om"


def test_a_record_of_another_model_is_rejected(model: Path) -> None:
    check_rejected(model)
    STATIC.write(model)
    model.write_bytes(b"another")
    check_rejected(model, f"the hash of {model}")
    Path(f"{model}.json").write_text('{"kind": "run"}')
    check_rejected(model, "kind 'compiled'")


@pytest.mark.parametrize(("kind", "hint"), [("quantized", "PRECISION=int8"), ("compiled", "OM=")])
def test_a_model_of_another_stage_is_not_an_exported_model(kind: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    check_export(path)  # accepted: a model without a record was made by another tool
    write_record(f"{path}.json", kind, {})
    with pytest.raises(FormatError) as caught:
        check_export(path)
    assert (caught.value.where, caught.value.found) == (path, kind) and hint in str(caught.value.hint)


def test_bytes_of_one_image_are_counted() -> None:
    assert IMAGE.bytes_of_one() == 3 * 224 * 224 * 4
    assert TensorInfo("x", "float16", [-1, 5]).bytes_of_one() == 10
