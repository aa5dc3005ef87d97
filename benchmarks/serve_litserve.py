"""LitServe with the classifier of benchmarks.serve_model; run by benchmarks.serve in the peer's environment.

python -m benchmarks.serve_litserve PORT WORKERS BATCH     # BATCH: the largest batch size
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from typing import Any

import litserve

from benchmarks.serve_model import Model


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = Model.from_environment(parallel=2)  # half of the cores for each batch, as with MLServer

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        return self.model(images)

    def unbatch(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return outputs

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    port, workers, batch = map(int, sys.argv[1:])
    classifier = Classifier(max_batch_size=batch, batch_timeout=0.0)
    server = litserve.LitServer(classifier, accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")
