"""The Makefile, on the demo's model: nothing is done twice, values are remembered, and a dry run lists the work that is
needed."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hrnet.code import import_closure
from tests.support import ROOT, fakes
from tests.support.checkout import STAGES, Checkout

KINDS = ("float32", "uint8")
EXPORTED = "ONNX=build/demo_digits/model.onnx"  # of `built`: other values of BUILD need no second export
MODEL_ZOO_BATCHES = (1, 4, 8, 16, 32, 64)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Judged(Checkout):
    def make(self, *arguments: str, model: str = "demo_digits", **environment: str) -> subprocess.CompletedProcess[str]:
        """GATE is not remembered, so each call gives it."""
        return super().make(*arguments, model=model, **{"GATE": "50", **environment})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the whole chain ran on 60 digits, 6 of them with a wrong label, so that Top-1 is near 90%."""
    sklearn_data = pytest.importorskip("sklearn.datasets")
    assert sklearn_data
    checkout = Judged(tmp_path_factory.mktemp("checkout"))
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    labels = checkout.root / "data/digits/val_label.txt"
    lines = [line.split() for line in labels.read_text().splitlines()]
    wrong = [(name, (int(label) + 1) % 10 if row < 6 else label) for row, (name, label) in enumerate(sorted(lines))]
    labels.write_text("".join(f"{name} {label}\n" for name, label in wrong))
    assert checkout.stages("eval", "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config") == list(STAGES)
    return checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def metrics(built: Checkout) -> dict[str, object]:
    path = built.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32.json"
    content: dict[str, object] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize("name", ["KEEP_FLOAT", "REFERENCE", "SHARDS", "ATC_FLAGS", "BATCH"])
def test_an_empty_value_is_remembered_as_empty(checkout: Checkout, name: str) -> None:
    given = ["DATASET=weights", "BACKEND=onnxruntime"]
    for words in ([*given, f"{name}="], given):
        done = checkout.make("-n", "clean", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        settings = checkout.root / "build/demo_digits/settings" / f"{name}.mk"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(f"{name} ?= \n")


def test_second_eval_computes_nothing_and_still_judges(built: Checkout) -> None:
    done = built.make("eval")
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
    built: Checkout, script: str, expected: tuple[str, ...]
) -> None:
    before = (built.root / script).stat().st_mtime_ns
    (built.root / script).touch()
    try:
        assert sorted(built.stages("-n", "eval")) == sorted(expected)
    finally:
        os.utime(built.root / script, ns=(before, before))
    assert built.stages("-n", "eval") == []


def test_a_restarted_stage_computes_only_what_changed(built: Checkout) -> None:
    """An edit of the nets exports again; the file is equal, so later stages and inputs are kept."""
    inputs = {file: file.stat().st_mtime_ns for file in built.root.glob("build/demo_digits/prep/*/*.bin")}
    script = built.root / "hrnet/nets/trunk.py"
    text = script.read_text()
    script.write_text(f"{text}\n# edited\n")
    try:
        done = built.make("eval")
    finally:
        script.write_text(text)
    assert done.returncode == 0, done.stderr
    current = [line.split()[0] for line in done.stdout.splitlines() if " is up to date: " in line]
    place = "build/demo_digits"
    assert f"{place}/model.onnx" not in current, "the exporter's own code changed"
    run = "digits-float32-first60/onnxruntime-bs16-fp32"
    for product in ("om/bs16-float32-fp32.onnx", "prep/digits-float32-first60", f"out/{run}", f"eval/{run}.json"):
        assert any(line.startswith(f"{place}/{product}") for line in current), product
    assert {file: file.stat().st_mtime_ns for file in inputs} == inputs
    assert built.make("eval").returncode == 0
    assert built.stages("eval") == []


@pytest.mark.parametrize(
    "product, due",
    [
        ("model.onnx", STAGES[:2] + STAGES[3:]),
        ("om/bs16-float32-fp32.onnx", STAGES[1:2] + STAGES[3:]),
        ("prep/digits-float32-first60/manifest.json", STAGES[2:]),
        ("out/digits-float32-first60/onnxruntime-bs16-fp32_run.json", STAGES[3:]),
    ],
)
def test_a_missing_product_is_made_again_in_one_call(built: Checkout, product: str, due: tuple[str, ...]) -> None:
    """Also in the middle of the pipeline, although later products are newer."""
    (built.root / "build/demo_digits" / product).unlink()
    assert sorted(built.stages("eval")) == sorted(due)
    assert built.stages("eval") == []


def test_an_image_without_a_label_is_an_error(built: Checkout) -> None:
    """Preprocessing rejects it, also if it is added later."""
    (built.root / "data/digits/val/new.JPEG").write_bytes(b"")
    try:
        done = built.make("eval")
        assert done.returncode == 2 and "val/new.JPEG" in done.stderr
    finally:
        (built.root / "data/digits/val/new.JPEG").unlink()
    assert built.make("eval").returncode == 0


def recipes(database: str, commands: str) -> Iterator[tuple[list[str], set[str]]]:
    """The modules that each printed command runs, and the prerequisites that make has for its product."""
    rules = dict(re.findall(r"^([^#\s%:]+):(?!=) ?(.*)$", database, re.MULTILINE))
    for command in commands.replace("\\\n", " ").splitlines():
        modules = re.findall(r" -m ([a-z0-9_.]+)", command)
        output = re.search(r" --output (\S+)", command)
        if modules and output:
            candidates = [output[1] + ending for ending in ("", "/manifest.json", "_run.json")]
            if modules[0] == "make.shards":
                candidates = [re.search(r" --parts (\S+)/parts", command)[1] + ".json"]  # type: ignore[index]
            product = next((name for name in candidates if name in rules), None)
            assert product, command
            yield modules, set(rules[product].split())


