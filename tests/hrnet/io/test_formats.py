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

from hrnet.cli import UserError
from hrnet.datasets import read_labels
from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.manifest import InputImage, Manifest
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.summary import outputs_by_stem, read_summary, topn_result, write_info, write_topn_result

HASH = "0123456789abcdef" * 4
SEED_RESULT = (
    '{"title": "Overall statistical evaluation", "value": [{"key": "Number of images", "value": "50000"}, '
    '{"key": "Number of classes", "value": "1000"}, {"key": "Top1 accuracy", "value": "76.46%"}, '
    '{"key": "Top2 accuracy", "value": "86.33%"}, {"key": "Top3 accuracy", "value": "90.0%"}, '
    '{"key": "Top4 accuracy", "value": "91.97%"}, {"key": "Top5 accuracy", "value": "93.14%"}]}'
)


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

MANIFEST = Manifest(
    dataset="imagenet",
    config_sha256=HASH,
    index_sha256=HASH,
    dtype="float32",
    layout="NCHW",
    suffix="bin",
    classes=10,
    rejected=1,
    images=[
        InputImage("a_b", "val/a b.JPEG", 0, 500, 375, [3, 224, 224]),
        InputImage("c", "val/图.JPEG", 9, 1, 1, [3, 224, 224]),
    ],
)
MANIFEST_TEXT = (
    "{\n"
    ' "kind": "manifest",\n'
    ' "format_version": 1,\n'
    ' "dataset": "imagenet",\n'
    f' "config_sha256": "{HASH}",\n'
    f' "index_sha256": "{HASH}",\n'
    ' "dtype": "float32",\n'
    ' "layout": "NCHW",\n'
    ' "suffix": "bin",\n'
    ' "classes": 10,\n'
    ' "rejected": 1,\n'
    ' "images": [\n'
    '  {"stem": "a_b", "source": "val/a b.JPEG", "label": 0, "width": 500, "height": 375, "shape": [3, 224, 224]},\n'
    '  {"stem": "c", "source": "val/\\u56fe.JPEG", "label": 9, "width": 1, "height": 1, "shape": [3, 224, 224]}\n'
    " ]\n"
    "}\n"
)
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


