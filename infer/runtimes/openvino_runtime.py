"""OpenVINO on the CPU, from the same ONNX file, with one stream per parallel request.

On CPUs with bfloat16 OpenVINO uses bfloat16 by default, so float32 is requested explicitly. Then OpenVINO also computes
float16 tensors in float32 and removes the casts around them: a model with float16 inside would give float32 results.
Such models are rejected.
"""

from __future__ import annotations

import queue

import numpy as np
import openvino

from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo
from hrnet.io.tensor_names import DTYPES
from infer.runtimes.base import Runtime

DEVICE = "CPU"
GEARS = ["framework", "atc.dynamic_dims"]  # path of this metadata entry in OpenVINO's rt_info


class OpenVino(Runtime):
    def __init__(self, model: str, requests: int, threads: int) -> None:
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": requests,
            "INFERENCE_NUM_THREADS": requests * threads,
        }
        try:
            graph = core.read_model(model)
            types = {output.get_element_type() for op in graph.get_ops() for output in op.outputs()}
            if openvino.Type.f16 in types:
                hint = "use BACKEND=onnxruntime, or PRECISION=fp32"
                raise UserError("openvino would compute it in float32", where=model, found="float16 inside", hint=hint)
            self.compiled = core.compile_model(graph, DEVICE, settings)
            dims = graph.get_rt_info(GEARS).value if graph.has_rt_info(GEARS) else ""
        except RuntimeError as error:
            raise UserError(f"openvino cannot load the model: {' '.join(str(error).split())}", where=model) from None
        self.inputs = [_info(port) for port in self.compiled.inputs]
        self.outputs = [_info(port) for port in self.compiled.outputs]
        self.gears = self.read_gears(dims)
        self.requests, self.version = requests, f"openvino {openvino.__version__.split('-')[0]}"
        self.free: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(requests):
            self.free.put(self.compiled.create_infer_request())

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        request = self.free.get()
        try:
            return list(request.infer([batch], share_inputs=True).values())
        finally:
            self.free.put(request)


def _info(port: openvino.ConstOutput) -> TensorInfo:
    dtype = port.get_element_type().to_dtype().name
    if dtype not in DTYPES:
        raise UserError(f"tensor {port.any_name} has an unsupported type", expected=sorted(DTYPES), found=dtype)
    shape = [-1 if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]
    return TensorInfo(port.any_name, dtype, shape)


def load(model: str, requests: int, threads: int) -> Runtime:
    """Load an ONNX file."""
    return OpenVino(model, requests, threads)
