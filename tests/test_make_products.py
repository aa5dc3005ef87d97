"""make on the demo's model: the products of each precision, input, backend and target."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT, fakes
from tests.support.checkout import STAGES, Checkout
from tests.support.demo_chain import EXPORTED, metrics

KINDS = ("float32", "uint8")


MODEL_ZOO_BATCHES = (1, 4, 8, 16, 32, 64)


def test_precision_is_in_the_paths_and_remembered(demo: Checkout) -> None:
    given = demo.make("-n", "eval", "PRECISION=fp16").stdout
    om = "build/demo_digits/om/bs16-float32-fp16.onnx"
    assert f"--output {om} --batch_size 16 --input_dtype float32" in given
    assert "--precision fp16 --backend onnxruntime" in given
    assert f"--model {om} " in given and "/onnxruntime-bs16-fp16 " in given
    assert "eval/digits-float32-first60/onnxruntime-bs16-fp16.json" in given
    assert demo.stages("-n", "eval", "PRECISION=fp16") == ["atc.convert", *STAGES[3:]]
    for value in ("fp32", "default"):
        assert demo.stages("-n", "eval", f"PRECISION={value}") == [], "the emulator's default is fp32"
    assert demo.stages("om", "PRECISION=fp16") == ["atc.convert"]
    assert "onnxruntime-bs16-fp16" in demo.make("-n", "infer").stdout
    assert demo.stages("eval", "PRECISION=default") == []
    searched = demo.make("-n", "om", "PRECISION=int8", "KEEP_FLOAT=auto").stdout
    assert "-m keep_float.search" in searched
    assert "\nrm " not in searched, "make does not delete the list of operators as an intermediate file"


def test_uint8_gives_the_same_top1_to_top5(demo: Checkout) -> None:
    """In its own folders, with 4 times smaller files; INPUT is remembered, and products of float32 stay."""
    place = demo.root / "build/demo_digits"
    assert demo.stages("eval", "INPUT=uint8") == list(STAGES[1:])
    path = place / "eval/digits-uint8-first60/onnxruntime-bs16-fp32.json"
    found, expected = json.loads(path.read_text()), metrics(demo)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    assert (place / "om/bs16-uint8-fp32.aipp.cfg").read_text().startswith("aipp_op {\n    aipp_mode: static\n")
    sizes = [{file.stat().st_size for file in place.glob(f"prep/digits-{kind}-first60/*.bin")} for kind in KINDS]
    assert sizes == [{4 * 3 * 64 * 64}, {3 * 64 * 64}]
    logits = [
        [np.fromfile(file, np.float32) for file in sorted(place.glob(f"out/digits-{kind}-first60/*-fp32/*.bin"))]
        for kind in KINDS
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)
    assert demo.stages("-n", "eval") == [], "uint8 is remembered"
    assert demo.stages("eval", "INPUT=float32") == []


def test_openvino_runs_the_file_that_was_compiled_for_onnxruntime(demo: Checkout) -> None:
    shown = demo.make("-n", "eval", "BACKEND=openvino").stdout
    assert "atc.convert" not in shown
    assert "--model build/demo_digits/om/bs16-float32-fp32.onnx " in shown
    assert "/openvino-bs16-fp32 --device 0 --backend openvino" in shown
    done = demo.make("-n", "infer", "BACKEND=openvino", "PRECISION=fp16")
    assert done.returncode == 2 and "PRECISION=fp16" in done.stderr and "BACKEND=onnxruntime" in done.stderr


def test_torchscript_has_its_own_export_and_compiled_file(demo: Checkout) -> None:
    shown = " ".join(demo.make("-n", "eval", "BACKEND=torchscript").stdout.replace("\\\n", "").split())
    place = "build/demo_digits"
    exported = f"--weights weights/demo_digits.pth --output {place}/model.ts"
    assert f"-m pth2onnx.torchscript --cfg configs/demo_digits.yaml {exported}" in shown
    compiled = (
        f"--model {place}/model.ts --output {place}/om/bs16-float32-fp32.ts --batch_size 16 --input_dtype float32"
    )
    assert f"{compiled} --precision fp32 --backend torchscript --soc_version Ascend310P3" in shown
    assert "/torchscript-bs16-fp32 --device 0 --backend torchscript" in shown
    assert "atc.convert" not in shown and "pth2onnx.classification" not in shown
    shown = demo.make("-n", "om", "BACKEND=torch_aie").stdout
    assert f"--output {place}/om/bs16-float32-Ascend310P3.ts " in shown and "--precision default " in shown


def test_a_given_torchscript_file_is_used(demo: Checkout) -> None:
    shutil.copy(ROOT / "weights/demo_digits.pth", demo.root / "given.ts")
    shown = demo.make("-n", "om", "BACKEND=torchscript", "TS=given.ts").stdout
    assert "-m pth2onnx.static --cfg configs/demo_digits.yaml --model given.ts " in shown
    assert "pth2onnx.torchscript" not in shown
    done = demo.make("infer", "OM=given.ts", "BUILD=given", "DATASET=data/digits", "LIMIT=2")
    assert (
        done.returncode == 2
        and "given.ts.json" in done.stderr
        and " OM= BACKEND=torchscript TS=given.ts" in done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torchscript", "torch_aie"])
def test_torchscript_gives_the_top1_to_top5_of_onnxruntime(demo: Checkout, backend: str) -> None:
    given = ["BUILD=ts", "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config"]
    done = demo.make("eval", f"BACKEND={backend}", *given, PYTHONPATH=str(fakes.TORCH_AIE))
    assert done.returncode == 0, done.stderr
    target = "fp32" if backend == "torchscript" else "Ascend310P3"
    found = json.loads(
        (demo.root / f"ts/demo_digits/eval/digits-float32-first60/{backend}-bs16-{target}.json").read_text()
    )
    expected = metrics(demo)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    logits = [
        [
            np.fromfile(file, np.float32)
            for file in sorted(demo.root.glob(f"{place}/demo_digits/out/digits-float32-first60/{tag}/*.bin"))
        ]
        for place, tag in (("ts", f"{backend}-bs16-{target}"), ("build", "onnxruntime-bs16-fp32"))
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)


def test_qps_runs_the_chain_at_each_batch(demo: Checkout) -> None:
    """The result of eval is used for its batch size; the model zoo's other sizes are computed."""
    commands = demo.make("-n", "qps").stdout
    for stage in STAGES[1:2] + STAGES[3:]:
        sizes = re.findall(rf"-m {stage} .*?/(?:om/|onnxruntime-)bs([0-9]+)-", commands)
        assert sorted(sizes, key=int) == ["1", "4", "8", "32", "64"]
    tags = " ".join(
        f"build/demo_digits/eval/digits-float32-first60/onnxruntime-bs{n}-fp32.json" for n in MODEL_ZOO_BATCHES
    )
    assert f"postprocess.qps_table --metrics {tags} --output " in commands
    commands = demo.make("-n", "qps", "BATCHES=2 16").stdout
    assert commands.count("-m infer.run ") == 1 and "/onnxruntime-bs2-fp32 " in commands


