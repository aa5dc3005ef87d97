"""The on-disk contract: the bytes of each format, round trips, and the line of each rejection."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.datasets import read_labels
from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.summary import outputs_by_stem, read_summary, write_info

HASH = "0123456789abcdef" * 4


def mend_of(model: Path) -> str:
    return f"if make om made it: rm {model}; make om; if it is from elsewhere: python -m atc.adopt --om {model}"


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(FormatError) as caught:
        read()
    return str(caught.value)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_info_file(tmp_path: Path) -> None:
    path = tmp_path / "inputs.info"
    assert write_info(path, [("./prep/a.bin", 224, 224), ("./prep/b.bin", 640, 512)]) == 2
    assert path.read_bytes() == b"0 ./prep/a.bin 224 224\n1 ./prep/b.bin 640 512\n"


@pytest.mark.parametrize("file", ["my prep/a.bin", "a\tb.bin", "a.bin\n"])
def test_an_info_file_takes_no_space(file: str, tmp_path: Path) -> None:
    told = refusal(lambda: write_info(tmp_path / "inputs.info", [(file, 1, 1)]))
    assert told == f"{file}: an info file cannot hold a path with a space"
    assert not (tmp_path / "inputs.info").exists()


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"a.JPEG 0\nb.JPEG 999\n", {"a.JPEG": 0, "b.JPEG": 999}),
        (b"a.JPEG 0", {"a.JPEG": 0}),
        (b"\n  a.JPEG  7  \r\n\r\nb.JPEG 007\r\n", {"a.JPEG": 7, "b.JPEG": 7}),
        (b"potter's wheel (1).JPEG 3\n", {"potter's wheel (1).JPEG": 3}),
        (b"\xef\xbb\xbfa.JPEG 0\n", {"a.JPEG": 0}),
        ("图.JPEG 5\n".encode(), {"图.JPEG": 5}),
    ],
)
def test_labels(data: bytes, labels: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "val_label.txt").write_bytes(data)
    assert read_labels(tmp_path / "val_label.txt") == labels


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "holds no label (expected lines `name index`)"),
        (b"\n\n", "holds no label (expected lines `name index`)"),
        (b"a.JPEG 0\na.JPEG\n", "line 2 (expected name index, found 'a.JPEG')"),
        (b"5\n", "line 1 (expected name index, found '5')"),
        (b"a.JPEG -1\n", "line 1 (expected name index, found 'a.JPEG -1')"),
        (b"a.JPEG 1.0\n", "line 1 (expected name index, found 'a.JPEG 1.0')"),
        ("a.JPEG ²\n".encode(), "line 1 (expected name index, found 'a.JPEG ²')"),
        (b"a.JPEG\t1\n", "line 1 (expected name index, found 'a.JPEG\\t1')"),
        (b"a.JPEG 1\nb.JPEG 2\na.JPEG 1\n", "line 3: a second label for a.JPEG"),
        (b"\xb0\xa1.JPEG 1\n", "is no UTF-8 text"),
    ],
)
def test_no_labels(data: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "val_label.txt"
    path.write_bytes(data)
    assert refusal(lambda: read_labels(path)) == f"{path}: {line}"


# --- records ----------------------------------------------------------------------------------------------------------

IMAGE = TensorInfo("image", "float32", [16, 3, 224, 224])
CLASS = TensorInfo("class", "float32", [16, 1000])
RUN = RunRecord(
    model="m.onnx",
    model_sha256=HASH,
    manifest_sha256=HASH,
    metadata={"model": "hrnet_w18"},
    tool="onnxruntime 1.16.0",
    command=["python3", "-m", "ais_bench"],
    outputs=[CLASS],
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


def test_run_record(tmp_path: Path) -> None:
    RUN.write(tmp_path / "x_run.json")
    assert (tmp_path / "x_run.json").read_text() == RUN_TEXT
    assert RunRecord.read(tmp_path / "x_run.json") == RUN


def test_compiled_model(tmp_path: Path) -> None:
    model = tmp_path / "m.om"
    model.write_bytes(b"model")
    digest = hashlib.sha256(b"model").hexdigest()
    compiled = CompiledModel(digest, HASH, ["atc", "--framework=5"], "atc", [IMAGE], [CLASS], [], {})
    compiled.write(model)
    assert (tmp_path / "m.om.json").read_text() == (
        "{\n"
        ' "kind": "compiled",\n'
        ' "format_version": 1,\n'
        f' "model_sha256": "{digest}",\n'
        f' "source_sha256": "{HASH}",\n'
        ' "command": ["atc", "--framework=5"],\n'
        ' "tool": "atc",\n'
        ' "inputs": [\n  {"name": "image", "dtype": "float32", "shape": [16, 3, 224, 224]}\n ],\n'
        ' "outputs": [\n  {"name": "class", "dtype": "float32", "shape": [16, 1000]}\n ],\n'
        ' "gears": [],\n'
        ' "metadata": {}\n'
        "}\n"
    )
    assert CompiledModel.read(model) == compiled
    model.write_bytes(b"another")
    told = refusal(lambda: CompiledModel.read(model))
    assert told == f"{model}.json: speaks of another model (expected the hash of {model}); {mend_of(model)}"


def test_compiled_model_with_gears(tmp_path: Path) -> None:
    model = tmp_path / "m.om"
    model.write_bytes(b"model")
    digest = hashlib.sha256(b"model").hexdigest()
    free = TensorInfo("input", "float32", [1, 3, -1, -1])
    outputs = [TensorInfo("output1", "float32", [1, 34, -1, -1]), TensorInfo("output2", "float16", [1, 17, -1, -1])]
    gears = [
        Gear([1, 3, 512, 640], [[1, 34, 128, 160], [1, 17, 256, 320]]),
        Gear([1, 3, 512, 512], [[1, 34, 128, 128], [1, 17, 256, 256]]),
    ]
    compiled = CompiledModel(digest, HASH, ["atc"], "atc", [free], outputs, gears, {})
    compiled.write(model)
    assert (
        ' "gears": [\n'
        '  {"input": [1, 3, 512, 640], "outputs": [[1, 34, 128, 160], [1, 17, 256, 320]]},\n'
        '  {"input": [1, 3, 512, 512], "outputs": [[1, 34, 128, 128], [1, 17, 256, 256]]}\n'
        " ],\n"
    ) in (tmp_path / "m.om.json").read_text()
    assert CompiledModel.read(model) == compiled
    assert compiled.takes([3, 512, 640]) and not compiled.takes([3, 640, 512])
    assert compiled.output_bytes([3, 512, 640]) == [34 * 128 * 160 * 4, 17 * 256 * 320 * 2]
    static = CompiledModel(digest, HASH, ["atc"], "atc", [IMAGE], [CLASS], [], {})
    assert static.takes([3, 224, 224]) and not static.takes([3, 224, 192])
    assert static.output_bytes([3, 224, 224]) == [4000]
    hint = f"rm {model}; make om"
    expected = "one or more for free axes, each with all outputs; none for a static model"
    for broken in ({"gears": []}, {"inputs": [IMAGE]}, {"gears": [Gear([1, 3, 512, 640], [[1, 34, 128, 160]])]}):
        dataclasses.replace(compiled, **broken).write(model)
        assert refusal(lambda: CompiledModel.read(model)).startswith(f"{model}.json: gears (expected {expected}, found")
        assert refusal(lambda: CompiledModel.read(model)).endswith(hint)


def test_other_records_are_laid_out_alike(tmp_path: Path) -> None:
    path = tmp_path / "rejected.json"
    write_record(path, "rejected", {"images": {"val/a.JPEG": "empty file"}})
    assert path.read_text() == (
        '{\n "kind": "rejected",\n "format_version": 1,\n "images": {\n  "val/a.JPEG": "empty file"\n }\n}\n'
    )
    write_record(path, "rejected", {"images": {}})
    assert path.read_text() == '{\n "kind": "rejected",\n "format_version": 1,\n "images": {}\n}\n'
    assert read_record(path, "rejected") == {"kind": "rejected", "format_version": 1, "images": {}}


def test_bytes_of_one_image() -> None:
    assert IMAGE.bytes_of_one() == 3 * 224 * 224 * 4
    assert TensorInfo("x", "float16", [-1, 5]).bytes_of_one() == 10


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "no run record"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[]", "expected kind 'run', found 'list'"),
        ("{}", "expected kind 'run', found None"),
        ('{"kind": "manifest"}', "expected kind 'run', found 'manifest'"),
        ('{"kind": "run"}', "expected 1"),
        ('{"kind": "run", "format_version": 2}', "expected 1, found 2"),
    ],
)
def test_no_record(text: str | None, part: str, tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FormatError) as caught:
        RunRecord.read(path)
    assert (caught.value.where, caught.value.hint) == (path, "run make infer")
    assert part in str(caught.value)


def test_a_model_without_its_record(tmp_path: Path) -> None:
    model = tmp_path / "m.om"
    told = refusal(lambda: CompiledModel.read(model))
    assert told == f"{model}.json: no compiled record; {mend_of(model)}"
    Path(f"{model}.json").write_text('{"kind": "run"}')
    told = refusal(lambda: CompiledModel.read(model))
    line = "is another record (expected kind 'compiled', found 'run')"
    assert told == f"{model}.json: {line}; {mend_of(model)}"


def changed(text: str, path: tuple[Any, ...], value: Any) -> str:
    """JSON with the value at `path` replaced; `...` removes it."""
    record = json.loads(text)
    holder = record
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("kept",), ..., "run record has other keys (found kept missing)"),
        (("outputs", 0, "shape"), None, "outputs 0: shape (expected list[int], found null)"),
        (("command",), "atc", 'run record: command (expected list[str], found "atc")'),
        (("files",), ["a"], 'run record: files (expected dict[str, list[str]], found ["a"])'),
        (("files", "a_b"), "x", 'run record: files (expected dict[str, list[str]], found {"a_b": "x"})'),
        (("seconds", "read"), "1", "run record: seconds (expected dict[str, Optional[float]], found "),
    ],
)
def test_no_run_record(path: tuple[Any, ...], value: Any, line: str, tmp_path: Path) -> None:
    file = tmp_path / "x_run.json"
    file.write_text(changed(RUN_TEXT, path, value))
    assert refusal(lambda: RunRecord.read(file)).startswith(f"{file}: {line}")


@pytest.mark.parametrize("dtype", tensors.DTYPES)
def test_dtypes_of_outputs(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "x_run.json"
    file.write_text(changed(RUN_TEXT, ("outputs", 0, "dtype"), dtype))
    assert RunRecord.read(file).outputs[0].bytes_of_one() == 1000 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "object", "f4", ">f4", ""])
def test_an_unknown_dtype_of_an_output(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "x_run.json"
    file.write_text(changed(RUN_TEXT, ("outputs", 0, "dtype"), dtype))
    facts = f"expected float32, float16, uint8, int8, int32, int64, found {dtype}"
    assert refusal(lambda: RunRecord.read(file)) == f"{file}: dtype of class ({facts})"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


NUMBERS = st.floats(0, 1e9) | st.integers(0, 10**9)
TENSOR_INFOS = st.builds(
    TensorInfo, TEXTS, st.sampled_from(tensors.DTYPES), st.lists(st.integers(-1, 999), min_size=1, max_size=4)
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
def test_any_run_record_comes_back(tmp_path_factory: pytest.TempPathFactory, record: RunRecord) -> None:
    path = tmp_path_factory.getbasetemp() / "x_run.json"
    record.write(path)
    assert RunRecord.read(path) == record


def test_the_folder_of_a_run_record() -> None:
    assert output_folder(Path("out/set/onnxruntime-bs16_run.json")) == Path("out/set/onnxruntime-bs16")
    told = refusal(lambda: output_folder(Path("out/record.json")))
    assert told == "out/record.json: is not named as a run record (expected <folder of outputs>_run.json)"


# --- ais_bench's summary ----------------------------------------------------------------------------------------------


def sample(infile: str, *outfiles: str) -> dict[str, list[str]]:
    return {"infiles": [infile], "outfiles": list(outfiles)}


def test_summary(tmp_path: Path) -> None:
    path = tmp_path / "x_summary.json"
    files = {"0": sample("prep/img2.bin", "out/x/img2_0.bin", "out/x/img2_1.bin"), "1": sample("/p/b.c.npy", "b_0.bin")}
    summary = {"filesinfo": files, "NPU_compute_time": {"mean": 8.0}, "throughput": 2000.0, "pid": 1}
    path.write_text(json.dumps(summary))
    assert read_summary(path) == summary
    assert outputs_by_stem(summary, path) == {"img2": ["img2_0.bin", "img2_1.bin"], "b": ["b_0.bin"]}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "no summary of ais_bench"),
        ("{", "not JSON"),
        ("{}", "no filesinfo, NPU_compute_time, throughput"),
        ("null", "no filesinfo, NPU_compute_time, throughput"),
        ('{"filesinfo": {}, "throughput": 1}', "no NPU_compute_time"),
    ],
)
def test_no_summary(text: str | None, part: str, tmp_path: Path) -> None:
    path = tmp_path / "x_summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_summary(path)
    assert caught.value.where == path and part in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        (
            [{"infiles": ["a.bin", "b.bin"], "outfiles": ["a_0.bin"]}],
            "a sample without one input and its outputs "
            "(found {'infiles': ['a.bin', 'b.bin'], 'outfiles': ['a_0.bin']})",
        ),
        (
            [sample("a.bin")],
            "a sample without one input and its outputs (found {'infiles': ['a.bin'], 'outfiles': []})",
        ),
        ([{}], "a sample without one input and its outputs (found {})"),
        ([sample("a.bin", "a_0.bin"), sample("d/a.bin", "a_0.bin")], "a was inferred twice"),
    ],
)
def test_no_list_of_outputs(samples: list[dict[str, list[str]]], line: str) -> None:
    summary = {"filesinfo": {str(i): each for i, each in enumerate(samples)}}
    assert refusal(lambda: outputs_by_stem(summary, "x_summary.json")) == f"x_summary.json: {line}"
