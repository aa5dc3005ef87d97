"""Measure one row of the benchmark, which is a static model or one gear of a model, with ais_bench or the emulator.

Each row has three measurements. Latency: `loop` batches of zeros without file I/O, one after another. Rate: the same
with the tool's default options; ais_bench needs no second run for this, since only the emulator computes batches in
parallel. Files to files: `loop` batches of random inputs with a fixed seed.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from hrnet.cli import WorkFailed
from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import make_folder
from hrnet.io.runs import BenchRow
from hrnet.io.summary import read_summary
from infer import run_ais_bench
from infer.output_dir import OutputDir
from infer.run_ais_bench import Tool, ToolResult

PURE = "pure_infer_data"  # ais_bench's file name for outputs of a run without --input
ONE_BY_ONE = ["--requests", "1"]  # option of the emulator: compute one batch after another, as ais_bench does
HINT = "rerun the same command"


class Case(NamedTuple):
    """The model and input shape of one row."""

    model: Path
    compiled: CompiledModel
    shape: list[int]  # input shape with the batch axis

    @property
    def tensor(self) -> TensorInfo:
        declared = self.compiled.inputs[0]
        return TensorInfo(declared.name, declared.dtype, self.shape)

    @property
    def gear(self) -> Optional[list[int]]:
        """Height and width; None for a static model."""
        dynamic = [size for size, declared in zip(self.shape, self.compiled.inputs[0].shape) if declared == -1]
        return dynamic or None

    def bytes_of_all(self, images: int) -> int:
        """Size in bytes of the inputs and outputs of `images` images."""
        return images * (self.tensor.bytes_of_one() + sum(self.compiled.output_bytes(self.shape[1:])))


def cases(model: Path, compiled: CompiledModel) -> list[Case]:
    """The rows of one model."""
    shapes = [gear.input for gear in compiled.gears] or [compiled.inputs[0].shape]
    return [Case(model, compiled, shape) for shape in shapes]


def random_input(tensor: TensorInfo, seed: int) -> np.ndarray:
    """A random input for one image: normally distributed floats, or uniformly distributed integers."""
    generator, dtype, shape = np.random.default_rng(seed), np.dtype(tensor.dtype), tensor.shape[1:]
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_inputs(folder: Path, case: Case, count: int) -> Path:
    """Write `count` random inputs to `folder`: .bin for static models, .npy for gears, since .npy includes the
    shape."""
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    for i in range(count):
        values = random_input(case.tensor, i)
        if case.gear:
            tensors.write_npy(folder / f"random{i}.npy", values[None])
        else:
            tensors.write_bin(folder / f"random{i}.bin", values)
    return folder


def read_summaries(paths: list[Path], batch: int) -> list[dict[str, Any]]:
    """Read the summaries of all devices. Raises WorkFailed if a throughput was not computed with batch size `batch`."""
    summaries = [read_summary(path) for path in paths]
    for path, summary in zip(paths, summaries):
        rate, mean = summary["throughput"], summary["NPU_compute_time"]["mean"]
        if not math.isclose(rate, 1000 * batch / mean, rel_tol=1e-3):
            raise WorkFailed("wrong throughput", where=path, expected=f"1000 * batch {batch} / {mean}", found=rate)
    return summaries


@dataclass(frozen=True)
class Bench:
    """Runs the tool on all devices."""

    tool: Tool
    devices: list[str]
    loop: int  # batches per measurement
    folder: Path  # for temporary files
    lock: int  # file descriptor that the tool inherits

    @property
    def outputs(self) -> list[OutputDir]:
        """The output directory of each device."""
        return [OutputDir(self.folder / f"run{i}", "BIN") for i in range(len(self.devices))]

    def run(self, case: Case, inputs: Optional[list[Path]], *options: str) -> float:
        """Run the tool on all devices at the same time, with empty output directories; return the seconds. `inputs`:
        one directory per device."""
        dims = f"{case.tensor.name}:{','.join(map(str, case.shape))}" if case.gear and inputs is None else None
        commands = []
        for i, (device, output) in enumerate(zip(self.devices, self.outputs)):
            output.clear()
            command_line = run_ais_bench.build_command(
                [*self.tool.start, *options],
                case.model,
                inputs[i] if inputs else None,
                output,
                case.shape[0],
                device,
                self.loop,
                gears=bool(case.gear and inputs),
                dims=dims,
            )
            commands.append(command_line)
        return run_ais_bench.execute(commands, [self.lock], HINT)

    def pure(self, case: Case, *options: str) -> list[dict[str, Any]]:
        """Compute `loop` batches of zeros and return the devices' summaries. Raises WorkFailed if the outputs have
        another size than one batch."""
        batch = case.shape[0]
        self.run(case, None, *options)
        for output in self.outputs:
            for k, size in enumerate(case.compiled.output_bytes(case.shape[1:])):
                file = output.folder / f"{PURE}_{k}.bin"
                expected, found = batch * size, file.stat().st_size if file.exists() else "no file"
                if found != expected:
                    what = f"wrong output size for batch size {batch}"
                    raise WorkFailed(what, where=file, expected=f"{expected} bytes", found=found)
        return read_summaries([output.beside("summary.json") for output in self.outputs], batch)

    def files_to_files(self, case: Case, inputs: list[Path], counts: list[int]) -> tuple[float, ToolResult]:
        """Infer all inputs; return the seconds and the tool's result for the first device. `inputs`: one directory per
        device; `counts`: their numbers of files."""
        wall = self.run(case, inputs)
        results = [run_ais_bench.collect(output) for output in self.outputs]
        for output, result, count in zip(self.outputs, results, counts):
            if len(result.files) != count:
                found = len(result.files)
                raise WorkFailed("wrong number of inferred inputs", where=output.folder, expected=count, found=found)
        return max(result.host.get("total", wall) for result in results), results[0]

    def measure(self, case: Case, card_devices: Optional[int]) -> tuple[BenchRow, ToolResult]:
        """Make the three measurements of one row. `card_devices`: devices per card, None if there is no NPU card."""
        batch, images = case.shape[0], case.shape[0] * self.loop
        emulated = bool(self.tool.modules)
        alone = self.pure(case, *(ONE_BY_ONE if emulated else ()))
        summaries = self.pure(case) if emulated else alone
        rate = sum(summary["throughput"] for summary in summaries)
        slowest = max((summary["NPU_compute_time"] for summary in alone), key=lambda time: time["median"])
        devices = len(self.devices)
        counts = [(i + 1) * images // devices - i * images // devices for i in range(devices)]
        folders = [write_inputs(self.folder / f"inputs{i}", case, count) for i, count in enumerate(counts)]
        seconds, result = self.files_to_files(case, folders, counts)
        row = BenchRow(
            batch=batch,
            model=str(case.model),
            model_sha256=case.compiled.model_sha256,
            device_images_per_second=rate,
            image_ms=1000 / rate,
            card_images_per_second=rate / len(self.devices) * card_devices if card_devices else None,
            batch_ms={key: slowest[key] for key in ("median", "percentile(99%)", "mean", "count")},
            images=images,
            seconds=seconds,
            images_per_second=images / seconds,
            gear=case.gear,
        )
        return row, result
