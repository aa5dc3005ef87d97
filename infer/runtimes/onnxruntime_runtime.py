"""onnxruntime on the CPU. Several requests with one core each are faster than one request with all cores."""

from __future__ import annotations

import numpy as np
import onnxruntime

from hrnet.cli import UserError, WorkFailed
from hrnet.io.compiled import TensorInfo
from infer.runtimes.base import Runtime

PROVIDER = "CPUExecutionProvider"
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


class OnnxRuntime(Runtime):
    def __init__(self, model: str, requests: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
        except Exception as error:  # onnxruntime's exceptions have no other common base class
            raise UserError(f"onnxruntime cannot load the model: {' '.join(str(error).split())}", where=model) from None
        if self.session.get_providers() != [PROVIDER]:
            raise UserError("onnxruntime uses another provider", expected=PROVIDER, found=self.session.get_providers())
        self.inputs = [_info(node) for node in self.session.get_inputs()]
        self.outputs = [_info(node) for node in self.session.get_outputs()]
        self.gears = self.read_gears(self.session.get_modelmeta().custom_metadata_map.get("atc.dynamic_dims", ""))
        self.requests, self.version = requests, f"onnxruntime {onnxruntime.__version__}"

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        try:
            outputs: list[np.ndarray] = self.session.run(None, {self.inputs[0].name: batch})
        except Exception as error:
            raise WorkFailed(f"onnxruntime cannot run the model: {' '.join(str(error).split())}") from None
        return outputs


def _info(node: onnxruntime.NodeArg) -> TensorInfo:
    if node.type not in DTYPES:
        raise UserError(f"tensor {node.name} has an unsupported type", expected=sorted(DTYPES), found=node.type)
    return TensorInfo(node.name, DTYPES[node.type], [size if isinstance(size, int) else -1 for size in node.shape])


def load(model: str, requests: int, threads: int) -> Runtime:
    """Load an ONNX file."""
    return OnnxRuntime(model, requests, threads)
