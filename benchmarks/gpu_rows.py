"""The measurements of benchmarks.gpu: inference in one mode, and one epoch of training."""

from __future__ import annotations

import copy
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import nn

from benchmarks.calibration import calibrate
from hrnet.cli import cores
from train import loop, recipe
from train.batches import SEED, training_batches
from train.classification.task import ClassificationTask
from train.distributed import DistributedContext

NOISE = 2  # images that calibrate batch norm
WARM_UP = 4  # calls before the timed ones: cuDNN selects its algorithms, torch.compile records a CUDA graph
ROUND = 0.1  # minimum seconds of a round
EPOCHS = 2  # the last one is timed; in the first one workers start, and cuDNN selects its algorithms

Net = Callable[[torch.Tensor], Any]


def plain(net: Net, image: torch.Tensor) -> Net:
    return net


def captured(net: Net, image: torch.Tensor) -> Net:
    """The network as a CUDA graph for images like `image`. Each call overwrites the outputs of the previous one."""
    static, stream, graph = image.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            net(static)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        outputs = net(static)

    def replay(image: torch.Tensor) -> Any:
        static.copy_(image)
        graph.replay()
        return outputs

    return replay


def compiled(net: Net, image: torch.Tensor) -> Net:
    """The network compiled by torch for images like `image`; on a GPU also as CUDA graphs."""
    torch.compiler.reset()
    return torch.compile(net, dynamic=False, mode="reduce-overhead")


class Mode(NamedTuple):
    """How a network is run. `tf32`: whether float32 products are computed in TF32. `limit`: the largest allowed
    difference from float32 on the CPU, relative to the largest value of the output."""

    label: str
    dtype: torch.dtype
    layout: torch.memory_format
    tf32: bool
    wrap: Callable[[Net, torch.Tensor], Net]
    limit: float


# Rounding alone changes the outputs of HigherHRNet-W32 with random weights by 0.12 in float16 and by 0.09 in TF32. The
# same network with rounded values on a CPU gives 0.10 and 0.08.
_ROUNDED = 0.25
_FAST = (torch.float16, torch.channels_last, False)
MODES = {
    "float32": Mode("float32", torch.float32, torch.contiguous_format, False, plain, 1e-3),
    "tf32": Mode("float32 with TF32 products", torch.float32, torch.contiguous_format, True, plain, _ROUNDED),
    "float16": Mode("float16, channels last", *_FAST, plain, _ROUNDED),
    "graph": Mode("float16, channels last, CUDA graph", *_FAST, captured, _ROUNDED),
    "compile": Mode("float16, channels last, torch.compile", *_FAST, compiled, _ROUNDED),
}


@dataclass
class Row:
    network: str
    batch: int
    mode: str
    images_per_second: float  # the median over the rounds
    milliseconds: list[float]  # of a batch, in each round; training: of the timed epoch
    difference: Optional[float] = None  # largest one from float32 on the CPU, relative to the largest value
    error: str = ""  # what is wrong with the outputs
    seconds: float = 0.0  # of the whole row, with its preparation


class Network:
    """A network with seeded weights on the CPU, its images, and their float32 outputs."""

    def __init__(self, name: str, net: nn.Module, size: list[int]) -> None:
        """`size`: width and height of the images, pixels."""
        self.name, self.net, self.shape = f"{name}, {size[0]} x {size[1]}", net, (3, size[1], size[0])
        self._outputs: dict[int, list[torch.Tensor]] = {}
        calibrate(net, [torch.randn(NOISE, *self.shape)])

    def images(self, batch: int) -> torch.Tensor:
        return torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(batch))

    def outputs(self, batch: int) -> list[torch.Tensor]:
        if batch not in self._outputs:
            self._outputs[batch] = on_cpu(self.net(self.images(batch)))
        return self._outputs[batch]


def on_cpu(outputs: Any) -> list[torch.Tensor]:
    """Copies of a network's outputs, float32 on the CPU."""
    return [each.float().cpu().clone() for each in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_rounds(work: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Seconds of one call, measured in each round over as many calls as take ROUND seconds."""

    def run(calls: int) -> float:
        synchronize(device)
        began = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        return (time.perf_counter() - began) / calls

    run(WARM_UP)
    calls = math.ceil(ROUND / run(1))
    return [run(calls) for _ in range(rounds)]


@torch.no_grad()
def infer(network: Network, batch: int, name: str, rounds: int, device: torch.device) -> Row:
    """Time a network with one batch size in one mode, and check its outputs."""
    mode = MODES[name]
    allow_tf32(mode.tf32)
    expected = network.outputs(batch)
    net = copy.deepcopy(network.net).to(device, mode.dtype).to(memory_format=mode.layout)  # type: ignore[call-overload]
    image = network.images(batch).to(device, mode.dtype, memory_format=mode.layout)
    work = mode.wrap(net, torch.zeros_like(image))  # not `image`: the check fails if a graph ignores its input
    seconds = time_rounds(lambda: work(image), rounds, device)
    found = on_cpu(work(image))
    differences = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected)]
    worst = math.nan if any(map(math.isnan, differences)) else max(differences)
    errors = []
    if not worst <= mode.limit:
        errors.append(f"outputs differ from float32 by {worst:.1e}, allowed {mode.limit:g}")
    if mode.wrap is captured and not all(map(torch.equal, found, on_cpu(net(image)))):
        errors.append("outputs of the CUDA graph differ from those without it")
    times = [1e3 * each for each in seconds]
    return Row(network.name, batch, mode.label, batch / statistics.median(seconds), times, worst, "; ".join(errors))


def train(name: str, task: ClassificationTask, dataset: Path, precision: str, device: torch.device) -> Row:
    """Train EPOCHS epochs, from files to updated weights, and time the last one. The loss must fall."""
    allow_tf32(False)
    torch.manual_seed(SEED)
    context = DistributedContext(0, 1, device)
    trainer = recipe.make_trainer(task, task.build(), precision, context)
    workers, size = min(task.config.WORKERS, cores()), task.batch()
    batches = training_batches(task.samples(dataset), size, workers, context)
    losses = []
    for epoch in range(EPOCHS):
        began = time.perf_counter()
        meter = loop.train_epoch(trainer, batches, epoch, 0, len(batches), lambda line: None)
        synchronize(device)
        seconds = time.perf_counter() - began
        losses.append(statistics.mean(meter.figures["loss"]))
    error = "" if losses[-1] < losses[0] else f"the loss did not fall: {losses}"
    mode = f"training, {trainer.precision}, {workers} workers"
    return Row(name, size, mode, len(batches) * size / seconds, [1e3 * seconds], None, error)