LOADED_BY_NAME = {"infer": ["infer.emulator.__main__", *(f"infer.runtimes.{name}_runtime" for name in
                  ("onnxruntime", "openvino", "torchscript", "torch_aie"))],
                  "atc": ["atc.emulator.__main__"], "amct": ["amct.emulator.__main__"]}  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "qps", "bench", "reference", "bundle", "compare", "BATCHES=2"],
        ["eval", "bench", "BACKEND=torchscript"],
        ["show", "bench", "reference", "bundle", "compare", "MODEL=demo_pose", "WEIGHTS=weights/demo_pose.pth"],
        ["eval", "PRECISION=int8", "KEEP_FLOAT=auto"],
        ["eval", "PRECISION=fp16", "KEEP_FLOAT=auto"],
        ["eval", "SHARDS=4"],
        ["eval", "MODEL=demo_pose", "WEIGHTS=weights/demo_pose.pth", "SHARDS=4"],
    ],
)
def test_prerequisites_hold_all_code_that_a_recipe_runs(checkout: Checkout, arguments: list[str]) -> None:
    (checkout.root / "data/any").mkdir()
    given = [word for word in arguments if not word.startswith("MODEL=")]
    model = next((word.partition("=")[2] for word in arguments if word.startswith("MODEL=")), "demo_digits")
    call = ["-n", *given, "DATASET=data/any"]
    commands = checkout.make(*call, model=model)
    assert commands.returncode == 0, commands.stderr
    found = set()
    for modules, prerequisites in recipes(checkout.make("-p", *call, model=model).stdout, commands.stdout):
        roots = {*modules, *(name for each in modules for name in LOADED_BY_NAME.get(each.partition(".")[0], []))}
        missing = {str(file) for file in import_closure(roots)} - prerequisites
        assert not missing, f"{modules[0]}: make does not know of {sorted(missing)}"
        found |= set(modules)
    assert len(found) > 4


def test_a_dry_run_shows_the_stages_that_run(built: Checkout) -> None:
    (built.root / "infer/run.py").touch()
    shown = built.stages("-n", "eval")
    assert built.stages("eval") == shown == list(STAGES[3:])
    assert built.stages("eval") == []


def test_a_missed_gate_stays_missed_and_keeps_its_metrics(built: Checkout) -> None:
    first = built.make("eval", "GATE=1")
    assert first.returncode == 2 and "FAIL: demo_digits top1 " in first.stdout
    again = built.make("eval", "GATE=1")
    assert again.returncode == 2 and "FAIL: demo_digits top1 " in again.stdout
    assert not any(stage in again.stdout for stage in STAGES)
    assert metrics(built)["verdict"] == "fail"
    assert built.make("eval").returncode == 0, "GATE is not remembered"
    assert metrics(built)["verdict"] == "pass"


def test_a_changed_gate_is_judged_again_without_inference(built: Checkout) -> None:
    assert built.stages("eval", "GATE=49.5") == ["postprocess.classification"]
    assert metrics(built)["gate"] == {"metric": "top1", "allowed_points": 49.5}
    assert built.stages("eval", "GATE=50") == ["postprocess.classification"]


def test_a_remembered_setting_is_replaced_in_one_step(built: Checkout, tmp_path: Path) -> None:
    """A reader finds the old value or the new one, never a part of it, also after a kill."""
    settings = built.root / "build/demo_digits/settings"
    assert built.make("om", "LOOP=3").returncode == 0
    os.link(settings / "LOOP.mk", tmp_path / "before")
    assert built.make("om", "LOOP=4").returncode == 0
    assert (tmp_path / "before").read_text() == "LOOP ?= 3\n"
    assert (settings / "LOOP.mk").read_text() == "LOOP ?= 4\n"
    assert all(path.suffix == ".mk" for path in settings.iterdir())
    assert not (settings / "GATE.mk").exists()


def test_dry_run_remembers_nothing(built: Checkout) -> None:
    before = sorted((built.root / "build/demo_digits/settings").iterdir())
    assert built.stages("-n", "eval", "GATE=3", "MAX_REJECTED=4") == ["postprocess.classification"]
    assert sorted((built.root / "build/demo_digits/settings").iterdir()) == before
    assert built.stages("eval") == []


def test_precision_is_in_the_paths_and_remembered(built: Checkout) -> None:
    given = built.make("-n", "eval", "PRECISION=fp16").stdout
    om = "build/demo_digits/om/bs16-float32-fp16.onnx"
    assert f"--output {om} --batch_size 16 --input_dtype float32" in given
    assert "--precision fp16 --backend onnxruntime" in given
    assert f"--model {om} " in given and "/onnxruntime-bs16-fp16 " in given
    assert "eval/digits-float32-first60/onnxruntime-bs16-fp16.json" in given
    assert built.stages("-n", "eval", "PRECISION=fp16") == ["atc.convert", *STAGES[3:]]
    for value in ("fp32", "default"):
        assert built.stages("-n", "eval", f"PRECISION={value}") == [], "the emulator's default is fp32"
    assert built.stages("om", "PRECISION=fp16") == ["atc.convert"]
    assert "onnxruntime-bs16-fp16" in built.make("-n", "infer").stdout
    assert built.stages("eval", "PRECISION=default") == []


def test_uint8_gives_the_same_top1_to_top5(built: Checkout) -> None:
    """In its own folders, with 4 times smaller files; INPUT is remembered, and products of float32 stay."""
    place = built.root / "build/demo_digits"
    assert built.stages("eval", "INPUT=uint8") == list(STAGES[1:])
    path = place / "eval/digits-uint8-first60/onnxruntime-bs16-fp32.json"
    found, expected = json.loads(path.read_text()), metrics(built)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    assert (place / "om/bs16-uint8-fp32.aipp.cfg").read_text().startswith("aipp_op {\n    aipp_mode: static\n")
    sizes = [{file.stat().st_size for file in place.glob(f"prep/digits-{kind}-first60/*.bin")} for kind in KINDS]
    assert sizes == [{4 * 3 * 64 * 64}, {3 * 64 * 64}]
    logits = [
        [np.fromfile(file, np.float32) for file in sorted(place.glob(f"out/digits-{kind}-first60/*-fp32/*.bin"))]
        for kind in KINDS
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)
    assert built.stages("-n", "eval") == [], "uint8 is remembered"
    assert built.stages("eval", "INPUT=float32") == []


