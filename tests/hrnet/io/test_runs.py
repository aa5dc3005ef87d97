"""hrnet/io/runs.py: the bytes of a run record, round trips, and records that are rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.io import tensor_names
from hrnet.io.compiled import TensorInfo
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord, output_folder
from tests.support.invalid_records import HASH, check_invalid, set_value

RUN = RunRecord(
    model="m.onnx",
    model_sha256=HASH,
    manifest_sha256=HASH,
    metadata={"model": "hrnet_w18"},
    tool="onnxruntime 1.16.0",
    command=["python3", "-m", "ais_bench"],
    outputs=[TensorInfo("class", "float32", [16, 1000])],
    batch=16,
    images=1,
    flipped=False,
    kept=0,
    seconds={"read": None, "infer": 0.5, "write": None, "total": 2},
    images_per_second=0.5,
    device={"NPU_compute_time": {"mean": 8.0}, "throughput": 2000.0},
    files={"a_b": ["a_b_0.bin"]},
)
RUN_TEXT = (
    "{\n"
    ' "kind": "run",\n'
    ' "format_version": 1,\n'
    ' "model": "m.onnx",\n'
    f' "model_sha256": "{HASH}",\n'
    f' "manifest_sha256": "{HASH}",\n'
    ' "metadata": {\n  "model": "hrnet_w18"\n },\n'
    ' "tool": "onnxruntime 1.16.0",\n'
    ' "command": ["python3", "-m", "ais_bench"],\n'
    ' "outputs": [\n  {"name": "class", "dtype": "float32", "shape": [16, 1000]}\n ],\n'
    ' "batch": 16,\n'
    ' "images": 1,\n'
    ' "flipped": false,\n'
    ' "kept": 0,\n'
    ' "seconds": {\n  "read": null,\n  "infer": 0.5,\n  "write": null,\n  "total": 2\n },\n'
    ' "images_per_second": 0.5,\n'
    ' "device": {\n  "NPU_compute_time": {"mean": 8.0},\n  "throughput": 2000.0\n },\n'
    ' "files": {\n  "a_b": ["a_b_0.bin"]\n }\n'
    "}\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    RUN.write(tmp_path / "x_run.json")
    return tmp_path / "x_run.json"


def test_a_run_record_has_these_bytes(file: Path) -> None:
    assert file.read_text() == RUN_TEXT
    assert RunRecord.read(file) == RUN


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("kept",), ..., "wrong keys in run record (found kept missing)"),
        (("outputs", 0, "shape"), None, "outputs 0: invalid shape (expected list[int], found null)"),
        (("command",), "atc", 'run record: invalid command (expected list[str], found "atc")'),
        (("files",), ["a"], 'run record: invalid files (expected dict[str, list[str]], found ["a"])'),
        (("files", "a_b"), "x", 'run record: invalid files (expected dict[str, list[str]], found {"a_b": "x"})'),
        (("seconds", "read"), "1", "run record: invalid seconds (expected dict[str, Optional[float]], found "),
    ],
)
def test_invalid_run_records_are_rejected(path: tuple[Any, ...], value: Any, line: str, file: Path) -> None:
    set_value(file, path, value)
    check_invalid(RunRecord.read, file, f"{file}: {line}")


@pytest.mark.parametrize("dtype", tensor_names.DTYPES)
def test_output_sizes_follow_the_dtype(dtype: str, file: Path) -> None:
    set_value(file, ("outputs", 0, "dtype"), dtype)
    assert RunRecord.read(file).outputs[0].bytes_of_one() == 1000 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "object", ">f4", ""])
def test_an_unknown_dtype_of_an_output_is_rejected(dtype: str, file: Path) -> None:
    set_value(file, ("outputs", 0, "dtype"), dtype)
    facts = f"expected float32, float16, uint8, int8, int32, int64, found {dtype}"
    check_invalid(RunRecord.read, file, f"{file}: invalid dtype of class ({facts})")


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
NUMBERS = st.floats(0, 1e9) | st.integers(0, 10**9)
TENSOR_INFOS = st.builds(
    TensorInfo, TEXTS, st.sampled_from([*tensor_names.DTYPES]), st.lists(st.integers(-1, 999), min_size=1, max_size=4)
)


@settings(max_examples=50)
@given(
    st.builds(
        RunRecord,
        model=TEXTS,
        model_sha256=st.just(HASH),
        manifest_sha256=st.just(HASH),
        metadata=st.dictionaries(TEXTS, TEXTS, max_size=3),
        tool=TEXTS,
        command=st.lists(TEXTS, max_size=3),
        outputs=st.lists(TENSOR_INFOS, max_size=3),
        batch=st.integers(1, 99),
        images=st.integers(1, 99),
        flipped=st.booleans(),
        kept=st.integers(0, 99),
        seconds=st.dictionaries(TEXTS, st.none() | NUMBERS, max_size=3),
        images_per_second=NUMBERS,
        device=st.dictionaries(TEXTS, NUMBERS | st.dictionaries(TEXTS, NUMBERS, max_size=2), max_size=3),
        files=st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2), max_size=3),
    )
)
def test_any_run_record_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, record: RunRecord) -> None:
    path = tmp_path_factory.getbasetemp() / "x_run.json"
    record.write(path)
    assert RunRecord.read(path) == record


def test_the_folder_of_outputs_is_named_like_the_run_record() -> None:
    assert output_folder(Path("out/set/onnxruntime-bs16_run.json")) == Path("out/set/onnxruntime-bs16")
    with pytest.raises(FormatError) as caught:
        output_folder(Path("out/record.json"))
    assert caught.value.where == Path("out/record.json") and "_run.json" in str(caught.value.expected)