def test_manifest(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_text() == MANIFEST_TEXT
    assert Manifest.read(tmp_path / "manifest.json") == MANIFEST


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
    ("text", "line"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "is another record (expected kind 'manifest', found 'list')"),
        ("{}", "is another record (expected kind 'manifest', found None)"),
        ('{"kind": "run"}', "is another record (expected kind 'manifest', found 'run')"),
        ('{"kind": "manifest"}', "format version (expected 1)"),
        ('{"kind": "manifest", "format_version": 2}', "format version (expected 1, found 2)"),
    ],
)
def test_no_record(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert refusal(lambda: Manifest.read(path)) == f"{path}: {line}; run make preprocess"


@pytest.mark.parametrize(
    ("read", "name", "line"),
    [
        (Manifest.read, "manifest.json", "no manifest record; run make preprocess"),
        (RunRecord.read, "x_run.json", "no run record; run make infer"),
    ],
)
def test_a_missing_record(read: Callable[[Path], object], name: str, line: str, tmp_path: Path) -> None:
    assert refusal(lambda: read(tmp_path / name)) == f"{tmp_path / name}: {line}"


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


COCO = Manifest(
    dataset="coco",
    config_sha256=HASH,
    index_sha256=HASH,
    dtype="uint8",
    layout="NHWC",
    suffix="npy",
    classes=1,
    rejected=0,
    images=[
        InputImage("1", "images/val2017/1.jpg", None, 640, 426, [512, 832, 3], 139, [320.0, 213.0], [3.46125, 2.13]),
        InputImage("2", "images/val2017/2.jpg", None, 64, 100, [832, 512, 3], 2, [32.0, 50.0], [0.32, 0.52]),
    ],
    flipped=True,
)


def test_manifest_of_coco(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    COCO.write(path)
    assert Manifest.read(path) == COCO
    lines = path.read_text().splitlines()
    assert lines[12] == (
        '  {"stem": "1", "source": "images/val2017/1.jpg", "label": null, "width": 640, "height": 426, '
        '"shape": [512, 832, 3], "image_id": 139, "center": [320.0, 213.0], "scale": [3.46125, 2.13]},'
    )
    assert lines[-2:] == [' "flipped": true', "}"]
    assert [image.sides() for image in COCO.images] == [(512, 832), (832, 512)]
    assert MANIFEST.images[0].sides() == (224, 224)


def test_labels_of_a_manifest() -> None:
    assert MANIFEST.labels() == [0, 9]
    with pytest.raises(UserError) as caught:
        COCO.labels()
    assert str(caught.value) == "a manifest of coco has no labels; give that of a classification set"


SOURCES = "images/val2017/1.jpg (None), images/val2017/2.jpg (None)"
PLACE = "images without their place (expected image_id, two numbers of center and two above 0 of scale, found "


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("images", 1, "image_id"), ..., PLACE + "images/val2017/2.jpg)"),
        (("images", 0, "center"), [1.0], PLACE + "images/val2017/1.jpg)"),
        (("images", 0, "scale"), [1, 0], PLACE + "images/val2017/1.jpg)"),
        (("images", 0, "scale"), None, PLACE + "images/val2017/1.jpg)"),
        (("images", 0, "image_id"), 2, "an image_id stands twice (found 2)"),
        (("images", 0, "image_id"), "2", 'images 0: image_id (expected Optional[int], found "2")'),
        (("images", 0, "centre"), 1, "images 0 has other keys (found centre unknown)"),
        (("dataset",), "mpii", "kind of data set (expected imagenet or coco, found mpii)"),
        (("dataset",), "imagenet", f"label outside the classes (expected 0 to 0, found {SOURCES})"),
    ],
)
def test_no_manifest_of_coco(path: tuple[Any, ...], value: Any, line: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    COCO.write(file)
    file.write_text(changed(file.read_text(), path, value))
    assert refusal(lambda: Manifest.read(file)) == f"{file}: {line}"


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("dtype",), ..., "manifest has other keys (found dtype missing)"),
        (("colour",), 1, "manifest has other keys (found colour unknown)"),
        (("classes",), "10", 'manifest: classes (expected int, found "10")'),
        (("classes",), True, "manifest: classes (expected int, found true)"),
        (("rejected",), 0.5, "manifest: rejected (expected int, found 0.5)"),
        (("dataset",), None, "manifest: dataset (expected str, found null)"),
        (("images",), 5, "manifest: images (expected list[InputImage], found 5)"),
        (("images",), [], "manifest of no image; run make preprocess"),
        (("images", 1), "c", 'images 1 is no JSON object (found "c")'),
        (("images", 1, "label"), ..., "images 1 has other keys (found label missing)"),
        (("images", 1, "shape"), [3, "x"], 'images 1: shape (expected list[int], found [3, "x"])'),
        (("images", 1, "stem"), "a_b", "a stem stands twice (found a_b)"),
        (("images", 1, "label"), 10, "label outside the classes (expected 0 to 9, found val/图.JPEG (10))"),
        (("images", 0, "label"), -1, "label outside the classes (expected 0 to 9, found val/a b.JPEG (-1))"),
    ],
)
def test_no_manifest(path: tuple[Any, ...], value: Any, line: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(changed(MANIFEST_TEXT, path, value))
    assert refusal(lambda: Manifest.read(file)) == f"{file}: {line}"


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


@settings(max_examples=50)
@given(
    st.lists(st.tuples(TEXTS, st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=4, unique_by=lambda t: t[0])
)
def test_any_manifest_comes_back(tmp_path_factory: pytest.TempPathFactory, images: list[tuple[str, int, int]]) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.json"
    entries = [InputImage(text, f"val/{text}", label, size, size, [3, size, size]) for text, label, size in images]
    manifest = Manifest("imagenet", HASH, HASH, "float32", "NCHW", "npy", 10, 0, entries)
    manifest.write(path)
    assert Manifest.read(path) == manifest
    assert len(path.read_text().splitlines()) == 14 + len(images)  # a line for each image


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


# --- the tool's and the seed's own ------------------------------------------------------------------------------------


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
    ("text", "line"),
    [
        (None, "the tool left no summary; read its messages above"),
        (
            "{",
            "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1); rerun make infer",
        ),
        ("{}", "is no summary of ais_bench (found no filesinfo, NPU_compute_time, throughput)"),
        ("null", "is no summary of ais_bench (found no filesinfo, NPU_compute_time, throughput)"),
        ('{"filesinfo": {}, "throughput": 1}', "is no summary of ais_bench (found no NPU_compute_time)"),
    ],
)
def test_no_summary(text: str | None, line: str, tmp_path: Path) -> None:
    path = tmp_path / "x_summary.json"
    if text is not None:
        path.write_text(text)
    assert refusal(lambda: read_summary(path)) == f"{path}: {line}"


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


def test_result_is_the_seed_s_to_the_byte(tmp_path: Path) -> None:
    write_topn_result(tmp_path / "result.json", [0.7646, 0.86328, 0.9, 0.9197, 0.93144], 50000, 1000)
    assert (tmp_path / "result.json").read_bytes() == SEED_RESULT.encode()


@settings(max_examples=300)
@given(st.integers(1, 60_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_percentages_are_rounded_as_the_seed_s_numpy_does(counts: tuple[int, int]) -> None:
    hits, images = counts
    seeds = np.cumsum(np.array([hits, 0.0])) / images
    expected = str(round(seeds[0] * 100, 2)) + "%"
    assert topn_result([hits / images], images, 2)["value"][2]["value"] == expected


def test_halves_that_python_would_round_otherwise() -> None:
    value = topn_result([1 / 20_000, 3 / 20_000], 20_000, 2)["value"]
    assert [each["value"] for each in value[2:]] == ["0.0%", "0.02%"]
