"""The on-disk contract of the stages: the only code that reads or writes their files. docs/formats.md shows samples.

Tensors   <stem>.bin           raw little-endian values, C order, no header
          <stem>_<k>.bin|npy|txt  output k of one image, batch axis kept; txt as ais_bench prints it
Lists     inputs.info          `index path width height`, single spaces
          val_label.txt        `name index`
Records   JSON with "kind" and "format_version": settings, manifest, rejected, compiled, run, metrics
The tool's <dirname>_summary.json and the seed's result.json have the tool's and the seed's own keys.

Every reader re-checks what it reads and raises FormatError, one line that names the file, what was expected and found.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.cli import UserError, first_few
from hrnet.files import AnyPath, replacing, sha256_file, write_text

FORMAT_VERSION = 1
OUTPUT_FORMATS = ("BIN", "NPY", "TXT")
TOPN_TITLE = "Overall statistical evaluation"


class FormatError(UserError):
    """A file that is not what its reader needs."""


# --- names ------------------------------------------------------------------------------------------------------------


def safe_stems(sources: Sequence[str]) -> list[str]:
    """One unique file stem for each image path: letters, digits, `_` and `-` only, since ais_bench refuses other
    characters in a path and cuts a name at its first dot.

    `val/a b.JPEG` gives `a_b`; `val/n01440764/x.JPEG` gives `n01440764_x`; a clash gets `-2`, `-3` and so on in order.
    """
    taken: set[str] = set()
    stems = []
    for source in sources:
        parts = Path(source).with_suffix("").parts
        wished = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(parts[-2:] if len(parts) > 2 else parts[-1:]))
        stem, number = wished, 1
        while stem in taken:
            number += 1
            stem = f"{wished}-{number}"
        taken.add(stem)
        stems.append(stem)
    return stems


# --- tensors ----------------------------------------------------------------------------------------------------------


def write_bin(path: AnyPath, tensor: np.ndarray) -> None:
    """Write raw little-endian values in C order, no header, in one step."""
    tensor = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    with replacing(path) as temporary:
        tensor.tofile(temporary)


def read_bin(path: AnyPath, dtype_name: str, shape: Sequence[int]) -> np.ndarray:
    """Read a file of `write_bin`; its size must be that of `shape`."""
    dtype = np.dtype(dtype_name).newbyteorder("<")
    expected = math.prod(shape) * dtype.itemsize
    found = os.stat(path).st_size
    if found != expected:
        raise FormatError(
            "size does not fit the tensor",
            where=path,
            expected=f"{expected} bytes for {dtype.name}{list(shape)}",
            found=found,
        )
    return np.fromfile(path, dtype=dtype).reshape(shape)


def text_of(tensor: np.ndarray) -> str:
    """A tensor as ais_bench writes TXT: the last axis in a line, `%f` or `%d`, a space after each value."""
    pattern = "%d " if np.issubdtype(tensor.dtype, np.integer) else "%f "
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
    return "".join(pattern * row.size % tuple(row.tolist()) + "\n" for row in rows)


def read_txt(path: AnyPath) -> np.ndarray:
    """Read a TXT output as float32 [rows, last axis]."""
    lines = Path(path).read_bytes().splitlines()
    try:
        rows = [np.array(line.split(), dtype=np.float32) for line in lines if line.strip()]
    except ValueError:
        raise FormatError("is no table of numbers", where=path) from None
    if not rows or len({row.size for row in rows}) != 1:
        raise FormatError("rows differ in length", where=path, found=sorted({row.size for row in rows}))
    return np.stack(rows)


def read_output(path: AnyPath, dtype: str = "float32") -> np.ndarray:
    """Read one output of one image, by its ending; a bin comes back flat, since it holds no shape."""
    path = Path(path)
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".txt":
            return read_txt(path)
        if path.suffix == ".bin":
            size = path.stat().st_size
            if size == 0 or size % np.dtype(dtype).itemsize:
                raise FormatError(f"is no {dtype} tensor", where=path, found=f"{size} bytes")
            return np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"))
    except FileNotFoundError:
        raise FormatError("output is missing", where=path, mend="rerun make infer") from None
    except (ValueError, EOFError) as fault:
        raise FormatError(f"is no readable output: {fault}", where=path) from None
    raise FormatError("unknown kind of output", where=path, expected="bin, npy or txt")


def write_output(path: AnyPath, tensor: np.ndarray) -> None:
    """Write one output of one image in the format of its ending, in one step."""
    path = Path(path)
    if path.suffix == ".bin":
        write_bin(path, tensor)
    elif path.suffix == ".txt":
        write_text(path, text_of(tensor))
    else:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, tensor)


# --- lists ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InfoLine:
    """One line of an info file: index, path, width and height in pixels."""

    index: int
    path: str
    width: int
    height: int


def write_info(path: AnyPath, files: Iterable[tuple[str, int, int]]) -> int:
    """Write `index path width height` for each (path, width, height); return how many."""
    lines = []
    for index, (file, width, height) in enumerate(files):
        if re.search(r"\s", file):
            raise FormatError("an info file cannot hold a path with a space", where=file)
        lines.append(f"{index} {file} {width} {height}\n")
    write_text(path, "".join(lines))
    return len(lines)


def read_info(path: AnyPath) -> list[InfoLine]:
    """Read an info file; its indices must count from 0."""
    entries = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines()):
        parts = line.split(" ")
        if len(parts) != 4 or not all(part.isdigit() for part in (parts[0], parts[2], parts[3])):
            raise FormatError(f"line {number + 1}", where=path, expected="index path width height", found=repr(line))
        if int(parts[0]) != number:
            raise FormatError(f"line {number + 1}: index", where=path, expected=number, found=parts[0])
        entries.append(InfoLine(number, parts[1], int(parts[2]), int(parts[3])))
    return entries


def read_labels(path: AnyPath) -> dict[str, int]:
    """Read `name index` lines (val_label.txt, val_list.txt) as a mapping from name to class index."""
    labels: dict[str, int] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, _, index = line.strip().rpartition(" ")
        if not name or not index.isdigit():
            raise FormatError(f"line {number}", where=path, expected="name index", found=repr(line))
        if name.strip() in labels:
            raise FormatError(f"line {number}: a second label for {name.strip()}", where=path)
        labels[name.strip()] = int(index)
    if not labels:
        raise FormatError("holds no label", where=path, expected="lines `name index`")
    return labels


# --- records ----------------------------------------------------------------------------------------------------------


def write_record(path: AnyPath, kind: str, content: Mapping[str, Any]) -> None:
    """Write a JSON record with its kind and format version, in one step."""
    write_text(path, _lines({"kind": kind, "format_version": FORMAT_VERSION, **content}))


def _lines(record: Mapping[str, Any]) -> str:
    """JSON with a line for each key, and for each entry below it: a manifest of 50,000 images stays greppable."""

    def value_text(value: Any) -> str:
        if isinstance(value, dict) and value:
            return (
                "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n }"
            )
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {value_text(value)}" for key, value in record.items()) + "\n}\n"


def read_record(path: AnyPath, kind: str, mend: Optional[str] = None) -> dict[str, Any]:
    """Read a JSON record of one kind; `mend` is the command that would write it."""
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"no {kind} record", where=path, mend=mend)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path, mend=mend) from None
    found = content.get("kind") if isinstance(content, dict) else type(content).__name__
    if found != kind:
        raise FormatError("is another record", where=path, expected=f"kind {kind!r}", found=repr(found), mend=mend)
    if content.get("format_version") != FORMAT_VERSION:
        found = content.get("format_version")
        raise FormatError("format version", where=path, expected=FORMAT_VERSION, found=found, mend=mend)
    return content


def _build(record_type: Any, values: Mapping[str, Any], path: AnyPath, what: str) -> Any:
    names = set(record_type.__dataclass_fields__)
    given = set(values) - {"kind", "format_version"}
    if given != names:
        wrong = [f"{name} missing" for name in sorted(names - given)]
        wrong += [f"{name} unknown" for name in sorted(given - names)]
        raise FormatError(f"{what} has other keys", where=path, found=", ".join(wrong))
    return record_type(**{name: values[name] for name in names})


@dataclass(frozen=True)
class InputImage:
    """One image of a manifest: where it came from and the file that stands for it."""

    stem: str
    source: str  # relative to the dataset's folder
    label: int
    width: int  # of the source image, pixels
    height: int
    shape: list[int]  # of the input tensor, without the batch axis


@dataclass(frozen=True)
class Manifest:
    """What a prep folder holds; written last, so that its presence means that the folder is whole."""

    dataset: str
    config_sha256: str
    index_sha256: str  # of the paths, labels, sizes and times of all images
    dtype: str
    layout: str
    suffix: str  # of the input files: bin or npy
    classes: int
    rejected: int
    images: list[InputImage] = field(repr=False)

    def write(self, path: AnyPath) -> None:
        write_record(path, "manifest", asdict(self))

    @staticmethod
    def read(path: AnyPath) -> Manifest:
        """Read a manifest; stems are unique, labels lie within the classes."""
        content = read_record(path, "manifest", mend="run make preprocess")
        images = [_build(InputImage, entry, path, f"image {i}") for i, entry in enumerate(content.get("images", []))]
        manifest: Manifest = _build(Manifest, {**content, "images": images}, path, "manifest")
        if not images:
            raise FormatError("manifest of no image", where=path, mend="run make preprocess")
        stems = {image.stem for image in images}
        if len(stems) != len(images):
            raise FormatError("a stem stands twice", where=path)
        outside = [f"{image.source} ({image.label})" for image in images if not 0 <= image.label < manifest.classes]
        if outside:
            expected = f"0 to {manifest.classes - 1}"
            raise FormatError("label outside the classes", where=path, expected=expected, found=first_few(outside))
        return manifest


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model, as compiled."""

    name: str
    dtype: str
    shape: list[int]  # with the batch axis; -1 where it varies

    def bytes_of_one(self) -> int:
        """Bytes of one image's part."""
        return math.prod(abs(size) for size in self.shape[1:]) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class CompiledModel:
    """What `atc.convert` leaves beside its model (`<model>.json`), since an .om cannot be asked without its device."""

    model_sha256: str  # of the compiled file
    source_sha256: str  # of the ONNX file
    command: list[str]
    tool: str  # "atc" or "atc.embedded"
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    metadata: dict[str, str]  # of the ONNX file: model, config and weights hashes, versions

    @staticmethod
    def record_path(model: AnyPath) -> Path:
        return Path(f"{model}.json")

    def write(self, model: AnyPath) -> None:
        write_record(self.record_path(model), "compiled", asdict(self))

    @staticmethod
    def read(model: AnyPath) -> CompiledModel:
        """Read the record beside `model`, which must be the file that it speaks of."""
        path = CompiledModel.record_path(model)
        content = read_record(path, "compiled", mend="run make om")
        tensors = {
            key: [_build(TensorInfo, entry, path, key) for entry in content.get(key, [])]
            for key in ("inputs", "outputs")
        }
        compiled: CompiledModel = _build(CompiledModel, {**content, **tensors}, path, "record")
        if compiled.model_sha256 != sha256_file(model):
            raise FormatError(
                "speaks of another model", where=path, expected=f"the hash of {model}", mend="run make om"
            )
        return compiled


