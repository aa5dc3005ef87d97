"""Runs TorchScript on an NPU by Torch-AIE, which compiles the module for one batch size when it is loaded.

The calls and their order are as in the model zoo's eval.py (https://gitee.com/ascend/ModelZoo-PyTorch,
AscendIE/TorchAIE/built-in/cv/classification/HRNet): set_device, Input, compile, Stream. In newer releases of MindIE the
package is called mindietorch. Chip and precision come from the record of pth2onnx.static. The device is set per thread,
so one thread compiles and computes. Not tested on NPU hardware.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from hrnet.cli import UserError
from hrnet.io.compiled import CompiledModel
from hrnet.io.torchscript import PRECISION, SOC_VERSION
from infer.runtimes.base import Runtime
from infer.runtimes.torchscript_runtime import load_module

if importlib.util.find_spec("mindietorch"):
    import mindietorch as torch_aie
else:
    import torch_aie

PRECISIONS = ("fp16", "fp32")  # in upper case these are names in torch_aie.PrecisionPolicy


class TorchAie(Runtime):
    requests = 1

    def __init__(self, model: str, device: int) -> None:
        compiled = CompiledModel.read(model)
        self.inputs, self.outputs = compiled.inputs, compiled.outputs
        precision, chip = (compiled.metadata.get(key, "") for key in (PRECISION, SOC_VERSION))
        if precision not in PRECISIONS or not chip:
            found, hint = f"{precision!r}, {chip!r}", "make om BACKEND=torch_aie SOC=<chip>"
            raise UserError("the record has no precision or chip", where=model, found=found, hint=hint)
        self.device = f"npu:{device}"
        self.version = f"{torch_aie.__name__} {getattr(torch_aie, '__version__', 'of unknown version')} on {chip}"
        self.thread = ThreadPoolExecutor(1)
        try:
            self.thread.submit(self._compile, model, device, precision, chip).result()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"Torch-AIE cannot compile the model: {reason}", where=model) from None

    def _compile(self, model: str, device: int, precision: str, soc_version: str) -> None:
        torch_aie.set_device(device)
        self.module = torch_aie.compile(
            load_module(model),
            inputs=[torch_aie.Input(tuple(self.static_input().shape))],
            precision_policy=getattr(torch_aie.PrecisionPolicy, precision.upper()),
            allow_tensor_replace_int=True,
            soc_version=soc_version,
        )
        self.stream = torch_aie.npu.Stream(self.device)

    def _compute(self, batch: np.ndarray) -> list[np.ndarray]:
        image = torch.from_numpy(batch).to(self.device)
        with torch_aie.npu.stream(self.stream):
            outputs = self.module(image)
            self.stream.synchronize()
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [output.to("cpu").numpy() for output in outputs]

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        return self.thread.submit(self._compute, batch).result()


def load(model: str, requests: int, threads: int, device: int) -> Runtime:
    """Compile a TorchScript file with its record; batches are computed one after another."""
    return TorchAie(model, device)
