"""The on-disk contract of the stages: docs/formats.md shows samples.
Tensors are read and written by hrnet/tensor_files.py, a prep folder's manifest by hrnet/manifest.py, the rest here.

Lists     inputs.info          `index path width height`, single spaces
          val_label.txt        `name index`
Records   JSON (hrnet/records.py) of a "kind": settings, manifest, rejected, compiled, run, bench, decode, metrics, part
The tool's <dirname>_summary.json, the seed's result.json and COCO's keypoints.json have their makers' own keys.

Every reader re-checks what it reads and raises FormatError, one line that names the file, what was expected and found.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet.files import AnyPath, sha256_file, write_text
from hrnet.records import FormatError, from_json, read_record, to_json, write_record
from hrnet.tensor_files import DTYPES

TOPN_TITLE = "Overall statistical evaluation"


# --- lists ------------------------------------------------------------------------------------------------------------

WHOLE = re.compile(r"[0-9]{1,9}")


def _read_text(path: AnyPath) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # Windows' editors put a mark in front
    except UnicodeDecodeError:
        raise FormatError("is no UTF-8 text", where=path) from None


def write_info(path: AnyPath, files: Iterable[tuple[str, int, int]]) -> int:
    """Write `index path width height` for each (path, width, height); return how many."""
    lines = []
    for index, (file, width, height) in enumerate(files):
        if re.search(r"\s", file):
            raise FormatError("an info file cannot hold a path with a space", where=file)
        lines.append(f"{index} {file} {width} {height}\n")
    write_text(path, "".join(lines))
    return len(lines)


def read_labels(path: AnyPath) -> dict[str, int]:
    """Read `name index` lines (val_label.txt, val_list.txt) as a mapping from name to class index."""
    labels: dict[str, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, _, index = line.strip().rpartition(" ")
        name = name.strip()
        if not name or not WHOLE.fullmatch(index):
            raise FormatError(f"line {number}", where=path, expected="name index", found=repr(line[:80]))
        if name in labels:
            raise FormatError(f"line {number}: a second label for {name}", where=path)
        labels[name] = int(index)
    if not labels:
        raise FormatError("holds no label", where=path, expected="lines `name index`")
    return labels


# --- records ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model, as compiled."""

    name: str
    dtype: str
    shape: list[int]  # with the batch axis; -1 where it varies

    def bytes_of_one(self) -> int:
        """Bytes of one image's part."""
        return math.prod(abs(size) for size in self.shape[1:]) * np.dtype(self.dtype).itemsize


def _check_dtypes(tensors: Sequence[TensorInfo], path: AnyPath) -> None:
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise FormatError(f"dtype of {tensor.name}", where=path, expected=", ".join(DTYPES), found=tensor.dtype)


@dataclass(frozen=True)
class Gear:
    """One of the shapes that a model with free axes was compiled for, the batch axis included."""

    input: list[int]
    outputs: list[list[int]]


