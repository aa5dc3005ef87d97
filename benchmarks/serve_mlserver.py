"""A runtime of MLServer with the classifier of benchmarks.serve_model; loaded by `mlserver start` in the peer's
environment."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.codecs.base64 import Base64Codec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serve_model import Model


class Classifier(MLModel):
    async def load(self) -> bool:
        self.model, self.pool = Model.from_environment(parallel=2), ThreadPoolExecutor(2)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = Base64Codec.decode_input(payload.inputs[0])
        found = await asyncio.get_running_loop().run_in_executor(self.pool, self.model, images)
        outputs = [StringCodec.encode_output("result", [json.dumps(each) for each in found])]
        return InferenceResponse(model_name=self.name, outputs=outputs)