@dataclass(frozen=True)
class RunRecord:
    """What one `infer` run did; written last."""

    model: str
    model_sha256: str
    manifest_sha256: str
    metadata: dict[str, str]  # of the model: see CompiledModel
    tool: str  # "ais_bench" or the runtime and its version
    command: list[str]
    outputs: list[TensorInfo]
    batch: int
    images: int
    kept: int  # of them, finished by an interrupted run before: not in the times
    seconds: dict[str, Optional[float]]  # read, infer, write (None: the tool does not tell), total
    images_per_second: float  # end to end
    device: dict[str, Any]  # NPU_compute_time (ms) and throughput of the tool's summary: the device alone
    files: dict[str, list[str]]  # stem -> names of its outputs, in the output folder

    def write(self, path: AnyPath) -> None:
        write_record(path, "run", asdict(self))

    @staticmethod
    def read(path: AnyPath) -> RunRecord:
        content = read_record(path, "run", mend="run make infer")
        outputs = [_build(TensorInfo, entry, path, "outputs") for entry in content.get("outputs", [])]
        record: RunRecord = _build(RunRecord, {**content, "outputs": outputs}, path, "run record")
        return record


# --- the tool's and the seed's own ------------------------------------------------------------------------------------


def read_summary(path: AnyPath) -> dict[str, Any]:
    """Read ais_bench's `<dirname>_summary.json`."""
    try:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError("the tool left no summary", where=path, mend="read its messages above") from None
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path, mend="rerun make infer") from None
    missing = [key for key in ("filesinfo", "NPU_compute_time", "throughput") if key not in summary]
    if missing:
        raise FormatError("is no summary of ais_bench", where=path, found=f"no {', '.join(missing)}")
    return summary


