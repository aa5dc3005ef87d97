"""TorchScript in torch: on a CUDA device if torch has CUDA, else on the CPU.

On the CPU requests run in parallel, each with its share of the cores. They use channels-last layout, which is fastest
in oneDNN, and a frozen graph, for which torch's profiling executor has no benefit and is off. On a GPU batches run one
after another. There fp32 means float32 without TF32, and fp16 means that weights and inputs are float16. Outputs are
always float32.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from hrnet.cli import UserError
from hrnet.io.compiled import CompiledModel
from hrnet.io.torchscript import PRECISION
from hrnet.nets import float32
from infer.runtimes.base import Runtime

WARM_UP = 3  # first calls on a GPU, in which torch profiles the graph and compiles fused kernels


def load_module(model: str, device: str = "cpu") -> torch.jit.ScriptModule:
    """Load a TorchScript file onto a device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit")
        try:
            return torch.jit.load(model, map_location=device)
        except RuntimeError as error:
            reason = " ".join(str(error).split(". ")[0].split())
            raise UserError(f"torch cannot load the model: {reason}", where=model, hint="rerun make om") from None


def find_device(device: int) -> str:
    """torch's name for device number `device`. Raises UserError if it does not exist."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        if device < count:
            return f"cuda:{device}"
        raise UserError("no such CUDA device", expected=f"0 to {count - 1}", found=device, hint="give DEVICE=0")
    if device:
        raise UserError("no CUDA on this machine", expected="0, the CPU", found=device, hint="give DEVICE=0")
    return "cpu"


def prepare_constants(module: torch.jit.ScriptModule, dtype: torch.dtype) -> None:
    """Convert the weights of a frozen graph to `dtype` and channels last; `module.to` does not convert them."""
    for node in module.graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").is_floating_point():
            weight = node.t("value").to(dtype)
            node.t_("value", weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight)


def forbid_tf32(module: torch.jit.ScriptModule) -> None:
    """Set the last argument of each convolution, allow_tf32, to False. Tracing records torch's option there, which is
    True by default; at run time the argument counts, not the option."""
    graph = module.graph
    graph.setInsertPoint(next(graph.nodes()))
    false = graph.insertConstant(False)  # type: ignore[attr-defined]
    for node in graph.findAllNodes("aten::_convolution"):  # type: ignore[attr-defined]
        node.replaceInput(node.inputsSize() - 1, false)


class TorchScript(Runtime):
    def __init__(self, model: str, requests: int, threads: int, device: int) -> None:
        compiled = CompiledModel.read(model)
        self.inputs, self.outputs = compiled.inputs, compiled.outputs
        self.gears = [gear.input for gear in compiled.gears]
        self.device, self.threads, self.thread_state = find_device(device), threads, threading.local()
        float32.compute_exactly()
        half = compiled.metadata.get(PRECISION) == "fp16"
        self.dtype = torch.float16 if half else torch.float32
        self.version = f"torchscript by torch {torch.__version__.split('+')[0]}"
        if self.device == "cpu":
            if half:
                hint = "use PRECISION=fp32, or BACKEND=onnxruntime"
                raise UserError("float16 needs CUDA", where=model, found="only a CPU", hint=hint)
            self.requests = requests
            self.module = load_module(model)
            return
        self.version += f" on {torch.cuda.get_device_name(device)}"
        self.requests = 1
        self.module = load_module(model, self.device)
        prepare_constants(self.module, self.dtype)
        forbid_tf32(self.module)
        for _ in range(0 if self.gears else WARM_UP):
            self.compute(np.zeros(self.static_input().shape, self.static_input().dtype))

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """Set torch's options for the current thread."""
        if not hasattr(self.thread_state, "ready"):
            torch.set_num_threads(self.threads)
            self.thread_state.ready = True
        with torch.inference_mode(), torch.jit.optimized_execution(self.device != "cpu"):
            yield

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        with self.settings():
            image = torch.from_numpy(batch).to(self.device)
            if image.is_floating_point():
                image = image.to(self.dtype).contiguous(memory_format=torch.channels_last)
            outputs = self.module(image)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            return [output.float().contiguous().cpu().numpy() for output in outputs]


def load(model: str, requests: int, threads: int, device: int) -> Runtime:
    """Load a TorchScript file with its record."""
    return TorchScript(model, requests, threads, device)
