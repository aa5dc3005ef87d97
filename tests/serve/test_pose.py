"""A pose model: people and outputs are equal to those of the stages, with and without the flip test."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.config import load_config
from hrnet.io.compiled import CompiledModel
from infer import run as infer
from infer import runtimes
from infer.emulator.pipeline import default_requests
from postprocess import predict
from preprocess import pose as preprocess
from pth2onnx import static
from serve.batches import Batcher
from serve.models import Served, TensorModel
from serve.pose import PoseModel
from serve.protocol import RequestError
from tests.serve.chain import arguments
from tests.support.image_sets import encoded, noise

SIZES = [(120, 90), (60, 100)]
IMAGES = [encoded(noise(*size, seed), "JPEG", quality=95) for seed, size in enumerate(SIZES)]
CFG, MODEL = "tiny_pose.yaml", "om/bs1.ts"


@pytest.fixture(scope="module")
def folder(torchscript_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the compiled model and the stages' results for IMAGES: out/, out-flip/, one/ (without the flip
    test) and two/ (with it)."""
    folder = tmp_path_factory.mktemp("pose")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path(CFG).write_bytes((torchscript_files / CFG).read_bytes())
        model = arguments(cfg=CFG, model=torchscript_files / "pose.ts", output=MODEL, batch_size=1)
        assert static.main([*model, "--backend", "torchscript"]) == 0
        Path("images").mkdir()
        for number, data in enumerate(IMAGES):
            Path(f"images/{number}.jpg").write_bytes(data)
        assert preprocess.main([*arguments(cfg=CFG, output="in"), "--images", "images"]) == 0
        given = {"model": MODEL, "inputs": "in", "backend": "torchscript"}
        assert infer.main(arguments(**given, output="out/run", output_flip="out-flip/run")) == 0
        given = {"cfg": CFG, "manifest": "in/manifest.json", "run": "out/run_run.json"}
        assert predict.main(arguments(**given, output="one")) == 0
        assert predict.main(arguments(**given, output="two", run_flip="out-flip/run_run.json")) == 0
    return folder


def compute(served: Served, folder: Path, values: Any) -> dict[str, np.ndarray]:
    """The outputs of a request, by name."""

    async def main() -> dict[str, np.ndarray]:
        batcher = Batcher([runtimes.load("torchscript", str(folder / MODEL), default_requests())])
        batcher.warm_up()
        batcher.start()
        try:
            context, results = await batcher.submit(lambda: served.prepare(values))
        finally:
            await asyncio.to_thread(batcher.stop)
        return {tensor.name: np.asarray(tensor.values) for tensor in served.answer(context, results)}

    return asyncio.run(main())


def pose_model(folder: Path, flip: bool) -> PoseModel:
    cfg = folder / CFG
    return PoseModel("tiny_pose", cfg, load_config(cfg), CompiledModel.read(folder / MODEL), flip)


@pytest.mark.parametrize(("flip", "results"), [(False, "one"), (True, "two")])
def test_the_people_are_those_of_the_chain(folder: Path, flip: bool, results: str) -> None:
    expected = json.loads((folder / results / "keypoints.json").read_text())
    found = compute(pose_model(folder, flip), folder, IMAGES)
    assert found["people"].tolist() == [sum(each["image_id"] == i for each in expected) for i in (1, 2)]
    assert sum(found["people"]) > 0
    assert found["scores"].tolist() == [each["score"] for each in expected]
    assert found["keypoints"].reshape(-1, 51).tolist() == [each["keypoints"] for each in expected]


def test_tensors_at_a_gear_give_the_bytes_of_the_chain(folder: Path) -> None:
    model = TensorModel("tiny_pose", CompiledModel.read(folder / MODEL))
    found = compute(model, folder, np.load(folder / "in/1.npy"))
    for k in range(2):
        assert (found[f"output{k + 1}"] == np.load(folder / f"out/run/1_{k}.npy")).all()
    with pytest.raises(RequestError, match=r"\[3, 96, 64\]"):
        model.prepare(np.zeros((1, 3, 64, 96), np.float32))


def test_an_image_without_a_gear_is_rejected(folder: Path) -> None:
    model = pose_model(folder, flip=False)
    model.gears = [(64, 128)]
    with pytest.raises(RequestError, match="image 1: the model has no portrait gear"):
        model.prepare([encoded(noise(64, 200), "PNG")])