@dataclass(frozen=True)
class CompiledModel:
    """What stands beside a compiled model (`<model>.json`), since an .om cannot be asked without its device:
    `atc.convert` leaves it, `atc.adopt` writes it for a model from elsewhere, `pth2onnx.static` for a TorchScript file,
    which has neither names nor sizes."""

    model_sha256: str  # of the compiled file
    source_sha256: str  # of the ONNX (or TorchScript) file; empty where none was at hand
    command: list[str]
    tool: str  # "atc", "atc.embedded", "aoe", "atc.adopt" or "pth2onnx.static"
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    gears: list[Gear]  # of a model with free axes; none for a static one
    metadata: dict[str, str]  # of that file: model, config and weights hashes, versions

    @staticmethod
    def record_path(model: AnyPath) -> Path:
        return Path(f"{model}.json")

    def takes(self, image: Sequence[int]) -> bool:
        """Whether an input of this shape, without the batch axis, can go in."""
        shapes = [gear.input for gear in self.gears] or [self.inputs[0].shape]
        return list(image) in [shape[1:] for shape in shapes]

    def output_bytes(self, image: Sequence[int]) -> list[int]:
        """Bytes of each output for one input of this shape, which the model `takes`, without the batch axis."""
        shapes = [output.shape for output in self.outputs]
        for gear in self.gears:
            if gear.input[1:] == list(image):
                shapes = gear.outputs
        return [TensorInfo(known.name, known.dtype, shape).bytes_of_one() for known, shape in zip(self.outputs, shapes)]

    def write(self, model: AnyPath) -> None:
        write_record(self.record_path(model), "compiled", asdict(self))

    @staticmethod
    def read(model: AnyPath) -> CompiledModel:
        """Read the record beside `model`, which must be the file that it speaks of."""
        path = CompiledModel.record_path(model)
        adopt = "make om TS=" if Path(model).suffix == ".ts" else "python -m atc.adopt --om "
        mend = f"if make om made it: rm {model}; make om; if it is from elsewhere: {adopt}{model}"
        content = read_record(path, "compiled", mend=mend)
        compiled: CompiledModel = from_json(CompiledModel, content, path, "record")
        _check_dtypes([*compiled.inputs, *compiled.outputs], path)
        free = any(-1 in tensor.shape for tensor in compiled.inputs)
        if free != bool(compiled.gears) or any(len(gear.outputs) != len(compiled.outputs) for gear in compiled.gears):
            expected = "one or more for free axes, each with all outputs; none for a static model"
            raise FormatError("gears", where=path, expected=expected, found=compiled.gears, mend=f"rm {model}; make om")
        if compiled.model_sha256 != sha256_file(model):
            expected = f"the hash of {model}"
            raise FormatError("speaks of another model", where=path, expected=expected, mend=mend)
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
    flipped: bool  # the inputs were mirror images
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
        record: RunRecord = from_json(RunRecord, content, path, "run record")
        _check_dtypes(record.outputs, path)
        return record


@dataclass(frozen=True)
class DecodeRecord:
    """How the people of `keypoints.json`, beside it, were found; written after them."""

    manifest_sha256: str
    model_sha256: str
    keypoints_sha256: str
    metadata: dict[str, str]  # of the model: see CompiledModel
    tool: str  # of the outputs: "ais_bench" or the runtime and its version
    flip: bool  # averaged with the outputs of the flipped images
    images: int
    people: int
    inferred: int  # images that the seconds of `infer` are of
    seconds: dict[str, float]  # `infer` by the wall, of all passes; each step of decoding, summed over processes

    @staticmethod
    def path(keypoints: AnyPath) -> Path:
        return Path(keypoints).with_suffix(".decode.json")

    def write(self, keypoints: AnyPath) -> None:
        write_record(self.path(keypoints), "decode", asdict(self))

    @staticmethod
    def read(keypoints: AnyPath) -> DecodeRecord:
        """Read the record beside `keypoints`, which must be the file that it speaks of."""
        path = DecodeRecord.path(keypoints)
        content = read_record(path, "decode", mend="run make eval")
        record: DecodeRecord = from_json(DecodeRecord, content, path, "record")
        if record.keypoints_sha256 != sha256_file(keypoints):
            mend = f"rm {path}; make eval"
            raise FormatError("speaks of other keypoints", where=path, expected=f"the hash of {keypoints}", mend=mend)
        return record


@dataclass(frozen=True)
class BenchRow:
    """One batch size or gear of a sweep; docs/formats.md says how each figure is measured."""

    batch: int
    model: str
    model_sha256: str
    device_images_per_second: float  # of all devices; no files
    image_ms: float  # 1000 over it: the older tool's ave_latency
    card_images_per_second: Optional[float]  # Ascend310 alone: a card has four devices
    batch_ms: dict[str, float]  # median, percentile(99%), mean, count of batches one after another
    images: int  # files to files
    seconds: float
    images_per_second: float
    gear: Optional[list[int]] = None  # height and width


@dataclass(frozen=True)
class BenchRecord:
    """What a sweep over batch sizes or gears found; written last."""

    metadata: dict[str, str]  # of the model: see CompiledModel
    tool: str
    devices: list[str]
    soc_version: Optional[str]  # None: this machine
    loop: int  # batches of each size
    start_in_seconds: bool  # whether `seconds` holds the tool's start and the model's loading
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: list[BenchRow]

    def write(self, path: AnyPath) -> None:
        write_record(path, "bench", to_json(self))