def test_openvino_runs_the_file_that_was_compiled_for_onnxruntime(built: Checkout) -> None:
    shown = built.make("-n", "eval", "BACKEND=openvino").stdout
    assert "atc.convert" not in shown
    assert "--model build/demo_digits/om/bs16-float32-fp32.onnx " in shown
    assert "/openvino-bs16-fp32 --device 0 --backend openvino" in shown
    done = built.make("-n", "infer", "BACKEND=openvino", "PRECISION=fp16")
    assert done.returncode == 2 and "PRECISION=fp16" in done.stderr and "BACKEND=onnxruntime" in done.stderr


def test_torchscript_has_its_own_export_and_compiled_file(built: Checkout) -> None:
    shown = " ".join(built.make("-n", "eval", "BACKEND=torchscript").stdout.replace("\\\n", "").split())
    place = "build/demo_digits"
    exported = f"--weights weights/demo_digits.pth --output {place}/model.ts"
    assert f"-m pth2onnx.torchscript --cfg configs/demo_digits.yaml {exported}" in shown
    compiled = (
        f"--model {place}/model.ts --output {place}/om/bs16-float32-fp32.ts --batch_size 16 --input_dtype float32"
    )
    assert f"{compiled} --precision fp32 --backend torchscript --soc_version Ascend310P3" in shown
    assert "/torchscript-bs16-fp32 --device 0 --backend torchscript" in shown
    assert "atc.convert" not in shown and "pth2onnx.classification" not in shown
    shown = built.make("-n", "om", "BACKEND=torch_aie").stdout
    assert f"--output {place}/om/bs16-float32-Ascend310P3.ts " in shown and "--precision default " in shown


def test_a_given_torchscript_file_is_used(built: Checkout) -> None:
    shutil.copy(ROOT / "weights/demo_digits.pth", built.root / "given.ts")
    shown = built.make("-n", "om", "BACKEND=torchscript", "TS=given.ts").stdout
    assert "-m pth2onnx.static --cfg configs/demo_digits.yaml --model given.ts " in shown
    assert "pth2onnx.torchscript" not in shown
    done = built.make("infer", "OM=given.ts", "BUILD=given", "DATASET=data/digits", "LIMIT=2")
    assert done.returncode == 2 and "given.ts.json" in done.stderr and " OM= TS=given.ts" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torchscript", "torch_aie"])
def test_torchscript_gives_the_top1_to_top5_of_onnxruntime(built: Checkout, backend: str) -> None:
    given = ["BUILD=ts", "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config"]
    done = built.make("eval", f"BACKEND={backend}", *given, PYTHONPATH=str(fakes.TORCH_AIE))
    assert done.returncode == 0, done.stderr
    target = "fp32" if backend == "torchscript" else "Ascend310P3"
    found = json.loads(
        (built.root / f"ts/demo_digits/eval/digits-float32-first60/{backend}-bs16-{target}.json").read_text()
    )
    expected = metrics(built)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    logits = [
        [
            np.fromfile(file, np.float32)
            for file in sorted(built.root.glob(f"{place}/demo_digits/out/digits-float32-first60/{tag}/*.bin"))
        ]
        for place, tag in (("ts", f"{backend}-bs16-{target}"), ("build", "onnxruntime-bs16-fp32"))
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)


def test_qps_runs_the_chain_at_each_batch(built: Checkout) -> None:
    """The result of eval is used for its batch size; the model zoo's other sizes are computed."""
    commands = built.make("-n", "qps").stdout
    for stage in STAGES[1:2] + STAGES[3:]:
        sizes = re.findall(rf"-m {stage} .*?/(?:om/|onnxruntime-)bs([0-9]+)-", commands)
        assert sorted(sizes, key=int) == ["1", "4", "8", "32", "64"]
    tags = " ".join(
        f"build/demo_digits/eval/digits-float32-first60/onnxruntime-bs{n}-fp32.json" for n in MODEL_ZOO_BATCHES
    )
    assert f"postprocess.qps_table --metrics {tags} --output " in commands
    commands = built.make("-n", "qps", "BATCHES=2 16").stdout
    assert commands.count("-m infer.run ") == 1 and "/onnxruntime-bs2-fp32 " in commands


