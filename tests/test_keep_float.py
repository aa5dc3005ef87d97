"""KEEP_FLOAT and make precision from a checkpoint, through all stages."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.support.checkout import Checkout

IMAGES = 60


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("keep_float"))


def make(checkout: Checkout, *arguments: str) -> str:
    done = checkout.make(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


GIVEN = (f"LIMIT={IMAGES}", "CALIB=8", "BACKEND=onnxruntime", "REFERENCE=config")


@pytest.mark.slow
def test_a_list_has_products_of_its_own(checkout: Checkout, digits: Path) -> None:
    build = checkout.root / "build/demo_digits"
    for precision, model in (("fp16", "om/bs16-float32-fp16"), ("int8", "om/bs16-float32-int8")):
        make(checkout, "eval", f"DATASET={digits}", *GIVEN, f"PRECISION={precision}", "KEEP_FLOAT=")
        plain = (build / f"{model}.onnx").read_bytes()
        names = [node.name for node in onnx.load(build / "model.onnx").graph.node if node.op_type == "Conv"]
        (checkout.root / "mine.txt").write_text("\n".join(names[:2]))
        out = make(checkout, "eval", "KEEP_FLOAT=mine.txt")
        assert "PASS: demo_digits" in out and "-m atc.convert" in out
        assert f"onnxruntime-bs16-{precision}-keep-mine" in out
        kept = (build / f"{model}-keep-mine.onnx").read_bytes()
        assert (build / f"{model}.onnx").read_bytes() == plain != kept
        assert json.loads((build / f"{model}-keep-mine.onnx.json").read_text())["metadata"]["keep_float"] == "2"
        assert " -m " not in make(checkout, "eval"), "nothing is computed again"
        (checkout.root / "mine.txt").write_text("\n".join(names[:3]))
        assert "-m atc.convert" in make(checkout, "eval")
        assert (build / f"{model}-keep-mine.onnx").read_bytes() != kept
        make(checkout, "bundle", "bench", "BATCHES=16", "LOOP=1")
        assert list((build / "bundle").glob(f"*-{precision}-keep-mine-*.tar"))
        assert list((build / "bench").glob(f"*-{precision}-keep-mine-dev0.json"))


@pytest.mark.slow
def test_make_precision(checkout: Checkout, digits: Path) -> None:
    before = {path.name: path.read_text() for path in (checkout.root / "build/demo_digits/settings").glob("PREC*.mk")}
    make(checkout, "precision", f"DATASET={digits}", *GIVEN, "PRECISION=default")
    settings = {path.stem for path in (checkout.root / "build/demo_digits/settings").glob("*.mk")}
    build = checkout.root / "build/demo_digits"
    assert {path.name: path.read_text() for path in (build / "settings").glob("PREC*.mk")} == before
    assert "GATE" not in settings
    path = build / f"precision/digits-float32-first{IMAGES}.json"
    record = json.loads(path.read_text())
    rows = {row["name"]: row["backends"] for row in record["rows"]}
    assert len(rows) == 6 and all(row["onnxruntime"]["images"] == IMAGES for row in rows.values())
    metrics = build / f"eval/digits-float32-first{IMAGES}/onnxruntime-bs16-int8-minmax.json"
    top1 = json.loads(metrics.read_text())["metrics"]["top1"]
    assert rows["int8, min-max"]["onnxruntime"]["accuracy"] == top1 >= 95
    before = {name: name.stat().st_mtime_ns for name in (build / "out").rglob("*_run.json")}
    out = make(checkout, "precision")
    assert "-m infer.run" not in out and "| int8, KEEP_FLOAT=auto" in out
    assert (build / "keep_float/int8.txt").is_file(), "make keeps the list"
    assert before == {name: name.stat().st_mtime_ns for name in (build / "out").rglob("*_run.json")}
