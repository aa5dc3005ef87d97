"""make on the demo's model: what runs again after a change, what is remembered, and what a dry run shows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support import ROOT, fakes
from tests.support.checkout import STAGES, Checkout
from tests.support.demo_chain import metrics


def test_second_eval_computes_nothing_and_still_judges(demo: Checkout) -> None:
    done = demo.make("eval")
    assert done.returncode == 0
    assert "PASS: demo_digits top1 " in done.stdout and " on 60 of 500 images" in done.stdout
    assert not any(stage in done.stdout for stage in STAGES)


@pytest.mark.parametrize(
    "script, expected",
    [
        ("pth2onnx/classification.py", STAGES[:2] + STAGES[3:]),
        ("atc/convert.py", (STAGES[1], *STAGES[3:])),
        ("preprocess/classification.py", STAGES[2:]),
        ("infer/run.py", STAGES[3:]),
        ("infer/runtimes/base.py", STAGES[3:]),
        ("postprocess/classification.py", STAGES[4:]),
        ("hrnet/images.py", STAGES),
        ("hrnet/gears.py", STAGES),
        ("hrnet/io/coco.py", STAGES),
        ("configs/demo_digits.yaml", STAGES),
    ],
)
def test_make_restarts_every_stage_that_may_have_changed(
    demo: Checkout, script: str, expected: tuple[str, ...]
) -> None:
    before = (demo.root / script).stat().st_mtime_ns
    (demo.root / script).touch()
    try:
        assert sorted(demo.stages("-n", "eval")) == sorted(expected)
    finally:
        os.utime(demo.root / script, ns=(before, before))


def test_a_restarted_stage_computes_only_what_changed(demo: Checkout) -> None:
    """After an edit of the networks' code the model is exported again, here from a copy of the checkpoint. The new ONNX
    file is equal to the old one, so the later products and the inputs are kept. The edit and WEIGHTS=x.pth are not
    undone, so the next tests find all products up to date."""
    inputs = {file: file.stat().st_mtime_ns for file in demo.root.glob("build/demo_digits/prep/*/*.bin")}
    script = demo.root / "hrnet/nets/trunk.py"
    script.write_text(f"{script.read_text()}\n# edited\n")
    shutil.copy(ROOT / "weights/demo_digits.pth", demo.root / "x.pth")
    done = demo.make("eval", "WEIGHTS=x.pth")
    assert done.returncode == 0 and " --weights x.pth " in done.stdout, done.stderr
    current = [line.split()[0] for line in done.stdout.splitlines() if " is up to date: " in line]
    place = "build/demo_digits"
    assert f"{place}/model.onnx" not in current, "the exporter's own code changed"
    run = "digits-float32-first60/onnxruntime-bs16-fp32"
    for product in ("om/bs16-float32-fp32.onnx", "prep/digits-float32-first60", f"out/{run}", f"eval/{run}.json"):
        assert any(line.startswith(f"{place}/{product}") for line in current), product
    assert {file: file.stat().st_mtime_ns for file in inputs} == inputs
    assert demo.stages("eval") == []


@pytest.mark.parametrize(
    "product, due",
    [
        pytest.param("model.onnx", STAGES[:2] + STAGES[3:], marks=pytest.mark.slow),
        ("om/bs16-float32-fp32.onnx", STAGES[1:2] + STAGES[3:]),
        ("prep/digits-float32-first60/manifest.json", STAGES[2:]),
        ("out/digits-float32-first60/onnxruntime-bs16-fp32_run.json", STAGES[3:]),
    ],
)
def test_a_missing_product_is_made_again_in_one_call(demo: Checkout, product: str, due: tuple[str, ...]) -> None:
    """Also in the middle of the pipeline, although later products are newer."""
    (demo.root / "build/demo_digits" / product).unlink()
    assert sorted(demo.stages("-n", "eval")) == sorted(demo.stages("eval")) == sorted(due)
    assert demo.stages("eval") == []


def test_a_missing_model_is_made_again_and_all_later_products(demo: Checkout) -> None:
    """As the test above, but only as a dry run: the export would take long."""
    model = demo.root / "build/demo_digits/model.onnx"
    model.rename(model.with_name("away.onnx"))
    assert sorted(demo.stages("-n", "eval")) == sorted(STAGES[:2] + STAGES[3:])
    model.with_name("away.onnx").rename(model)
    assert demo.stages("-n", "eval") == []


def test_an_image_without_a_label_is_an_error(demo: Checkout) -> None:
    """Preprocessing rejects it, also if it is added later."""
    (demo.root / "data/digits/val/new.JPEG").write_bytes(b"")
    try:
        done = demo.make("eval")
        assert done.returncode == 2 and "val/new.JPEG" in done.stderr
    finally:
        (demo.root / "data/digits/val/new.JPEG").unlink()
    assert demo.make("eval").returncode == 0


def test_a_dry_run_shows_the_stages_that_run(demo: Checkout) -> None:
    (demo.root / "infer/run.py").touch()
    shown = demo.stages("-n", "eval")
    assert demo.stages("eval") == shown == list(STAGES[3:])
    assert demo.stages("eval") == []


def test_a_missed_gate_stays_missed_and_keeps_its_metrics(demo: Checkout) -> None:
    first = demo.make("eval", "GATE=1")
    assert first.returncode == 2 and "FAIL: demo_digits top1 " in first.stdout
    again = demo.make("eval", "GATE=1")
    assert again.returncode == 2 and "FAIL: demo_digits top1 " in again.stdout
    assert not any(stage in again.stdout for stage in STAGES)
    assert metrics(demo)["verdict"] == "fail"
    assert demo.make("eval").returncode == 0, "GATE is not remembered"
    assert metrics(demo)["verdict"] == "pass"


def test_a_changed_gate_is_judged_again_without_inference(demo: Checkout) -> None:
    assert demo.stages("eval", "GATE=49.5") == ["postprocess.classification"]
    assert metrics(demo)["gate"] == {"metric": "top1", "allowed_points": 49.5}
    assert demo.stages("eval", "GATE=50") == ["postprocess.classification"]


def test_a_remembered_setting_is_replaced_in_one_step(demo: Checkout, tmp_path: Path) -> None:
    """A reader finds the old value or the new one, never a part of it, also after a kill."""
    settings = demo.root / "build/demo_digits/settings"
    assert demo.make("om", "BACKEND=auto").returncode == 0
    os.link(settings / "BACKEND.mk", tmp_path / "before")
    assert demo.make("om", "BACKEND=onnxruntime").returncode == 0
    assert (tmp_path / "before").read_text() == "BACKEND ?= auto\n"
    assert (settings / "BACKEND.mk").read_text() == "BACKEND ?= onnxruntime\n"
    assert all(path.suffix == ".mk" for path in settings.iterdir())
    assert not (settings / "GATE.mk").exists()


def test_dry_run_remembers_nothing(demo: Checkout) -> None:
    before = sorted((demo.root / "build/demo_digits/settings").iterdir())
    assert demo.stages("-n", "eval", "GATE=3", "MAX_REJECTED=4") == ["postprocess.classification"]
    assert sorted((demo.root / "build/demo_digits/settings").iterdir()) == before
    assert demo.stages("eval") == []


def test_environment_variables_count_as_given_values(demo: Checkout) -> None:
    assert "--gate 0.25" in demo.make("-n", "eval", GATE="0.25").stdout


def test_weights_given_once_are_used_by_later_calls(demo: Checkout) -> None:
    """After `make eval WEIGHTS=x.pth` of a test above, `make om` uses x.pth; with another value of WEIGHTS the model is
    exported again. The tests below use other values of BUILD, since this test makes the compiled model of `demo`
    outdated."""
    default = "weights/demo_digits.pth"
    later = demo.make("-n", "om")
    assert " -m " not in later.stdout, "model.onnx and the compiled model are those of x.pth already"
    assert "WEIGHTS=x.pth" in later.stderr
    (demo.root / "x.pth").touch()
    assert "--weights x.pth" in demo.make("-n", "om").stdout
    assert f"--weights {default}" in demo.make("-n", "om", f"WEIGHTS={default}").stdout


def test_a_changed_flag_of_atc_or_its_file_compiles_again(demo: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    (demo.root / "ops.cfg").write_text("Conv_0\n")
    words = "--keep_dtype=ops.cfg --input_hint_shape=image:1,3,64,64;x:2"
    given = ["om", "BUILD=flags", "BACKEND=ascend", f"ONNX={demo.root}/build/demo_digits/model.onnx"]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    om = demo.root / "flags/demo_digits/om/bs16-float32-Ascend310P3.om"

    def content() -> dict[str, str]:
        head: dict[str, str] = json.loads(om.read_bytes().partition(b"\n")[0][4:])
        return head

    assert demo.make(*given, f"ATC_FLAGS={words}", **environment).returncode == 0
    assert content()["keep_dtype_content"] == "Conv_0\n" and content()["input_hint_shape"].endswith(";x:2")
    assert "atc.convert" not in demo.make(*given, **environment).stdout, "remembered, and nothing to do"
    (demo.root / "ops.cfg").write_text("Conv_1\n")
    assert "atc.convert" in demo.make("-n", *given, **environment).stdout
    assert demo.make(*given, **environment).returncode == 0
    assert content()["keep_dtype_content"] == "Conv_1\n"
    assert demo.make(*given, "ATC_FLAGS=", **environment).returncode == 0
    assert "keep_dtype" not in content()


def test_a_new_image_in_a_class_folder_is_noticed(demo: Checkout) -> None:
    digits = sorted((demo.root / "data/digits/val").iterdir())
    folder = demo.root / "data/classes/val/0"
    folder.mkdir(parents=True)
    shutil.copy(digits[0], folder)
    given = ["preprocess", "DATASET=data/classes", "LIMIT=0", "BUILD=classes"]
    assert demo.stages(*given) == ["preprocess.classification"]
    assert demo.stages(*given) == []
    shutil.copy(digits[1], folder)
    assert demo.stages("-n", *given) == ["preprocess.classification"]
