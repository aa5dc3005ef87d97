"""How a sweep times one row: a model at its own shape, or at one gear, with ais_bench or its emulator.

Each row is timed in three ways: `loop` batches of zeros without files, one after another (the latency); the same as the
tool does it by default (the rate: only the emulator computes batches side by side, so only there it is a second run);
and `loop` batches of seeded random inputs, files to files.
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

PURE = "pure_infer_data"  # ais_bench's name for the input of a run without --input
ONE_BY_ONE = ["--requests", "1"]  # to the emulator: compute one batch after another, as ais_bench does
HINT = "rerun the same command"


class Case(NamedTuple):
    """What one row is about."""

    model: Path
    compiled: CompiledModel
    shape: list[int]  # of the input, with the batch axis

    @property
    def tensor(self) -> TensorInfo:
        known = self.compiled.inputs[0]
        return TensorInfo(known.name, known.dtype, self.shape)

    @property
    def gear(self) -> Optional[list[int]]:
        """Height and width; None for a static model."""
        free = [size for size, known in zip(self.shape, self.compiled.inputs[0].shape) if known == -1]
        return free or None

    def bytes_of_all(self, images: int) -> int:
        """Bytes of the inputs and outputs of `images` images."""
        return images * (self.tensor.bytes_of_one() + sum(self.compiled.output_bytes(self.shape[1:])))


def cases(model: Path, compiled: CompiledModel) -> list[Case]:
    """The rows of one model."""
    shapes = [gear.input for gear in compiled.gears] or [compiled.inputs[0].shape]
    return [Case(model, compiled, shape) for shape in shapes]


def random_input(tensor: TensorInfo, seed: int) -> np.ndarray:
    """One image's input: normally distributed floats, or uniformly distributed integers."""
    generator, dtype, shape = np.random.default_rng(seed), np.dtype(tensor.dtype), tensor.shape[1:]
    if dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(dtype)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_inputs(folder: Path, case: Case, count: int) -> Path:
    """A directory of `count` random inputs: .bin, or, for a gear, .npy, which store their shape."""
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
    """The summaries of all devices. Raises WorkFailed if a throughput was not computed with `batch`."""
    summaries = [read_summary(path) for path in paths]
    for path, summary in zip(paths, summaries):
        rate, mean = summary["throughput"], summary["NPU_compute_time"]["mean"]
        if not math.isclose(rate, 1000 * batch / mean, rel_tol=1e-3):
            raise WorkFailed("wrong throughput", where=path, expected=f"1000 * batch {batch} / {mean}", found=rate)
    return summaries


@dataclass(frozen=True)
class Bench:
    """The tool, on which devices, and where and how often it computes."""

    tool: Tool
    devices: list[str]
    loop: int
    folder: Path  # of temporary files
    lock: int

    @property
    def outputs(self) -> list[OutputDir]:
        """The output directory of each device."""
        return [OutputDir(self.folder / f"run{i}", "BIN") for i in range(len(self.devices))]

    def run(self, case: Case, inputs: Optional[list[Path]], *options: str) -> float:
        """Run the tool on all devices at the same time, with empty output directories; return the seconds. `inputs`: a
        directory for each device."""
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
        """The devices' summaries of `loop` batches of zeros. Raises WorkFailed if the outputs are not of one batch."""
        batch = case.shape[0]
        self.run(case, None, *options)
        for output in self.outputs:
            for k, size in enumerate(case.compiled.output_bytes(case.shape[1:])):
                file = output.folder / f"{PURE}_{k}.bin"
                expected, found = batch * size, file.stat().st_size if file.exists() else "no file"
                if found != expected:
                    what = f"output not of batch {batch}"
                    raise WorkFailed(what, where=file, expected=f"{expected} bytes", found=found)
        return read_summaries([output.beside("summary.json") for output in self.outputs], batch)

    def files_to_files(self, case: Case, inputs: list[Path], counts: list[int]) -> tuple[float, ToolResult]:
        """The seconds of all inputs, files to files, and the tool's result on the first device. `inputs`: a directory
        for each device, with so many files."""
        wall = self.run(case, inputs)
        results = [run_ais_bench.collect(output) for output in self.outputs]
        for output, result, count in zip(self.outputs, results, counts):
            if len(result.files) != count:
                found = len(result.files)
                raise WorkFailed("inputs with outputs", where=output.folder, expected=count, found=found)
        return max(result.host.get("total", wall) for result in results), results[0]

    def time_case(self, case: Case, card_devices: Optional[int]) -> tuple[BenchRow, ToolResult]:
        """Time one row in all three ways."""
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
