"""Outputs at another batch size than the chain's, for each precision: they differ by at most a tolerance, and so the
best class is the same unless two logits are that close."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from hrnet.config import load_config
from hrnet.io.compiled import CompiledModel
from infer import runtimes
from infer.emulator.pipeline import default_requests
from serve.batches import Batcher
from serve.classification import Classifier
from tests.serve.chain import COUNT, image, write_chain


def logits(model: Path, images: list[bytes]) -> np.ndarray:
    """The logits, float32 [N, classes], for one request to one compiled model."""
    classifier = Classifier("small", load_config("small.yaml"), CompiledModel.read(model), model)

    async def main() -> np.ndarray:
        batcher = Batcher([runtimes.load("onnxruntime", str(model), default_requests())], classifier.rank)
        batcher.start()
        try:
            context, results = await batcher.submit(lambda: classifier.prepare(images))
        finally:
            await asyncio.to_thread(batcher.stop)
        return np.asarray(classifier.answer(context, results)[0].values)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", "uint8"), ("fp16", "float32"), pytest.param("int8", "float32", marks=pytest.mark.slow)],
)
def test_outputs_of_each_precision(precision: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_chain(tmp_path, precision, dtype)
    images = [image(number) for number in range(COUNT)]
    expected = np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(COUNT)])
    assert logits(Path("om/bs4.onnx"), images).tobytes() == expected.tobytes()
    found = logits(Path("om/bs1.onnx"), images)
    tolerance = 2e-3 * expected.std() if precision == "fp16" else 1e-4
    assert np.abs(found - expected).max() <= tolerance
    first = np.sort(expected, axis=1)
    swapped = found.argmax(axis=1) != expected.argmax(axis=1)
    assert (first[swapped, -1] - first[swapped, -2] <= tolerance).all()