@pytest.mark.slow
def test_the_model_zoos_eval_call_gives_the_accuracies_of_the_chain(demo: Checkout) -> None:
    """With a label file elsewhere and an incomplete last batch."""
    shutil.copy(demo.root / "data/digits/val_label.txt", demo.root / "labels.txt")
    made = ["make", "torchscript", "BUILD=traced", "MODEL=demo_digits", f"PYTHON={sys.executable}"]
    subprocess.run(made, cwd=demo.root, check=True, capture_output=True)
    flags = ["--batch_size", "7", "--device_id", "0", "--dataset", "data/digits/val", "--label_file", "labels.txt"]
    call = [sys.executable, "-m", "infer.qps", *flags, "--traced_model", "traced/demo_digits/model.ts"]
    done = subprocess.run(call, cwd=demo.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = demo.root.glob("build/qps/demo_digits/eval/*/torchscript-fp32-qps.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["batch"], row["images"]) == (7, 500)
    lines = [f"{name} {round(row[name] / 100, 8)}\n" for name in ("top1", "top5")]
    assert f"{''.join(lines)}QPS is {row['images_per_second']}, bs is 7\n" in done.stdout
    assert 98 < row["top1"] < 99, "six labels of 500 are wrong"


def test_bench_compiles_what_is_missing_and_measures_only_once(demo: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    given = ["BUILD=npu", EXPORTED, "BACKEND=ascend", "SOC=310", "BATCHES=1 2", "LOOP=2"]
    given += [f"AIS_PYTHON={fakes.ais_python(tmp_path)}"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = demo.make("bench", *given, PATH=path)
    assert done.returncode == 0, done.stderr
    content = json.loads((demo.root / "npu/demo_digits/bench/ascend-Ascend310-dev0.json").read_text())
    assert [row["batch"] for row in content["rows"]] == [1, 2]
    for row, batch in zip(content["rows"], (1, 2)):
        assert row["model"] == f"npu/demo_digits/om/bs{batch}-float32-Ascend310.om" and row["images"] == 2 * batch
        assert row["card_images_per_second"] == pytest.approx(row["device_images_per_second"] * 4)
    again = demo.make("bench", "BUILD=npu", "BATCHES=1 2", PATH=path)
    assert again.returncode == 0 and "infer.bench" not in again.stdout
    more = demo.make("-n", "bench", "BUILD=npu", "BATCHES=1 2 4", PATH=path).stdout
    assert (
        more.count("atc.convert") == 1 and "--batch_size 4 " in more and more.count("/bs4-float32-Ascend310.om ") == 2
    )


def test_bench_peers_calls_the_benchmarks_with_the_scripts_in_peers(demo: Checkout, tmp_path: Path) -> None:
    done = demo.make("bench-peers", f"PEERS={tmp_path}")
    assert done.returncode == 2 and f"PEERS={tmp_path}: no imagenet_torch_preprocess.py" in done.stderr
    shown = demo.make("-n", "bench-peers", f"PEERS={tmp_path}")
    assert f" -m benchmarks.topn_peer --peer {tmp_path}/imagenet_acc_eval.py\n" in shown.stdout
    call = f" -m benchmarks.preprocess_peer --mode hrnet --peer {tmp_path}/imagenet_torch_preprocess.py "
    assert f"{call}--dataset data/digits\n" in shown.stdout
    given = [f"PEERS={tmp_path}", "WEIGHTS=weights/demo_digits.pth"]
    shown = demo.make("-n", "bench-peers", *given, model="higher_hrnet_w32_512")
    stages = [line.split(" -m ")[1].split()[0] for line in shown.stdout.splitlines() if " -m " in line]
    peers = ["preprocess_pose_peer", "pose_decode", "pose_chain"]
    assert stages == ["pth2onnx.pose", "atc.convert", *(f"benchmarks.{peer}" for peer in peers)]


def test_show_draws_once(demo: Checkout) -> None:
    first = demo.make("show").stdout
    assert "show.png: the first 24 images, Top-1 wrong on " in first
    again = demo.make("show", LC_ALL="C").stdout
    assert "Nothing to be done for 'show'" in again
    shown = [line.partition(": ")[2] for line in again.splitlines() if line.startswith("show: ")]
    assert [Path(path).name for path in shown] == ["show.png"] and (demo.root / shown[0]).is_file()


def test_a_call_that_has_nothing_to_do_shows_where_the_result_is(demo: Checkout) -> None:
    assert demo.make("eval").returncode == 0
    done = demo.make("onnx", "om", "preprocess", "infer")
    shown = dict(line.split(": ") for line in done.stdout.splitlines() if line.count(": ") == 1 and line[0] != "m")
    assert list(shown) == ["onnx", "om", "preprocess", "infer"], done.stdout
    assert all((demo.root / path).is_file() for path in shown.values()), shown
    assert demo.make("-q", "om").returncode == 0


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("0", "uint8"),
        pytest.param("0", "float32", marks=pytest.mark.slow),
        pytest.param("0,1", "uint8", marks=pytest.mark.slow),
        pytest.param("0,1,2,3", "float32", marks=pytest.mark.slow),
    ],
)
def test_the_pipeline_runs_with_the_fake_tools(demo: Checkout, tmp_path: Path, device: str, kind: str) -> None:
    """The fakes of `atc` and ais_bench in place of the emulators give the same Top-1 to Top-5."""
    fakes.atc(tmp_path)
    python = fakes.ais_python(tmp_path)
    path = f"{tmp_path}:{os.environ['PATH']}"
    build = f"npu{device.count(',')}"
    given = [EXPORTED, "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config", "SOC=310P3"]
    given += [f"DEVICE={device}", f"AIS_PYTHON={python}", f"INPUT={kind}"]
    whole = [] if "," in device else ["preprocess", "infer"]
    targets = ["om", *whole, "eval", f"BUILD={build}", "BACKEND=ascend"]
    done = demo.make(*targets, *given, PATH=path)
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
    found = json.loads((demo.root / place / f"eval/{name}/ascend-bs16-Ascend310P3.json").read_text())
    expected = metrics(demo)
    assert found["metrics"] == expected["metrics"] and found["counts"] == expected["counts"]
    assert found["images"] == 60 and found["verdict"] == "pass" and found["tool"] == "ais_bench"
    again = demo.make("eval", f"BUILD={build}", PATH=path)
    assert again.returncode == 0 and not any(stage in again.stdout for stage in STAGES)


def test_a_python_without_ais_bench_is_reported(demo: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    given = [
        EXPORTED,
        "DATASET=data/digits",
        "LIMIT=60",
        f"AIS_PYTHON={sys.executable}",
        "BACKEND=ascend",
        "BUILD=none",
    ]
    done = demo.make("infer", *given, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert f"infer.run: error: {sys.executable}: " in done.stderr and "AIS_PYTHON" in done.stderr


def test_predict_equals_eval_and_needs_no_labels(demo: Checkout) -> None:
    """The same classes as make eval found, on images of a folder and on a file; a failed call does not change the
    earlier result."""
    folder, result = demo.root / "photos", demo.root / "build/demo_digits/predict"
    folder.mkdir()
    eval_folder = demo.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32"
    lines = (eval_folder / "predictions.jsonl").read_text()
    evaluated = [json.loads(line) for line in lines.splitlines()[:3]]
    names = ("a digit.JPEG", "b.JPEG", "c.JPEG")
    for each, name in zip(evaluated, names):
        shutil.copy(demo.root / "data/digits" / each["source"], folder / name)
    shutil.move(folder / "c.JPEG", demo.root / "c.JPEG")
    done = demo.make("predict", "IMAGES=photos/ c.JPEG", "LIMIT=60")
    assert done.returncode == 0 and "LIMIT=60 is ignored" in done.stderr, done.stderr
    record = json.loads((result / "predictions.json").read_text())
    assert [each["image"] for each in record["images"]] == ["photos/a digit.JPEG", "photos/b.JPEG", "c.JPEG"]
    for each, other in zip(record["images"], evaluated):
        assert (each["classes"], each["probabilities"]) == (other["classes"], other["probabilities"])
        assert f"{each['image']}: class {other['classes'][0]} " in done.stdout
    assert not (demo.root / "build/demo_digits/predict_work").exists()
    (demo.root / "bad.jpg").write_bytes(b"%PDF-1.4")
    done = demo.make("predict", "IMAGES=c.JPEG bad.jpg")
    assert done.returncode == 2 and "bad.jpg: not an image" in done.stderr and "MAX_REJECTED=1" in done.stderr
    assert json.loads((result / "predictions.json").read_text()) == record


@pytest.mark.slow
def test_family_of_the_demo(demo: Checkout) -> None:
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
        done = subprocess.run(call, cwd=demo.root, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    folder = demo.root / "build/family/onnxruntime-fp32-dev0"
    (row,) = json.loads((folder / "family.json").read_text())["rows"]
    assert row["images"] == 60 and row["reference"] is None
    assert row["top1"] == metrics(demo)["metrics"]["top1"]  # type: ignore[index]
    assert row["gmacs"] == pytest.approx(0.01101, rel=1e-3) and set(row["batch_ms"]) == {"1", "2"}
    assert len(list(folder.glob("*.svg"))) == len(list(folder.glob("*.png"))) == 4
    assert not (folder / "work").exists()
