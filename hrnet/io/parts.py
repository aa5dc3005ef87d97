"""The record of the results of one part of a data set (kind `part`).

`<TAG>/parts/3-of-16.json` is written last, after `3-of-16.predictions.jsonl` and, for pose, `3-of-16.keypoints.json`.
Of each part, `postprocess.merge` needs these files and, with REFERENCE=torch or onnx, `3-of-16.reference.json` (pose:
also `3-of-16.reference.keypoints.json`). For pose it also needs COCO's annotations. The files of a part can be copied
from another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, from_json, read_record, to_json, write_record
from hrnet.shards import Shard

# Name in error messages -> fields that must be equal in all parts of an evaluation. The first difference is reported.
IDENTITY = {
    "image list": ("listed", "list_sha256"),
    "config": ("config_sha256",),
    "weights": ("weights_sha256",),
    "compiled model": ("model", "model_sha256"),
    "input dtype": ("dtype",),
    "flip test": ("flip",),
    "tool": ("tool",),
    "code": ("code_sha256",),
}


@dataclass(frozen=True)
class Part:
    """The results of one part, or of a whole data set (part 1 of 1)."""

    shard: list[int]  # [3, 16]: part 3 of 16; numbers begin at 1
    listed: int  # images of the whole list
    list_sha256: str
    index_sha256: str  # of paths, labels, sizes and modification times of this part's images
    config_sha256: str
    weights_sha256: str  # empty if unknown
    model: str  # name of the compiled file; batch size, input dtype and precision are in the name
    model_sha256: str
    dtype: str  # of the inputs
    flip: bool
    tool: str  # "ais_bench", or the runtime and its version
    code_sha256: str  # of the code of all stages
    metadata: dict[str, str]  # of the model: see CompiledModel
    batch: int
    classes: int  # outputs of a classifier; 1 for pose
    images: int
    inferred: int  # images that seconds["infer"] covers: all but those that a killed run had finished
    seconds: dict[str, float]  # `infer`: wall time of all passes; pose: each step of decoding, summed over processes
    device_images_per_second: Optional[float]  # without file I/O
    made_from: dict[str, str]  # SHA-256 of the manifest and of the run records
    predictions_sha256: str
    keypoints_sha256: Optional[str] = None
    available: Optional[int] = None  # images in the data set, if all parts together are a subset
    rejected: int = 0  # images that could not be read
    reasons: dict[str, str] = field(default_factory=dict)  # rejected image -> why; only if there are several parts

    def __post_init__(self) -> None:
        number, count = self.shard
        assert 1 <= number <= count

    @property
    def part(self) -> Shard:
        return Shard(*self.shard)

    def identity(self, what: str) -> tuple[Any, ...]:
        """The values of the fields of one entry of IDENTITY."""
        return tuple(getattr(self, name) for name in IDENTITY[what])

    def differs(self, other: Part) -> Optional[str]:
        """The first entry of IDENTITY that differs; None if all are equal."""
        return next((what for what in IDENTITY if self.identity(what) != other.identity(what)), None)

    def write(self, path: AnyPath) -> None:
        write_record(path, "part", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> Part:
        """Read the record of a part, and check the hashes of its other files. Raises FormatError."""
        command = f"make part SHARD={Path(path).stem.replace('-of-', '/')}"
        again = f"rm {path}; {command}"
        content = read_record(path, "part", hint=f"run {command}")
        numbers = content.get("shard")
        if not (
            isinstance(numbers, list)
            and len(numbers) == 2
            and all(type(number) is int for number in numbers)
            and 1 <= numbers[0] <= numbers[1]
        ):
            raise FormatError("invalid shard", where=path, expected="[part, parts]", found=numbers, hint=again)
        record: Part = from_json(Part, content, path, "part")
        for file, expected in record.files(path).items():
            if not file.is_file():
                raise FormatError("file of a part is missing", where=file, hint=again)
            if sha256_file(file) != expected:
                raise FormatError("does not match its record", where=file, hint=again)
        return record

    def files(self, path: AnyPath) -> dict[Path, str]:
        """The files beside the record at `path`, and their hashes."""
        files = {predictions_path(path): self.predictions_sha256}
        return {**files, keypoints_path(path): self.keypoints_sha256} if self.keypoints_sha256 else files


def predictions_path(part: AnyPath) -> Path:
    return Path(part).with_suffix(".predictions.jsonl")


def keypoints_path(part: AnyPath) -> Path:
    return Path(part).with_suffix(".keypoints.json")


def reference_path(part: AnyPath) -> Path:
    """The metrics of the reference (PyTorch or the ONNX file) for the same part."""
    return Path(part).with_suffix(".reference.json")


def reference_keypoints_path(part: AnyPath) -> Path:
    return Path(part).with_suffix(".reference.keypoints.json")
