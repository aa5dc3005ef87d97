"""Runs an .om on an NPU by the Python interface of ais_bench, `InferSession`, for `make serve`. `make infer` runs the
command line of ais_bench instead.

A session works only in the thread that created it, so one thread loads and computes. The calls are as in ais_bench
0.0.2 (https://gitee.com/ascend/tools, ais-bench_workload/tool/ais_bench, ais_bench/infer/interface.py). Not tested on
NPU hardware.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ais_bench.infer.interface import InferSession

from hrnet.cli import UserError, WorkFailed
from hrnet.io.compiled import CompiledModel
from infer.emulator import path_checks
from infer.runtimes.base import Runtime


class Ascend(Runtime):
    requests = 1

    def __init__(self, model: str, device: int) -> None:
        path_checks.check_model(model)
        path_checks.check_for_ais_bench(model)
        compiled = CompiledModel.read(model)
        self.inputs, self.outputs = compiled.inputs, compiled.outputs
        self.gears = [gear.input for gear in compiled.gears]
        self.mode = "dymdims" if self.gears else "static"
        self.version, self.thread = "ais_bench", ThreadPoolExecutor(1)
        try:
            self.session = self.thread.submit(InferSession, device, model).result()
        except Exception as error:  # of ais_bench or aclruntime, which raise many kinds
            reason = " ".join(str(error).split())
            raise UserError(f"ais_bench cannot load the model: {reason}", where=model) from None

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        try:
            outputs: list[np.ndarray] = self.thread.submit(self.session.infer, [batch], self.mode).result()
        except Exception as error:
            raise WorkFailed(f"ais_bench cannot run the model: {' '.join(str(error).split())}") from None
        return outputs


def load(model: str, requests: int, threads: int, device: int) -> Runtime:
    """Load an .om with its record; batches are computed one after another."""
    return Ascend(model, device)
