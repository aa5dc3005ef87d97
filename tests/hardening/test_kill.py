"""kill -9 at any point of any stage, then the same call again: the bytes of an undisturbed run, nothing done twice."""

from __future__ import annotations

import hashlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.hardening import pose_stages, stages
from tests.hardening.harness import Stage, below, check_killed, points
from tests.support import broken_models, image_sets
from tests.support.http_server import Handler, Server
from tests.support.linear_model import linear_model, prep_folder
from tests.support.onnx_models import classifier, saved

POINTS = 20
BLOCK = 1 << 16  # bytes that the slow server sends at once


class Trickle:
    """A slow stream, so that a download can be killed half-way."""

    def __init__(self, stream: object) -> None:
        self.stream = stream

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), BLOCK):
            self.stream.write(data[start : start + BLOCK])  # type: ignore[attr-defined]
            if len(data) > BLOCK:
                time.sleep(0.01)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


class SlowHandler(Handler):
    def setup(self) -> None:
        super().setup()
        self.wfile = Trickle(self.wfile)  # type: ignore[assignment]


@pytest.fixture
def published(built: Path) -> Iterator[Server]:
    """A checkpoint on a slow server, and a config in `built` with its URL."""
    server = Server()
    server.RequestHandlerClass = SlowHandler
    server.data = np.random.default_rng(1).bytes(40 * BLOCK)
    stages.publish(built, f"{server.url}/file.pth", hashlib.md5(server.data).hexdigest())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def check_points(stage: Stage, built: Path, root: Path, count: int, seed: int = 1) -> int:
    """Kill the stage at `count` points; return how often that was before its end."""
    inputs = stages.inputs_of(stage, built, root / "inputs")
    finished = stages.inputs_of(stage, built, root / "finished")
    began = time.monotonic()
    stage.finish(finished)
    seconds = time.monotonic() - began
    entries = sum(1 for _ in below(finished, stage.products))
    found = points(seed, count, entries, seconds)
    return sum(check_killed(stage, inputs, finished, root / f"{i}", point) for i, point in enumerate(found))


SMALL_PREPROCESS = Stage(
    "preprocess.classification",
    "--cfg small.yaml --dataset data --output prep/set --workers 2",
    ("prep",),
    "prep/set/manifest.json",
    kept="prep/set/*.bin",
)
SMALL_QUANTIZE = Stage(
    "amct.quantize",
    "--model model.onnx --inputs in --output int8/m_deploy_model.onnx",
    ("int8",),
    "int8/m_deploy_model.onnx",
)
SMALL_INFER = Stage(
    "infer.run", "--model m.onnx --inputs in --output out/run", ("out",), "out/run_run.json", kept="out/run/*.bin"
)
SEARCHES = {
    precision: Stage(
        "keep_float.search", shlex.join(broken_models.arguments(precision)), ("keep",), f"keep/{precision}.txt"
    )
    for precision in ("int8", "fp16")
}


def test_preprocess_killed_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    built = tmp_path / "built"
    image_sets.listed(built / "data", {f"img{i}.JPEG": i % image_sets.CLASSES for i in range(40)})
    image_sets.write_config(built)
    check_points(SMALL_PREPROCESS, built, tmp_path, count=2)


def test_infer_killed_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    built = tmp_path / "built"
    prep_folder(built / "in", 40)
    linear_model(built / "m.onnx", 4)
    check_points(SMALL_INFER, built, tmp_path, count=2)


def test_quantize_killed_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    built = tmp_path / "built"
    prep_folder(built / "in", 8)
    saved(built, classifier(size=4))
    check_points(SMALL_QUANTIZE, built, tmp_path, count=2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", (*stages.CHAIN, *stages.INT8), ids=stages.name)
def test_a_stage_killed_anywhere_gives_the_same_bytes(stage: Stage, built: Path, tmp_path: Path) -> None:
    assert check_points(stage, built, tmp_path, POINTS) >= POINTS // 2


@pytest.mark.slow
@pytest.mark.parametrize("stage", (*pose_stages.CHAIN, *pose_stages.INT8), ids=pose_stages.name)
def test_a_pose_stage_killed_anywhere_gives_the_same_bytes(stage: Stage, built_pose: Path, tmp_path: Path) -> None:
    assert check_points(stage, built_pose, tmp_path, POINTS) >= POINTS // 2


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "model"), [("int8", broken_models.outlier), ("fp16", broken_models.overflowing)])
def test_a_search_killed_anywhere_gives_the_same_bytes(
    precision: str, model: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    built = tmp_path / "built"
    built.mkdir()
    broken_models.write(built, model())
    assert check_points(SEARCHES[precision], built, tmp_path, POINTS) >= POINTS // 2


@pytest.mark.slow
def test_a_download_killed_anywhere_gives_the_same_bytes(built: Path, published: Server, tmp_path: Path) -> None:
    assert check_points(stages.WEIGHTS, built, tmp_path, POINTS) >= POINTS // 2
    assert any(published.asked), "a resumed download requests a range"
