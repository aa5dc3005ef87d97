"""make/changed.py: products that were made with other values of GATE and MAX_REJECTED, which are not remembered.
The tests for a changed data set are in test_options_shards.py."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from make import bundle_help
from tests.make.option_calls import resolve

pytestmark = pytest.mark.usefixtures("checkout")

EVAL = Path("build/net/eval/imagenet-float32")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def judged(points: float, batch: int = 16, **more: Any) -> None:
    content = {"gate": {"metric": "top1", "allowed_points": points}, **more}
    write(EVAL / f"onnxruntime-bs{batch}-fp32.json", content)
    write(EVAL / f"onnxruntime-bs{batch}-fp32/predictions.jsonl", {})


def test_another_gate_is_judged_again() -> None:
    assert resolve(GATE="2")["METRICS_CHANGED"] == "", "no metrics yet"
    judged(2.0)
    assert resolve(GATE="2.0")["METRICS_CHANGED"] == ""
    for goals in ("eval", "gate", "om eval"):
        assert resolve(goals)["METRICS_CHANGED"] == "run-again", goals
    for goals in ("om", "show", "compare", "infer"):
        assert resolve(goals)["METRICS_CHANGED"] == "", f"make {goals} without GATE keeps the verdict"
    assert resolve("show", GATE="0.5")["METRICS_CHANGED"] == "run-again"
    judged(1.0)
    assert resolve()["METRICS_CHANGED"] == resolve(GATE="none")["METRICS_CHANGED"] == ""
    assert not Path("build/net/settings").exists()


def test_lost_predictions_are_computed_again() -> None:
    judged(1.0)
    assert resolve("show")["METRICS_CHANGED"] == ""
    (EVAL / "onnxruntime-bs16-fp32/predictions.jsonl").unlink()
    assert resolve("show")["METRICS_CHANGED"] == resolve("eval")["METRICS_CHANGED"] == "run-again"


def test_qps_judges_each_batch_size() -> None:
    judged(1.0)
    judged(2.0, batch=8)
    assert resolve("qps", BATCHES="1,16")["METRICS_CHANGED"] == ""
    assert resolve("qps", BATCHES="1,8")["METRICS_CHANGED"] == "run-again"


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
    write(Path("build/net/bench/onnxruntime-fp32-dev0.json"), {"rows": "damaged"})
    assert resolve("bench")["BENCH_CHANGED"] == resolve("qps")["QPS_CHANGED"] == "run-again", "damaged tables"


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
    assert resolve(GATE="2")["METRICS_CHANGED"] == ""


BUNDLE = Path("build/net/bundle/net-onnxruntime-bs16-fp32-imagenet-float32.tar")


def pack(**files: str) -> None:
    """A bundle with a README and bundle.mk."""
    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(BUNDLE, "w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"net-0/{name.replace('_', '.')}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def test_a_bundle_with_another_verdict_is_packed_again() -> None:
    """Its README has a warning unless the verdict is a pass."""
    model = Path("build/net/om/bs16-float32-fp32.onnx.json")
    model.parent.mkdir(parents=True)
    model.write_text('{"model_sha256": "ab"}')
    record = {"evaluated": {"model_sha256": "ab"}, "gate": {"allowed_points": 1.0}, "drop": {"points": 3.0}}
    EVAL.mkdir(parents=True, exist_ok=True)
    metrics = EVAL / "onnxruntime-bs16-fp32.json"
    texts = {"": bundle_help.warning(bundle_help.doubt(metrics, "ab"))}
    for verdict in ("pass", "fail", "not judged"):
        metrics.write_text(json.dumps({**record, "verdict": verdict}))
        texts[verdict] = bundle_help.warning(bundle_help.doubt(metrics, "ab"))
    assert len(set(texts.values())) == 4 and texts["pass"] == ""
    for packed, line in texts.items():
        pack(README_md=f"# net\n\n{line}\n\ntext\n", bundle_mk="GATE ?= 1\nMAX_REJECTED ?= 0\n")
        for verdict in texts:
            metrics.unlink(missing_ok=True)
            if verdict:
                metrics.write_text(json.dumps({**record, "verdict": verdict}))
            assert (resolve("bundle")["BUNDLE_CHANGED"] == "") == (verdict == packed), (packed, verdict)


def test_a_bundle_with_another_gate_is_packed_again() -> None:
    path = BUNDLE
    assert resolve("bundle")["BUNDLE_CHANGED"] == ""
    pack(bundle_mk="MODEL ?= net\nGATE ?= 2\nMAX_REJECTED ?= 0\n")
    assert resolve("bundle", GATE="2")["BUNDLE_CHANGED"] == ""
    assert resolve("bundle")["BUNDLE_CHANGED"] == "run-again"
    assert resolve("bundle", GATE="2", MAX_REJECTED="1")["BUNDLE_CHANGED"] == "run-again"
    assert resolve("eval", GATE="1")["BUNDLE_CHANGED"] == ""
    path.write_bytes(b"")
    assert resolve("bundle", GATE="2")["BUNDLE_CHANGED"] == ""
