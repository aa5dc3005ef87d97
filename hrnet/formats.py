"""The on-disk contract of the stages: the only code that reads or writes their files. docs/formats.md shows samples.

Tensors   <stem>.bin           raw little-endian values, C order, no header
          <stem>_<k>.bin|npy|txt  output k of one image, batch axis kept; txt as ais_bench prints it
Lists     inputs.info          `index path width height`, single spaces
          val_label.txt        `name index`
Records   JSON (hrnet/records.py) of a "kind": settings, manifest, rejected, compiled, run, bench, decode, metrics, part
The tool's <dirname>_summary.json, the seed's result.json and COCO's keypoints.json have their makers' own keys.

Every reader re-checks what it reads and raises FormatError, one line that names the file, what was expected and found.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hrnet import fast_read
from hrnet.cli import UserError, first_few
from hrnet.files import AnyPath, sha256_file, write_text, write_whole
from hrnet.records import FormatError, from_json, read_record, record_text, to_json, write_record

OUTPUT_FORMATS = ("BIN", "NPY", "TXT")
DTYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")
INPUT_LAYOUTS = {"float32": "NCHW", "uint8": "NHWC"}  # by dtype: normalised planes, or the pixels themselves
NPY_HEADER = 128  # bytes before the values, as numpy writes it from 1.14 on for a tensor of a few axes
MAX_STEM = 200  # characters; a file name may have 255 bytes, and endings and temporary names come on top
TOPN_TITLE = "Overall statistical evaluation"


# --- names ------------------------------------------------------------------------------------------------------------


def safe_stems(sources: Sequence[str]) -> list[str]:
    """One unique file stem for each image path: letters, digits, `_` and `-` only, since ais_bench refuses other
    characters in a path and cuts a name at its first dot.

    `val/a b.JPEG` gives `a_b`; `val/n01440764/x.JPEG` gives `n01440764_x`; a clash gets `-2`, `-3` and so on in order.
    """
    taken: dict[str, int] = {}  # stem -> the number that its last clash got
    stems = []
    for source in sources:
        parts = Path(source).with_suffix("").parts
        wished = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(parts[-2:] if len(parts) > 2 else parts[-1:]))[:MAX_STEM]
        stem, number = wished, taken.get(wished, 1)
        while stem in taken:
            number += 1
            stem = f"{wished}-{number}"
        taken[wished] = number
        taken[stem] = 1
        stems.append(stem)
    return stems


# --- tensors ----------------------------------------------------------------------------------------------------------


def input_shape(dtype: str, width: int, height: int) -> list[int]:
    """The shape of an input file, without the batch axis: [3, H, W] of float32, [H, W, 3] of uint8; sizes in pixels."""
    return [3, height, width] if INPUT_LAYOUTS[dtype] == "NCHW" else [height, width, 3]


def write_bin(path: AnyPath, tensor: np.ndarray) -> None:
    """Write raw little-endian values in C order, no header, in one step."""
    tensor = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    write_whole(path, tensor.data)


def npy_header(dtype: str, shape: Sequence[int]) -> bytes:
    """What stands before the values of an npy file; with them, its size is known before it is written."""
    buffer = io.BytesIO()
    told = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


def write_npy(path: AnyPath, tensor: np.ndarray) -> None:
    """Write little-endian values in C order as npy, in one step and without a second copy of them in memory."""
    tensor = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    write_whole(path, npy_header(tensor.dtype.name, tensor.shape), tensor.data)


def text_of(tensor: np.ndarray) -> str:
    """A tensor as ais_bench writes TXT: the last axis in a line, `%f` or `%d`, a space after each value."""
    pattern = "%d " if np.issubdtype(tensor.dtype, np.integer) else "%f "
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
    return "".join(pattern * row.size % tuple(row.tolist()) + "\n" for row in rows)


def read_txt(path: AnyPath, mend: Optional[str] = None) -> np.ndarray:
    """Read a TXT output as float32 [rows, last axis]."""
    text = Path(path).read_bytes()
    line = fast_read.parse_line(text)
    if line is not None:
        return line[None]
    try:
        rows = [np.array(line.split(), dtype=np.float32) for line in text.splitlines() if line.strip()]
    except ValueError:
        raise FormatError("is no table of numbers", where=path, mend=mend) from None
    if not rows:
        raise FormatError("holds no number", where=path, mend=mend)
    if len({row.size for row in rows}) != 1:
        found = sorted({row.size for row in rows})
        raise FormatError("rows differ in length", where=path, found=found, mend=mend)
    return np.stack(rows)


def read_output(path: AnyPath, dtype: str = "float32", mend: Optional[str] = None) -> np.ndarray:
    """Read one output of one image, by its ending; a bin comes back flat, since it holds no shape. `mend` is the
    command that would make the outputs anew."""
    path = Path(path)
    try:
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            if array.dtype.kind not in "fiu":
                raise FormatError("is no tensor of numbers", where=path, found=array.dtype.name, mend=mend)
            return array
        if path.suffix == ".txt":
            return read_txt(path, mend)
        if path.suffix == ".bin":
            size = path.stat().st_size
            if size == 0 or size % np.dtype(dtype).itemsize:
                raise FormatError(f"is no {dtype} tensor", where=path, found=f"{size} bytes", mend=mend)
            return np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"))
    except FileNotFoundError:
        raise FormatError("output is missing", where=path, mend=mend) from None
    except (ValueError, EOFError) as fault:
        raise FormatError(f"is no readable output: {fault}", where=path, mend=mend) from None
    raise FormatError("unknown kind of output", where=path, expected="bin, npy or txt")


def write_output(path: AnyPath, tensor: np.ndarray) -> None:
    """Write one output of one image in the format of its ending, in one step."""
    path = Path(path)
    if path.suffix == ".bin":
        write_bin(path, tensor)
    elif path.suffix == ".txt":
        write_text(path, text_of(tensor))
    else:
        write_npy(path, tensor)


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
class InputImage:
    """One image of a manifest: where it came from and the file that stands for it."""

    stem: str
    source: str  # relative to the dataset's folder
    label: Optional[int]  # index of the class; None for COCO
    width: int  # of the source image, pixels
    height: int
    shape: list[int]  # of the input tensor, without the batch axis
    image_id: Optional[int] = None  # COCO's; None for ImageNet, and so are the next two
    center: Optional[list[float]] = None  # where the input's middle lies in the source image, pixels
    scale: Optional[list[float]] = None  # width and height of what the input shows of it, in units of 200 pixels

    def sides(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        height, width = self.shape[1:] if self.shape[0] == 3 else self.shape[:2]
        return height, width


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
    flipped: bool = False  # the inputs are mirror images

    def labels(self) -> list[int]:
        """The class of each image. Raises UserError for a data set that has none."""
        labels = [image.label for image in self.images if image.label is not None]
        if len(labels) != len(self.images):
            raise UserError(f"a manifest of {self.dataset} has no labels", mend="give that of a classification set")
        return labels

    def sha256(self) -> str:
        """The hash of the file that `write` writes."""
        return hashlib.sha256(record_text("manifest", to_json(self)).encode()).hexdigest()

    def mirrored(self) -> Manifest:
        """The manifest of these images' mirror images."""
        return replace(self, flipped=True)

    def write(self, path: AnyPath) -> None:
        write_record(path, "manifest", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> Manifest:
        """Read a manifest: stems are unique, and each image has what its kind of data set needs."""
        content = read_record(path, "manifest", mend="run make preprocess")
        manifest: Manifest = from_json(Manifest, content, path, "manifest")
        if not manifest.images:
            raise FormatError("manifest of no image", where=path, mend="run make preprocess")
        _check_unique("a stem", (image.stem for image in manifest.images), path)
        if manifest.dataset == "imagenet":
            _check_labels(manifest, path)
        elif manifest.dataset == "coco":
            _check_places(manifest, path)
        else:
            raise FormatError("kind of data set", where=path, expected="imagenet or coco", found=manifest.dataset)
        return manifest


def _check_unique(what: str, values: Iterable[object], path: AnyPath) -> None:
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise FormatError(f"{what} stands twice", where=path, found=first_few(twice))


def _check_labels(manifest: Manifest, path: AnyPath) -> None:
    labelled = [(image.source, image.label) for image in manifest.images]
    outside = [f"{name} ({label})" for name, label in labelled if label is None or not 0 <= label < manifest.classes]
    if outside:
        expected = f"0 to {manifest.classes - 1}"
        raise FormatError("label outside the classes", where=path, expected=expected, found=first_few(outside))


def _check_places(manifest: Manifest, path: AnyPath) -> None:
    def placed(image: InputImage) -> bool:
        center, scale = image.center or [], image.scale or []
        return image.image_id is not None and len(center) == len(scale) == 2 and min(scale) > 0

    without = [image.source for image in manifest.images if not placed(image)]
    if without:
        expected = "image_id, two numbers of center and two above 0 of scale"
        raise FormatError("images without their place", where=path, expected=expected, found=first_few(without))
    _check_unique("an image_id", (image.image_id for image in manifest.images), path)


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
    `atc.convert` leaves it, `atc.adopt` writes it for a model from elsewhere."""

    model_sha256: str  # of the compiled file
    source_sha256: str  # of the ONNX file; empty where none was at hand
    command: list[str]
    tool: str  # "atc", "atc.embedded", "aoe" or "atc.adopt"
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    gears: list[Gear]  # of a model with free axes; none for a static one
    metadata: dict[str, str]  # of the ONNX file: model, config and weights hashes, versions

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
        mend = f"if make om made it: rm {model}; make om; if it is from elsewhere: python -m atc.adopt --om {model}"
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
    """One batch size of a sweep; docs/formats.md says how each figure is measured."""

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


@dataclass(frozen=True)
class BenchRecord:
    """What a sweep over batch sizes found; written last."""

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
        write_record(path, "bench", asdict(self))


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
