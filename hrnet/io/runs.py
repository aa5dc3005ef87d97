"""Records of an inference run (kind `run`) and of a speed sweep (kind `bench`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from hrnet.io.compiled import TensorInfo, check_dtypes
from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError, from_json, read_record, to_json, write_record


@dataclass(frozen=True)
class RunRecord:
    """The result of one inference run; written last."""

    model: str
    model_sha256: str
    manifest_sha256: str
    metadata: dict[str, str]  # of the model: see CompiledModel
    tool: str  # "ais_bench", or the runtime and its version
    command: list[str]
    outputs: list[TensorInfo]
    batch: int
    images: int
    flipped: bool  # the inputs were flipped
    kept: int  # images that an interrupted run had finished; the times do not include them
    seconds: dict[str, Optional[float]]  # read, infer, write (None: not in the tool's summary), total
    images_per_second: float  # end to end
    device: dict[str, Any]  # NPU_compute_time (ms) and throughput of the tool's summary, without file I/O
    files: dict[str, list[str]]  # stem -> names of its outputs, in the output directory

    def write(self, path: AnyPath) -> None:
        write_record(path, "run", asdict(self))

    @staticmethod
    def read(path: AnyPath) -> RunRecord:
        content = read_record(path, "run", hint="run make infer")
        record: RunRecord = from_json(RunRecord, content, path, "run record")
        check_dtypes(record.outputs, path)
        return record


@dataclass(frozen=True)
class BenchRow:
    """One batch size or gear of a sweep; docs/formats.md defines the figures."""

    batch: int
    model: str
    model_sha256: str
    device_images_per_second: float  # all devices, without file I/O
    image_ms: float  # 1000 / device_images_per_second; benchmark.x86_64 calls it ave_latency
    card_images_per_second: Optional[float]  # only for Ascend310, whose card has four devices
    batch_ms: dict[str, float]  # median, percentile(99%), mean, count; one batch at a time
    images: int  # this and the next two: of a run with file I/O, from input files to output files
    seconds: float
    images_per_second: float
    gear: Optional[list[int]] = None  # height and width


@dataclass(frozen=True)
class BenchRecord:
    """The result of a sweep over batch sizes or gears; written last."""

    metadata: dict[str, str]  # of the model: see CompiledModel
    tool: str
    devices: list[str]
    soc_version: Optional[str]  # None if not on an NPU
    loop: int  # batches of each size
    seconds_include_start: bool  # whether `seconds` include the tool's start and model loading
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: list[BenchRow]

    def write(self, path: AnyPath) -> None:
        write_record(path, "bench", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> BenchRecord:
        content = read_record(path, "bench", hint="run make bench")
        record: BenchRecord = from_json(BenchRecord, content, path, "bench record")
        return record


def output_folder(run_record: Path) -> Path:
    """The output directory of the run record `<directory>_run.json`."""
    name = run_record.name
    if not name.endswith("_run.json"):
        raise FormatError("wrong name of a run record", where=run_record, expected="<output directory>_run.json")
    return run_record.with_name(name[: -len("_run.json")])