@dataclass(frozen=True)
class PartRecord:
    """What the server told of a file whose download stands beside it as `<file>.part`."""

    url: str
    size: Optional[int]  # of the whole file, bytes; None: the server does not tell
    etag: Optional[str]
    modified: Optional[str]  # the Last-Modified header

    @staticmethod
    def path(part: AnyPath) -> Path:
        return Path(f"{part}.json")

    def write(self, part: AnyPath) -> None:
        write_record(self.path(part), "part", asdict(self))

    @staticmethod
    def read(part: AnyPath) -> PartRecord:
        content = read_record(PartRecord.path(part), "part", mend=f"rm {part}")
        record: PartRecord = from_json(PartRecord, content, PartRecord.path(part), "part record")
        return record


def output_folder(run_record: Path) -> Path:
    """The folder of outputs that `<folder>_run.json` lies beside."""
    name = run_record.name
    if not name.endswith("_run.json"):
        raise FormatError("is not named as a run record", where=run_record, expected="<folder of outputs>_run.json")
    return run_record.with_name(name[: -len("_run.json")])


# --- COCO's own -------------------------------------------------------------------------------------------------------

PERSON = 1  # COCO's category
JOINTS = 17


def write_keypoints(path: AnyPath, people: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO keypoint results, a line for each person: `image_id`, `category_id`, `keypoints` (x, y, score of each
    joint, pixels of the image), `score`."""
    lines = [json.dumps(person) for person in people]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_keypoints(path: AnyPath) -> list[dict[str, Any]]:
    """Read COCO keypoint results; each person has an image, 51 finite numbers and a score."""
    try:
        people = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError("no keypoints", where=path, mend="run make eval") from None
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path, mend="run make eval") from None
    if not isinstance(people, list):
        raise FormatError("is no list of people", where=path, found=type(people).__name__)
    for number, person in enumerate(people):
        told = person if isinstance(person, dict) else {}
        numbers = [*told["keypoints"], told.get("score")] if isinstance(told.get("keypoints"), list) else []
        whole = len(numbers) == 3 * JOINTS + 1 and isinstance(told.get("image_id"), int)
        if not whole or not all(map(_is_finite, numbers)):
            expected = f"image_id, {3 * JOINTS} keypoints and score, finite numbers"
            raise FormatError(f"person {number}", where=path, expected=expected)
    return people


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# --- the tool's and the seed's own ------------------------------------------------------------------------------------


def read_summary(path: AnyPath) -> dict[str, Any]:
    """Read ais_bench's `<dirname>_summary.json`."""
    try:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError("the tool left no summary", where=path, mend="read its messages above") from None
    except ValueError as fault:
        raise FormatError(f"is no JSON: {fault}", where=path, mend="rerun make infer") from None
    told = summary if isinstance(summary, dict) else {}
    missing = [key for key in ("filesinfo", "NPU_compute_time", "throughput") if key not in told]
    if missing:
        raise FormatError("is no summary of ais_bench", where=path, found=f"no {', '.join(missing)}")
    return told


def outputs_by_stem(summary: Mapping[str, Any], path: AnyPath) -> dict[str, list[str]]:
    """The summary's list input -> outputs as {stem of the input: names of its outputs}."""
    outputs: dict[str, list[str]] = {}
    for sample in summary["filesinfo"].values():
        if len(sample.get("infiles", [])) != 1 or not sample.get("outfiles"):
            raise FormatError("a sample without one input and its outputs", where=path, found=sample)
        stem = os.path.basename(sample["infiles"][0]).split(".")[0]
        if stem in outputs:
            raise FormatError(f"{stem} was inferred twice", where=path)
        outputs[stem] = [os.path.basename(file) for file in sample["outfiles"]]
    return outputs


def topn_result(accuracies: Sequence[float], images: int, classes: int) -> dict[str, Any]:
    """The seed's result.json: `accuracies` are cumulative fractions of Top-1, Top-2 and so on.

    The seed rounds numpy's way, which differs from Python's at halves: 1 of 20,000 is 0.0%, not 0.01%.
    """
    value = [{"key": "Number of images", "value": str(images)}, {"key": "Number of classes", "value": str(classes)}]
    value += [
        {"key": f"Top{n} accuracy", "value": f"{np.round(np.float64(accuracy) * 100, 2)}%"}
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return {"title": TOPN_TITLE, "value": value}


def write_topn_result(path: AnyPath, accuracies: Sequence[float], images: int, classes: int) -> None:
    """Write result.json as the seed does: one line, no newline at its end."""
    write_text(path, json.dumps(topn_result(accuracies, images, classes)))
