"""make/changed.py: products that were made with other values of GATE and MAX_REJECTED, which are not remembered.
test_options_shards.py has the state of the data set."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.make.option_calls import resolve

pytestmark = pytest.mark.usefixtures("checkout")

EVAL = Path("build/net/eval/imagenet-float32")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def judged(points: float, batch: int = 16, **more: Any) -> None:
    content = {"gate": {"metric": "top1", "allowed_points": points}, **more}
    write(EVAL / f"onnxruntime-bs{batch}-fp32.json", content)


def test_another_gate_is_judged_again() -> None:
    assert resolve(GATE="2")["GATE_CHANGED"] == "", "no metrics yet"
    judged(2.0)
    assert resolve(GATE="2.0")["GATE_CHANGED"] == ""
    for goals in ("eval", "gate", "om eval"):
        assert resolve(goals)["GATE_CHANGED"] == "run-again", goals
    for goals in ("om", "show", "compare", "infer"):
        assert resolve(goals)["GATE_CHANGED"] == "", f"make {goals} without GATE keeps the verdict"
    assert resolve("show", GATE="0.5")["GATE_CHANGED"] == "run-again"
    judged(1.0)
    assert resolve()["GATE_CHANGED"] == resolve(GATE="none")["GATE_CHANGED"] == ""
    assert not Path("build/net/settings").exists()


def test_qps_judges_each_batch_size() -> None:
    judged(1.0)
    judged(2.0, batch=8)
    assert resolve("qps", BATCHES="1,16")["GATE_CHANGED"] == ""
    assert resolve("qps", BATCHES="1,8")["GATE_CHANGED"] == "run-again"


def test_a_table_of_other_batch_sizes_is_made_again() -> None:
    """BATCHES is not remembered. Rows of other sizes stay in the table of make bench, but not in that of make qps."""
    assert resolve("bench")["BENCH_CHANGED"] == resolve("qps")["QPS_CHANGED"] == "", "no tables yet"
    write(Path("build/net/bench/onnxruntime-fp32-dev0.json"), {"rows": [{"batch": 1}, {"batch": 8}]})
    write(EVAL / "onnxruntime-fp32-qps.json", {"rows": [{"batch": 1}, {"batch": 8}]})
    assert resolve("bench", BATCHES="8")["BENCH_CHANGED"] == resolve("bench", BATCHES="1 8")["BENCH_CHANGED"] == ""
    assert resolve("bench", BATCHES="1,4")["BENCH_CHANGED"] == resolve("bench")["BENCH_CHANGED"] == "run-again"
    assert resolve("qps", BATCHES="8,1")["QPS_CHANGED"] == ""
    assert resolve("qps", BATCHES="8")["QPS_CHANGED"] == resolve("qps")["QPS_CHANGED"] == "run-again"
    assert resolve("eval")["QPS_CHANGED"] == ""
    write(EVAL / "onnxruntime-fp32-qps.json", {"rows": 3})
    assert resolve("qps")["QPS_CHANGED"] == "", "left to its stage"


def test_more_rejected_images_than_allowed_now() -> None:
    write(Path("build/net/prep/imagenet-float32/rejected.json"), {"images": {"val/a": "broken", "val/b": "broken"}})
    assert resolve(MAX_REJECTED="2")["DATA_CHANGED"] == ""
    assert resolve(MAX_REJECTED="1")["DATA_CHANGED"] == resolve()["DATA_CHANGED"] == "run-again"
    assert resolve("preprocess")["DATA_CHANGED"] == "run-again"
    assert resolve("infer")["DATA_CHANGED"] == "", "make infer does not use the default of MAX_REJECTED"
    assert resolve(SHARDS="2")["DATA_CHANGED"] == ""
    judged(1.0, counts={"rejected": 2})
    assert resolve(SHARDS="2")["DATA_CHANGED"] == "run-again"
    assert resolve(SHARDS="2", MAX_REJECTED="2")["DATA_CHANGED"] == ""


@pytest.mark.parametrize("content", ["", "[]", "null", '{"gate": 1}', '{"gate": {}}'])
def test_damaged_records_are_ignored_here(content: str) -> None:
    judged(1.0)
    (EVAL / "onnxruntime-bs16-fp32.json").write_text(content)
    assert resolve(GATE="2")["GATE_CHANGED"] == ""


def test_a_bundle_with_another_gate_is_packed_again() -> None:
    path = Path("build/net/bundle/net-onnxruntime-bs16-fp32-imagenet-float32.tar")
    assert resolve("bundle")["BUNDLE_CHANGED"] == ""
    path.parent.mkdir(parents=True)
    text = b"MODEL ?= net\nGATE ?= 2\nMAX_REJECTED ?= 0\n"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("net-0/bundle.mk")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    assert resolve("bundle", GATE="2")["BUNDLE_CHANGED"] == ""
    assert resolve("bundle")["BUNDLE_CHANGED"] == "run-again"
    assert resolve("bundle", GATE="2", MAX_REJECTED="1")["BUNDLE_CHANGED"] == "run-again"
    assert resolve("eval", GATE="1")["BUNDLE_CHANGED"] == ""
    path.write_bytes(b"")
    assert resolve("bundle", GATE="2")["BUNDLE_CHANGED"] == ""