@pytest.mark.slow
def test_the_model_zoos_eval_call_gives_the_accuracies_of_the_chain(built: Checkout) -> None:
    """With a label file elsewhere and an incomplete last batch."""
    shutil.copy(built.root / "data/digits/val_label.txt", built.root / "labels.txt")
    made = ["make", "torchscript", "BUILD=traced", "MODEL=demo_digits", f"PYTHON={sys.executable}"]
    subprocess.run(made, cwd=built.root, check=True, capture_output=True)
    flags = ["--batch_size", "7", "--device_id", "0", "--dataset", "data/digits/val", "--label_file", "labels.txt"]
    call = [sys.executable, "-m", "infer.qps", *flags, "--traced_model", "traced/demo_digits/model.ts"]
    done = subprocess.run(call, cwd=built.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = built.root.glob("build/qps/demo_digits/eval/*/torchscript-fp32-qps.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["batch"], row["images"]) == (7, 500)
    lines = [f"{name} {round(row[name] / 100, 8)}\n" for name in ("top1", "top5")]
    assert f"{''.join(lines)}QPS is {row['images_per_second']}, bs is 7\n" in done.stdout
    assert 98 < row["top1"] < 99, "six labels of 500 are wrong"


def test_bench_compiles_what_is_missing_and_times_once(built: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    given = ["BUILD=npu", EXPORTED, "BACKEND=ascend", "SOC=310", "BATCHES=1 2", "LOOP=2", "DEVICE=0,1"]
    given += [f"AIS_PYTHON={fakes.ais_python(tmp_path)}"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = built.make("bench", *given, PATH=path)
    assert done.returncode == 0, done.stderr
    content = json.loads((built.root / "npu/demo_digits/bench/ascend-Ascend310-dev0-1.json").read_text())
    assert [row["batch"] for row in content["rows"]] == [1, 2]
    for row, batch in zip(content["rows"], (1, 2)):
        assert row["model"] == f"npu/demo_digits/om/bs{batch}-float32-Ascend310.om" and row["images"] == 2 * batch
        assert row["card_images_per_second"] == pytest.approx(row["device_images_per_second"] / 2 * 4)
    again = built.make("bench", "BUILD=npu", PATH=path)
    assert again.returncode == 0 and "infer.bench" not in again.stdout
    more = built.make("-n", "bench", "BUILD=npu", "BATCHES=1 2 4", PATH=path).stdout
    assert (
        more.count("atc.convert") == 1 and "--batch_size 4 " in more and more.count("/bs4-float32-Ascend310.om ") == 2
    )


def test_bench_peers_keeps_other_files_of_its_directory(built: Checkout, tmp_path: Path) -> None:
    done = built.make("bench-peers", f"PEERS={tmp_path}")
    assert done.returncode == 2 and f"PEERS={tmp_path}: no imagenet_torch_preprocess.py" in done.stderr
    shown = built.make("-n", "bench-peers", f"PEERS={tmp_path}")
    assert f" -m benchmarks.topn_peer --peer {tmp_path}/imagenet_acc_eval.py\n" in shown.stdout
    call = f" -m benchmarks.preprocess_peer --mode hrnet --peer {tmp_path}/imagenet_torch_preprocess.py "
    assert f"{call}--dataset data/digits\n" in shown.stdout
    given = [f"PEERS={tmp_path}", "WEIGHTS=weights/demo_digits.pth"]
    shown = built.make("-n", "bench-peers", *given, model="higher_hrnet_w32_512")
    stages = [line.split(" -m ")[1].split()[0] for line in shown.stdout.splitlines() if " -m " in line]
    peers = ["preprocess_pose_peer", "pose_decode", "pose_chain"]
    assert stages == ["pth2onnx.pose", "atc.convert", *(f"benchmarks.{peer}" for peer in peers)]


def test_show_draws_once(built: Checkout) -> None:
    first = built.make("show").stdout
    assert "show.png: the first 24 images, Top-1 wrong on " in first
    assert "Nothing to be done for 'show'" in built.make("show", LC_ALL="C").stdout


def test_environment_variables_count_as_given_values(built: Checkout) -> None:
    assert "--gate 0.25" in built.make("-n", "eval", GATE="0.25").stdout


def test_weights_given_once_are_used_by_later_calls(built: Checkout) -> None:
    """`make onnx WEIGHTS=x` then `make om` uses x; another value is another model. The last test
    of `built`, since the compiled model is outdated afterwards."""
    default = "weights/demo_digits.pth"
    shutil.copy(ROOT / default, built.root / "x.pth")
    assert "--weights x.pth" in built.make("onnx", "WEIGHTS=x.pth").stdout
    later = built.make("-n", "om").stdout
    assert "pth2onnx" not in later, "model.onnx is that of x.pth already"
    assert "atc.convert --cfg configs/demo_digits.yaml --model build/demo_digits/model.onnx" in later
    assert "WEIGHTS=x.pth" in built.make("-n", "om").stderr
    (built.root / "x.pth").touch()
    assert "--weights x.pth" in built.make("-n", "om").stdout
    assert f"--weights {default}" in built.make("-n", "om", f"WEIGHTS={default}").stdout


@pytest.mark.parametrize(
    "value",
    [
        *("BACKEND=npu", "BATCH=four", "DATASET=my images", "DATASET=it's", "DATASET=nowhere", "WEIGHTS=a#b.pth"),
        *("SOC=P3", "GATE=1%", "INPUT=", "BATCHES=0", "BATHC=4", "SHARDS=0", "SHARD=4/3"),
    ],
)
def test_invalid_values_stop_before_anything_is_written(checkout: Checkout, value: str) -> None:
    """tests/make/test_options.py has all checks; these go through make's quoting."""
    done = checkout.make("eval", value)
    assert done.returncode == 2 and value.removesuffix("=4") in done.stderr and "  Stop." in done.stderr
    assert not (checkout.root / "build").exists(), "a refused value is not remembered"


@pytest.mark.parametrize("text", ["LOOP ?= $(shell touch evil)\n", "LOOP ?= 1\ninclude x\n$(shell touch evil)\n"])
def test_make_runs_nothing_that_a_changed_settings_file_contains(checkout: Checkout, text: str) -> None:
    path = checkout.root / "build/demo_digits/settings/LOOP.mk"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (checkout.root / "x").write_text("$(shell touch evil)\n")
    for target in ("om", "help", "-n"):
        done = checkout.make(target)
        assert target != "om" or (done.returncode == 2 and "LOOP" in done.stderr), done.stderr
    assert not (checkout.root / "evil").exists()


@pytest.mark.parametrize("value", ["MODEL=", "MODEL=../configs", "MODEL=nothing"])
def test_clean_removes_only_the_model(checkout: Checkout, value: str) -> None:
    (checkout.root / "build/kept").mkdir(parents=True)
    done = checkout.make("clean", model=value.partition("=")[2])
    assert done.returncode == 2 and f"{value}: no such config" in done.stderr
    assert (checkout.root / "build/kept").is_dir() and (checkout.root / "configs").is_dir()


def test_an_unknown_model_is_rejected(checkout: Checkout) -> None:
    done = checkout.make("onnx", model="hrnet_w19")
    assert done.returncode == 2 and "MODEL=hrnet_w19" in done.stderr and "demo_digits" in done.stderr


def test_a_users_config_names_the_model_and_its_products(checkout: Checkout) -> None:
    """The file name of CFG is the model and part of its products; CFG is remembered."""
    shutil.copy(checkout.root / "configs/demo_digits.yaml", checkout.root / "mine.yaml")
    call = [sys.executable, "-m", "pth2onnx.classification", "--cfg", "mine.yaml"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    given = ["make", "onnx", "CFG=mine.yaml", "WEIGHTS=weights/demo_digits.pth", f"PYTHON={sys.executable}"]
    done = subprocess.run(given, cwd=checkout.root, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{' '.join(call)} --weights weights/demo_digits.pth --output build/mine/model.onnx\n" in done.stdout
    assert (checkout.root / "build/mine/model.onnx").exists()
    assert "--cfg mine.yaml --model build/mine/model.onnx" in checkout.make("-n", "om", model="mine").stdout


def test_hints_of_a_stage_name_the_model_of_a_users_config(checkout: Checkout) -> None:
    """hrnet/hints.py reads MODEL from the environment."""
    shutil.copy(checkout.root / "configs/demo_digits.yaml", checkout.root / "mine.yaml")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    stage = checkout.root / "python"
    stage.write_text("#!/bin/sh\necho model: $MODEL\nexit 2\n")
    stage.chmod(0o700)
    given = ["make", "onnx", "CFG=mine.yaml", "WEIGHTS=weights/demo_digits.pth", "PYTHON=./python"]
    done = subprocess.run(given, cwd=checkout.root, env=clean, capture_output=True, text=True)
    assert done.returncode == 2 and "\nmodel: mine\n" in done.stdout, done.stderr


def test_a_missing_checkpoint_is_reported(checkout: Checkout) -> None:
    done = checkout.make("onnx", model="hrnet_w18_ssld")
    assert done.returncode == 2
    assert "weights/hrnet_w18_ssld.pth" in done.stderr and " MODEL=hrnet_w18_ssld" in done.stderr
    assert "https://github.com/HRNet/HRNet-Image-Classification/releases/download/" in done.stderr
    done = checkout.make("onnx", model="hrnet_w30")
    assert done.returncode == 2
    assert "weights/hrnet_w30.pth" in done.stderr and " MODEL=hrnet_w30" in done.stderr


def test_weights_downloads_to_the_path_that_onnx_uses(checkout: Checkout, tmp_path: Path) -> None:
    """`make -j weights onnx` waits for the download; WEIGHTS= may name a file that does not exist yet."""
    served = tmp_path / "served"
    served.mkdir()
    shutil.copy(ROOT / "weights/demo_digits.pth", served / "published.pth")
    handler = functools.partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        config = checkout.root / "configs/demo_digits.yaml"
        url = f"http://127.0.0.1:{server.server_address[1]}/published.pth"
        config.write_text(f"{config.read_text()}WEIGHTS:\n  URL: {url}\n")
        done = checkout.make("-j2", "weights", "onnx", "WEIGHTS=weights/new.pth", no_proxy="*")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert (checkout.root / "weights/new.pth").read_bytes() == (served / "published.pth").read_bytes()
    assert "wrote weights/new.pth (" in done.stdout
    assert "--weights weights/new.pth" in done.stdout and (checkout.root / "build/demo_digits/model.onnx").exists()
    done = checkout.make("weights")
    assert done.returncode == 2 and "WEIGHTS=weights/demo_digits.pth" in done.stderr, "a remembered file is the user's"


def test_train_writes_to_the_path_of_the_model_zoos_scripts(checkout: Checkout) -> None:
    (checkout.root / "data/toy").mkdir(parents=True)
    for model, task in (("demo_digits", "classification"), ("demo_pose", "pose")):
        done = checkout.make("-n", "train", "DATASET=data/toy", model=model)
        call = f"-m train.{task} --cfg configs/{model}.yaml --dataset data/toy --output build/{model}/train\n"
        assert done.returncode == 0 and done.stdout.endswith(call), done.stderr


def test_doctor_checks_the_given_values_and_remembers_nothing(checkout: Checkout) -> None:
    folder = checkout.root / "data/toy/val"
    folder.mkdir(parents=True)
    (folder / "a.JPEG").write_bytes(b"")
    (folder.parent / "val_label.txt").write_text("a.JPEG 0\n")
    done = checkout.make("doctor", "DATASET=data/toy", "BACKEND=onnxruntime")
    assert done.returncode == 0, done.stderr
    assert "\nbackend        onnxruntime (as given)\n" in done.stdout
    assert "\ndata set       data/toy: 1 images\n" in done.stdout
    assert done.stdout.endswith("ready to run demo_digits\n")
    done = checkout.make("doctor", "WEIGHTS=nowhere.pth", "DATASET=data/toy", "BACKEND=ascend")
    assert done.returncode == 2
    assert "BACKEND=ascend: atc is not on PATH; source " in done.stderr
    assert "missing: nowhere.pth: no such checkpoint" in done.stderr
    assert "SOC=Npu310: " in checkout.make("doctor", "SOC=Npu310").stderr
    assert not (checkout.root / "build").exists()


def test_atc_on_the_path_is_used(checkout: Checkout) -> None:
    (checkout.root / "bin").mkdir()
    (checkout.root / "bin/atc").write_text("#!/bin/sh\n")
    (checkout.root / "bin/atc").chmod(0o755)
    (checkout.root / "data/imagenet/val").mkdir(parents=True)
    path = f"{checkout.root}/bin:{os.environ['PATH']}"
    done = checkout.make("-n", "om", PATH=path)
    assert "BACKEND=auto: using ascend (atc is on PATH)" in done.stderr
    assert "--output build/demo_digits/om/bs16-float32-Ascend310P3.om --batch_size 16 " in done.stdout
    assert "--precision default --backend ascend" in done.stdout
    for precision in ("fp16", "fp32"):
        shown = checkout.make("-n", "infer", f"PRECISION={precision}", PATH=path).stdout
        assert f"/om/bs16-float32-Ascend310P3-{precision}.om --batch_size 16 " in shown
        assert f"--precision {precision} --backend ascend" in shown
        assert f"/ascend-bs16-Ascend310P3-{precision} " in shown


@pytest.mark.parametrize(
    ("device", "kind"),
    [("0", "float32"), ("0,1", "uint8"), pytest.param("0,1,2,3", "float32", marks=pytest.mark.slow)],
)
def test_the_pipeline_runs_with_the_fake_tools(built: Checkout, tmp_path: Path, device: str, kind: str) -> None:
    """The fakes of `atc` and ais_bench in place of the emulators give the same Top-1 to Top-5."""
    fakes.atc(tmp_path)
    python = fakes.ais_python(tmp_path)
    path = f"{tmp_path}:{os.environ['PATH']}"
    build = f"npu{device.count(',')}"
    given = [EXPORTED, "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config", "SOC=310P3"]
    given += [f"DEVICE={device}", f"AIS_PYTHON={python}", f"INPUT={kind}"]
    whole = [] if "," in device else ["preprocess", "infer"]
    targets = ["om", *whole, "eval", f"BUILD={build}", "BACKEND=ascend"]
    done = built.make(*targets, *given, PATH=path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "SOC=310P3: using Ascend310P3" in done.stderr
    place = f"{build}/demo_digits"
    om, name = f"{place}/om/bs16-{kind}-Ascend310P3", f"digits-{kind}-first60"
    aipp = f" --insert_op_conf={om}.aipp.cfg" if kind == "uint8" else ""
    assert (
        f"atc --framework=5 --model=build/demo_digits/model.onnx --input_format=NCHW --input_shape=image:16,3,64,64 "
        f"--output={om}{aipp} --soc_version=Ascend310P3 --log=error"
    ) in said
    run = f"{name}/ascend-bs16-Ascend310P3"
    if whole:
        passes = {device: (f"{place}/prep/{name}", f"{place}/out/{name}", "ascend-bs16-Ascend310P3")}
    else:
        parts = f"{place}/eval/{run}/parts"
        count = len(device.split(","))
        works = [f"{parts}/{i + 1}-of-{count}" for i in range(count)]
        passes = {str(i): (f"{work}/prep", f"{work}/out", "run") for i, work in enumerate(works)}
    calls = [line for line in said if line.startswith(f"{python} -m ais_bench ")]
    expected_calls = {
        f"--input {inputs} --output {output} --output_dirname {folder} --outfmt BIN --batchsize 16"
        for inputs, output, folder in passes.values()
    }
    head = f"{python} -m ais_bench --model {om}.om "
    assert {line.removeprefix(head).partition(" --device ")[0] for line in calls} == expected_calls
    assert len(calls) == len(passes) and {line.partition(" --device ")[2] for line in calls} <= set(passes)
    found = json.loads((built.root / place / f"eval/{name}/ascend-bs16-Ascend310P3.json").read_text())
    expected = metrics(built)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    assert found["images"] == 60 and found["verdict"] == "pass" and found["tool"] == "ais_bench"
    again = built.make("eval", f"BUILD={build}", PATH=path)
    assert again.returncode == 0 and not any(stage in again.stdout for stage in STAGES)


def test_a_changed_flag_of_atc_or_its_file_compiles_again(built: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    (built.root / "ops.cfg").write_text("Conv_0\n")
    words = "--keep_dtype=ops.cfg --input_hint_shape=image:1,3,64,64;x:2"
    given = ["om", "BUILD=flags", "BACKEND=ascend", f"ONNX={built.root}/build/demo_digits/model.onnx"]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    om = built.root / "flags/demo_digits/om/bs16-float32-Ascend310P3.om"

    def content() -> dict[str, str]:
        head: dict[str, str] = json.loads(om.read_bytes().partition(b"\n")[0][4:])
        return head

    assert built.make(*given, f"ATC_FLAGS={words}", **environment).returncode == 0
    assert content()["keep_dtype_content"] == "Conv_0\n" and content()["input_hint_shape"].endswith(";x:2")
    assert "atc.convert" not in built.make(*given, **environment).stdout, "remembered, and nothing to do"
    (built.root / "ops.cfg").write_text("Conv_1\n")
    assert "atc.convert" in built.make("-n", *given, **environment).stdout
    assert built.make(*given, **environment).returncode == 0
    assert content()["keep_dtype_content"] == "Conv_1\n"
    assert built.make(*given, "ATC_FLAGS=", **environment).returncode == 0
    assert "keep_dtype" not in content()


def test_a_python_without_ais_bench_is_reported(built: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    given = [
        EXPORTED,
        "DATASET=data/digits",
        "LIMIT=60",
        f"AIS_PYTHON={sys.executable}",
        "BACKEND=ascend",
        "BUILD=none",
    ]
    done = built.make("infer", *given, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert f"infer.run: error: {sys.executable}: " in done.stderr and "AIS_PYTHON" in done.stderr


IN_PARTS = ["BUILD=parts", EXPORTED, "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config"]
SHARDED = ("make.shards", "postprocess.merge")


def due(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that make itself calls."""
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{sys.executable} -m ")]
    return [line.split()[2] for line in lines if line.split()[2] in (*STAGES, *SHARDED)]


def test_parts_give_the_metrics_of_all_images(built: Checkout) -> None:
    """Also if computed part by part; finished parts are not computed again."""
    given = [*IN_PARTS, "SHARDS=3"]
    place = built.root / "parts/demo_digits"
    shown = due(built.make("-n", "eval", *given))
    assert shown == [STAGES[1], *SHARDED]
    assert [stage for stage in due(built.make("eval", *given)) if stage in shown] == shown
    assert (place / "settings/SHARDS.mk").read_text() == "SHARDS ?= 3\n"
    path = place / "eval/digits-float32-first60/onnxruntime-bs16-fp32.json"
    whole = built.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32"
    found, expected = json.loads(path.read_text()), json.loads(whole.with_suffix(".json").read_text())
    for name in ("metrics", "interval95", "images", "classes", "counts", "verdict", "images_sha256"):
        assert found[name] == expected[name], name
    for name in ("predictions.jsonl", "result.json"):
        assert (path.with_suffix("") / name).read_bytes() == (whole / name).read_bytes(), name
    parts = path.with_suffix("") / "parts"
    assert not [entry for entry in parts.iterdir() if entry.is_dir()], "inputs and outputs are removed"
    assert due(built.make("eval", "BUILD=parts")) == [], "SHARDS is remembered"

    before = {part: part.stat().st_mtime_ns for part in parts.glob("*.json")}
    (parts / "2-of-3.json").unlink()
    done = built.make("merge", "SHARDS=3", "BUILD=parts")
    assert (
        done.returncode == 2
        and "2/3" in done.stderr
        and "make part MODEL=demo_digits BUILD=parts " in done.stderr
        and " SHARD=2/3" in done.stderr
    )
    settings = sorted((place / "settings").iterdir())
    assert "make.shards" in due(built.make("part", "SHARD=2/3", "BUILD=parts"))
    assert sorted((place / "settings").iterdir()) == settings
    assert "PASS: demo_digits top1 " in built.make("merge", "SHARDS=3", "BUILD=parts").stdout
    after = {part: part.stat().st_mtime_ns for part in parts.glob("*.json")}
    assert [part.name for part in before if before[part] != after[part]] == ["2-of-3.json"]
    assert json.loads(path.read_text())["metrics"] == expected["metrics"]

    assert "make.shards" in due(built.make("part", "SHARD=1/2", "KEEP=1", "BUILD=parts"))
    assert sorted(entry.name for entry in (parts / "1-of-2").iterdir() if entry.is_dir()) == ["out", "prep"]
    assert due(built.make("eval", "BUILD=parts", "SHARDS=1"))[-1] == "postprocess.classification"


def test_a_part_builds_nothing_before_it(built: Checkout) -> None:
    done = built.make("part", "SHARD=3/16", "BUILD=nothing", "DATASET=data/digits", "GATE=3")
    assert done.returncode == 2 and "nothing/demo_digits/om/bs16-float32-fp32.onnx" in done.stderr
    assert "make om" in done.stderr and done.stderr.count(": error: ") == 1
    assert not (built.root / "nothing").exists(), "no settings either"


def test_a_cluster_takes_the_same_arguments(built: Checkout) -> None:
    """The model is compiled before; the other lines are those of make eval with parts."""
    given = [*IN_PARTS, "SHARDS=3", "BUILD=nodes", "INPUT=uint8"]
    parts, cluster = (built.make("-n", goal, *given).stdout.splitlines() for goal in ("eval", "cluster"))
    ours = [line for line in cluster if " -m " in line]
    assert [line.split()[2] for line in ours] == [
        "atc.convert",
        "make.cluster",
        "postprocess.merge",
        "postprocess.gate",
    ]
    (expected,) = (line.replace("make.shards", "make.cluster") for line in parts if "-m make.shards " in line)
    assert ours[1].startswith(f"{expected} --backend onnxruntime ")
    assert all(f" --set {word}" in ours[1] for word in ("INPUT=uint8", "LIMIT=60", "MAX_REJECTED=0"))
    assert ours[2] in parts


@pytest.mark.parametrize("goal", ["preprocess", "infer", "reference", "qps"])
def test_parts_are_only_computed_by_eval(built: Checkout, goal: str) -> None:
    done = built.make(goal, "SHARDS=2", "BUILD=nothing", "DATASET=data/digits")
    assert (
        done.returncode == 2
        and "SHARDS=2: " in done.stderr
        and f"make {goal} " in done.stderr
        and "SHARDS=1" in done.stderr
    )
    assert not (built.root / "nothing").exists()


def test_settings_of_pip_and_git_do_not_break_setup(checkout: Checkout) -> None:
    """PIP_USER=1 would install outside of .venv, core.autocrlf=true would break the shell scripts."""
    install = [line for line in checkout.make("-n", "setup").stdout.splitlines() if " pip install " in line]
    assert install and all(line.startswith("PIP_USER=0 ") for line in install)
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()


def test_stages_that_are_timed_never_run_side_by_side(checkout: Checkout) -> None:
    """With any MAKEFLAGS: two stages at a time would disturb the timing."""
    order = [
        line.split()[2] for line in checkout.make("-n", "qps", "BATCHES=1,2").stdout.splitlines() if " -m " in line
    ]
    again = checkout.make("-n", "-j4", "qps", "BATCHES=1,2").stdout.splitlines()
    assert [line.split()[2] for line in again if " -m " in line] == order
    assert "\n.NOTPARALLEL:" in checkout.make("-p", "-j4", "help").stdout


def test_chunk_names_its_replacement(built: Checkout) -> None:
    settings = built.root / "chunks/demo_digits/settings"
    given = ["eval", "BUILD=chunks", "DATASET=data/digits"]
    done = built.make(*given, "CHUNK=100")
    assert done.returncode == 2 and "CHUNK=100" in done.stderr and "SHARDS=5 " in done.stderr
    assert not settings.exists()
    settings.mkdir(parents=True)
    (settings / "CHUNK.mk").write_text("CHUNK ?= 100\n")
    done = built.make(*given)
    assert done.returncode == 2 and "rm chunks/demo_digits/settings/CHUNK.mk" in done.stderr


def test_a_new_image_in_a_class_folder_is_noticed(built: Checkout) -> None:
    digits = sorted((built.root / "data/digits/val").iterdir())
    folder = built.root / "data/classes/val/0"
    folder.mkdir(parents=True)
    shutil.copy(digits[0], folder)
    given = ["preprocess", "DATASET=data/classes", "LIMIT=0", "BUILD=classes"]
    assert built.stages(*given) == ["preprocess.classification"]
    assert built.stages(*given) == []
    shutil.copy(digits[1], folder)
    assert built.stages("-n", *given) == ["preprocess.classification"]


def test_predict_equals_eval_and_needs_no_labels(built: Checkout) -> None:
    """The same classes as make eval found, on images of a folder and on a file; a failed call leaves the result."""
    folder, result = built.root / "photos", built.root / "build/demo_digits/predict"
    folder.mkdir()
    eval_folder = built.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32"
    lines = (eval_folder / "predictions.jsonl").read_text()
    evaluated = [json.loads(line) for line in lines.splitlines()[:3]]
    names = ("a digit.JPEG", "b.JPEG", "c.JPEG")
    for each, name in zip(evaluated, names):
        shutil.copy(built.root / "data/digits" / each["source"], folder / name)
    shutil.move(folder / "c.JPEG", built.root / "c.JPEG")
    done = built.make("predict", "IMAGES=photos/ c.JPEG", "LIMIT=60")
    assert done.returncode == 0 and "LIMIT=60 is ignored" in done.stderr, done.stderr
    record = json.loads((result / "predictions.json").read_text())
    assert [each["image"] for each in record["images"]] == ["photos/a digit.JPEG", "photos/b.JPEG", "c.JPEG"]
    for each, other in zip(record["images"], evaluated):
        assert (each["classes"], each["probabilities"]) == (other["classes"], other["probabilities"])
        assert f"{each['image']}: class {other['classes'][0]} " in done.stdout
    assert not (built.root / "build/demo_digits/predict_work").exists()
    (built.root / "bad.jpg").write_bytes(b"%PDF-1.4")
    done = built.make("predict", "IMAGES=c.JPEG bad.jpg")
    assert done.returncode == 2 and "bad.jpg: not an image" in done.stderr and "MAX_REJECTED=1" in done.stderr
    assert json.loads((result / "predictions.json").read_text()) == record


def test_family_names_what_bench_and_eval_write(checkout: Checkout) -> None:
    """In a dry run, with MODEL= as Checkout gives it left out; the same names as make's own."""
    (checkout.root / "data/any").mkdir()
    given = ["-n", f"PYTHON={sys.executable}", "DATASET=data/any", "BATCHES=1 2"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    call = ["make", *given, "family", "MODELS=demo_digits hrnet_w18"]
    done = subprocess.run(call, cwd=checkout.root, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace("\\\n", " ").replace("'", "").split()
    bench, metrics = (words[words.index(flag) + 1] for flag in ("--bench", "--metrics"))
    assert words[words.index("--models") + 1 : words.index("--output")] == ["demo_digits", "hrnet_w18"]
    assert {"BATCHES=1,2", "BATCH=2", "DATASET=data/any", "BACKEND=onnxruntime"} <= set(words)
    own = checkout.make("-n", "bench", "eval", "DATASET=data/any", "BATCHES=1,2", "BATCH=2").stdout.split()
    assert {f"build/demo_digits/{bench}", f"build/demo_digits/{metrics}"} <= set(own)


@pytest.mark.slow
def test_family_of_the_demo(built: Checkout) -> None:
    """Measured accuracy and latency, four charts, and nothing computed again."""
    pytest.importorskip("matplotlib")
    given = [
        "family",
        "MODELS=demo_digits",
        "BATCHES=1 2",
        "DATASET=data/digits",
        "LIMIT=60",
        f"PYTHON={sys.executable}",
    ]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for expected in ("row 1 of 1", "1 of 1 rows were finished before"):
        call = ["make", *given]
        done = subprocess.run(call, cwd=built.root, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    folder = built.root / "build/family/onnxruntime-fp32-dev0"
    (row,) = json.loads((folder / "family.json").read_text())["rows"]
    assert row["images"] == 60 and row["reference"] is None
    assert row["top1"] == metrics(built)["metrics"]["top1"]  # type: ignore[index]
    assert row["gmacs"] == pytest.approx(0.01101, rel=1e-3) and set(row["batch_ms"]) == {"1", "2"}
    assert len(list(folder.glob("*.svg"))) == len(list(folder.glob("*.png"))) == 4
    assert not (folder / "work").exists()


def test_help_lists_every_target_and_variable_in_100_columns() -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    shown = subprocess.run(["make", "help"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 100 and "$" not in shown
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    stages, variables = (
        re.search(rf"^{name} *:= (.*)$", text, re.MULTILINE)[1].split() for name in ("STAGES", "OPTIONS")
    )  # type: ignore[index]
    targets = [*stages, "setup", "doctor", "demo", "test", "check", "clean", "bench-peers"]
    for name in [*variables, *targets]:
        assert f"\n  {name} " in shown, name
    assert "weights/MODEL.pth" in shown and "build/MODEL/model.onnx" in shown


def test_the_makefile_is_one_page() -> None:
    assert len((ROOT / "Makefile").read_text().splitlines()) <= 150