def outputs_by_stem(summary: Mapping[str, Any], path: AnyPath) -> dict[str, list[str]]:
    """The summary's list input -> outputs as {stem of the input: names of its outputs}."""
    outputs: dict[str, list[str]] = {}
    for sample in summary["filesinfo"].values():
        if len(sample["infiles"]) != 1 or not sample["outfiles"]:
            raise FormatError("a sample without one input and its outputs", where=path, found=sample)
        stem = os.path.basename(sample["infiles"][0]).split(".")[0]
        if stem in outputs:
            raise FormatError(f"{stem} was inferred twice", where=path)
        outputs[stem] = [os.path.basename(file) for file in sample["outfiles"]]
    return outputs


def topn_result(accuracies: Sequence[float], images: int, classes: int) -> dict[str, Any]:
    """The seed's result.json: `accuracies` are cumulative fractions of Top-1, Top-2 and so on."""
    value = [{"key": "Number of images", "value": str(images)}, {"key": "Number of classes", "value": str(classes)}]
    value += [
        {"key": f"Top{n} accuracy", "value": f"{round(float(accuracy) * 100, 2)}%"}
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return {"title": TOPN_TITLE, "value": value}


def write_topn_result(path: AnyPath, accuracies: Sequence[float], images: int, classes: int) -> None:
    """Write result.json as the seed does: one line, no newline at its end."""
    write_text(path, json.dumps(topn_result(accuracies, images, classes)))
