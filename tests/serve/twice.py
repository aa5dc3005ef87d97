"""A fake runtime that a test controls, and a server for it in a thread."""

from __future__ import annotations

import contextlib
import json
import threading
import unittest.mock
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np

from hrnet.cli import WorkFailed
from hrnet.io.compiled import CompiledModel, TensorInfo
from infer.runtimes.base import Runtime
from serve import listen
from serve.app import Metrics, Server
from serve.batches import Batcher
from serve.listen import bind, make_server, url
from serve.models import TensorModel


class Twice(Runtime):
    """A fake runtime: image [N, 2] -> twice [N, 2]. While `gate` is clear, compute waits."""

    def __init__(self, batch: int, requests: int = 1) -> None:
        self.inputs, self.outputs = (
            [TensorInfo("image", "float32", [batch, 2])],
            [TensorInfo("twice", "float32", [batch, 2])],
        )
        self.requests, self.version = requests, "twice 1"
        self.batches: list[np.ndarray] = []
        self.gate, self.error = threading.Event(), False
        self.gate.set()

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        self.batches.append(batch.copy())
        self.gate.wait(60)
        if self.error:
            raise WorkFailed("device lost")
        return [batch * 2]


def compiled(batch: int) -> CompiledModel:
    tensors = [TensorInfo("image", "float32", [batch, 2])], [TensorInfo("twice", "float32", [batch, 2])]
    return CompiledModel("0" * 64, "", [], "atc.emulator", *tensors, [], {})


@contextlib.contextmanager
def serve_twice(
    runtime: Twice, max_images: int = 8, timeout: float = 30.0, load: Optional[Callable[[], object]] = None
) -> Iterator[tuple[str, Any]]:
    """A server of model `m_tensor`; yields its address and its uvicorn server. `load`: called before it is ready."""

    def load_batcher(metrics: Metrics) -> Batcher:
        if load:
            load()
        return Batcher([runtime], None, metrics.observe_batch)

    model = TensorModel("m", compiled(runtime.inputs[0].shape[0]))
    server = Server({"m_tensor": model}, "onnx_onnxv1", {}, load_batcher, max_images, timeout)
    bound = bind("127.0.0.1", 0)
    http = make_server(server.app(), timeout)
    thread = threading.Thread(target=http.run, kwargs={"sockets": [bound]})
    address = url(bound)
    with unittest.mock.patch.object(listen, "DRAIN_SECONDS", 0.05):
        thread.start()
        try:
            yield address, http
        finally:
            runtime.gate.set()
            http.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def body(*values: float) -> bytes:
    data = [value for value in values for _ in range(2)]
    return json.dumps(
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [len(values), 2], "data": data}]}
    ).encode()


def post(address: str, data: bytes) -> tuple[int, Any, Any]:
    """Status, content and headers of the answer to an infer request."""
    return ask(address + "/v2/models/m_tensor/infer", data)


def ask(place: str, data: Optional[bytes] = None) -> tuple[int, Any, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(place, data), timeout=60) as response:
            return response.status, json.loads(response.read()), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers
