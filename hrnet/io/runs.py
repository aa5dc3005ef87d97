"""Records of what was run: inference (kind `run`), decoding (`decode`), a speed sweep (`bench`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from hrnet.io.compiled import TensorInfo, check_dtypes
from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, from_json, read_record, to_json, write_record


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
    flipped: bool  # the inputs were flipped
    kept: int  # of them, finished by an interrupted run before: not in the times
    seconds: dict[str, Optional[float]]  # read, infer, write (None: the tool does not tell), total
    images_per_second: float  # end to end
    device: dict[str, Any]  # NPU_compute_time (ms) and throughput of the tool's summary: the device alone
    files: dict[str, list[str]]  # stem -> names of its outputs, in the output folder

    def write(self, path: AnyPath) -> None:
        write_record(path, "run", asdict(self))

    @staticmethod
    def read(path: AnyPath) -> RunRecord:
        content = read_record(path, "run", hint="run make infer")
        record: RunRecord = from_json(RunRecord, content, path, "run record")
        check_dtypes(record.outputs, path)
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
        content = read_record(path, "decode", hint="run make eval")
        record: DecodeRecord = from_json(DecodeRecord, content, path, "record")
        if record.keypoints_sha256 != sha256_file(keypoints):
            hint = f"rm {path}; make eval"
            raise FormatError("speaks of other keypoints", where=path, expected=f"the hash of {keypoints}", hint=hint)
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


def output_folder(run_record: Path) -> Path:
    """The folder of outputs that `<folder>_run.json` lies beside."""
    name = run_record.name
    if not name.endswith("_run.json"):
        raise FormatError("is not named as a run record", where=run_record, expected="<folder of outputs>_run.json")
    return run_record.with_name(name[: -len("_run.json")])
