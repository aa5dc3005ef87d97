"""make/options.py without make: defaults, product names, remembered values. test_options_*.py test SHARDS,
KEEP_FLOAT and single targets."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from hrnet.code import import_closure
from hrnet.io import files
from make import options
from make.options import OptionError, Options
from tests.make.option_calls import DEFAULTS, add_atc, rejected, resolve
from tests.support import ROOT

pytestmark = pytest.mark.usefixtures("checkout")


def test_defaults_of_classification() -> None:
    found = resolve()
    assert (found["TASK"], found["POSE"], found["CFG"]) == ("classification", "", "configs/net.yaml")
    assert (found["DATASET"], found["BATCH"], found["BATCHES"]) == ("data/imagenet", "16", "1,4,8,16,32")
    assert (found["BACKEND"], found["EXT"], found["TARGET"]) == ("onnxruntime", ".onnx", "fp32")
    assert (found["SET"], found["NAME"], found["TAG"]) == (
        *("imagenet-float32", "imagenet-float32"),
        "onnxruntime-bs16-fp32",
    )
    assert (found["FLIPS"], found["NOFLIP"], found["FLIP_DIR"], found["ANNOTATIONS"]) == ("", "", "", "")
    assert resolve("qps")["BATCHES"] == "1,4,8,16,32,64", "the model zoo's sizes"


def test_defaults_of_pose() -> None:
    found = resolve(MODEL="people")
    assert (found["TASK"], found["POSE"], found["BATCH"], found["BATCHES"]) == ("pose", "1", "1", "1")
    assert (found["DATASET"], found["TAG"], found["FLIPS"], found["FLIP_DIR"]) == (
        *("data/coco", "onnxruntime-bs1-fp32", "1"),
        "",
    )
    assert found["ANNOTATIONS"] == "data/coco/annotations/person_keypoints_val2017.json"
    found = resolve(MODEL="people", FLIP="0", SHARDS="8")
    assert (found["FLIPS"], found["NOFLIP"], found["SHARDED"]) == ("", "-noflip", "1")


@pytest.mark.parametrize(
    ("given", "tag", "extension"),
    [
        ({}, "ascend-bs16-Ascend310P3", ".om"),
        ({"SOC": "310"}, "ascend-bs16-Ascend310", ".om"),
        ({"SOC": "ascend310p3"}, "ascend-bs16-Ascend310P3", ".om"),
        ({"SOC": "Ascend310P5"}, "ascend-bs16-Ascend310P5", ".om"),
        ({"SOC": "910b4-1"}, "ascend-bs16-Ascend910B4-1", ".om"),
        ({"SOC": "Ascend910_9391"}, "ascend-bs16-Ascend910_9391", ".om"),
        ({"SOC": "950pr_9589", "PRECISION": "fp16"}, "ascend-bs16-Ascend950PR_9589-fp16", ".om"),
        ({"SOC": "Ascend960X_1a"}, "ascend-bs16-Ascend960X_1a", ".om"),
        ({"ATC_FLAGS": "--op_select_implmode=high_precision"}, "ascend-bs16-Ascend310P3", ".om"),
        ({"PRECISION": "fp32", "BATCH": "4"}, "ascend-bs4-Ascend310P3-fp32", ".om"),
        ({"TUNE": "aoe"}, "ascend-bs16-Ascend310P3-aoe", ".om"),
        ({"BACKEND": "onnxruntime"}, "onnxruntime-bs16-fp32", ".onnx"),
        ({"BACKEND": "onnxruntime", "PRECISION": "fp16"}, "onnxruntime-bs16-fp16", ".onnx"),
        ({"PRECISION": "int8"}, "ascend-bs16-Ascend310P3-int8", ".om"),
        ({"BACKEND": "openvino"}, "openvino-bs16-fp32", ".onnx"),
        ({"BACKEND": "torchscript"}, "torchscript-bs16-fp32", ".ts"),
        ({"BACKEND": "torch_aie"}, "torch_aie-bs16-Ascend310P3", ".ts"),
    ],
)
def test_runs_are_named_by_backend_batch_and_precision(
    checkout: Path, given: dict[str, str], tag: str, extension: str
) -> None:
    add_atc(checkout)
    found = resolve(**given)
    assert (found["TAG"], found["EXT"]) == (tag, extension)
    assert found["QPS"] == f"{tag.split('-bs')[0]}-{found['TARGET']}-qps"


def test_inputs_and_sweeps_have_these_names() -> None:
    add_atc(Path())
    found = resolve(INPUT="uint8", LIMIT="60", DEVICE="0,1", BUNDLE="stage", MODEL="net")
    assert found["SET"] == "imagenet-uint8-first60"
    assert found["BENCH"] == "ascend-Ascend310P3-uint8-dev0-1"
    assert (found["PACK_INPUTS"], found["PACKED"]) == ("", "stage")
    assert resolve(BATCHES="1 2, 4", MODEL="net")["BATCHES"] == "1,2,4"


def test_a_given_model_and_inputs_are_used(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prep").mkdir()
    Path("prep/manifest.json").touch()
    for name in ("my.om", "my.om.json"):
        Path(name).touch()
    found = resolve(OM="my.om", PREP="prep/", BATCH="4", LIMIT="3", INPUT="uint8")
    assert (found["BACKEND"], found["TAG"], found["NAME"]) == ("ascend", "ascend-om-my", "prep")
    notes = capsys.readouterr().err.splitlines()
    for name in ("BATCH=4", "LIMIT=3", "INPUT=uint8"):
        assert sum(line.startswith(f"{name} is ignored") for line in notes) == 1
    assert any("BACKEND=auto: using ascend" in line and "OM=my.om" in line for line in notes)


def test_flags_of_atc_are_remembered_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """make would split the printed value at spaces, and already has the value."""
    given = "--output_type=FP16  --input_hint_shape=image:1,3,16,16;x:[2] "
    assert "ATC_FLAGS" not in resolve(ATC_FLAGS=given)
    path = Path("build/net/settings/ATC_FLAGS.mk")
    assert path.read_text() == "ATC_FLAGS ?= --output_type=FP16 --input_hint_shape=image:1,3,16,16;x:[2]\n"
    assert resolve(ATC_FLAGS=given)["STALE"] == "", "nothing changed"
    assert resolve(ATC_FLAGS="")["STALE"] == str(path)
    capsys.readouterr()
    resolve(ATC_FLAGS="--log=debug", BACKEND="torchscript")
    assert "ATC_FLAGS=--log=debug is ignored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"SOC": "910B4"}, "Ascend910B4"),
        ({"SOC": "ascend910_9391"}, "Ascend910_9391"),
        ({"ATC_FLAGS": "--log=debug"}, "ATC_FLAGS=--log=debug"),
    ],
)
def test_unsupported_tuning_is_rejected(checkout: Path, given: dict[str, str], part: str) -> None:
    add_atc(checkout)
    line = rejected(TUNE="aoe", **given)
    assert line.startswith("TUNE=aoe: ") and part in line and "TUNE=none" in line


def test_absolute_paths_that_ais_bench_rejects_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_atc(tmp_path)
    odd = tmp_path / "a b"
    (tmp_path / "configs").rename(tmp_path / "kept")
    odd.mkdir()
    (tmp_path / "kept").rename(odd / "configs")
    (tmp_path / "data").rename(odd / "data")
    monkeypatch.chdir(odd)
    for goals in ("eval", "infer", "bench", "qps", "compare"):
        line = rejected(goals)
        assert line.startswith("BUILD=build: ") and str(odd / "build") in line
    assert resolve("om")["BACKEND"] == "ascend", "atc gets relative paths"
    assert resolve(BUILD=str(tmp_path / "b"))["BACKEND"] == "ascend"
    assert resolve(BACKEND="onnxruntime")["BACKEND"] == "onnxruntime"


@pytest.mark.parametrize(
    ("goals", "given", "part"),
    [
        ("qps", {"MODEL": "people"}, "people"),
        ("gears", {}, "net"),
        ("eval", {"MODEL": "nat"}, "net, people"),
        ("eval", {"DATASET": "nowhere"}, "DATASET=nowhere"),
        ("onnx", {"WEIGHTS": "nowhere.pth"}, "WEIGHTS=nowhere.pth"),
        ("om", {"ONNX": "nowhere.onnx"}, "ONNX=nowhere.onnx"),
        ("infer", {"OM": "nowhere.om"}, "OM=nowhere.om"),
        ("infer", {"PREP": "configs"}, "manifest.json"),
        ("eval", {"REFERENCE": "nowhere.json"}, "REFERENCE=nowhere.json"),
        ("eval", {"DATASET": "set/val"}, "DATASET=set"),
        ("eval", {"BACKEND": "ascend"}, "set_env.sh"),
        ("eval", {"BACKEND": "openvino", "PRECISION": "fp16"}, "BACKEND=onnxruntime"),
        ("eval", {"TUNE": "aoe"}, "BACKEND=ascend"),
        ("eval", {"PRECISION": "int8", "MODEL": "people", "BACKEND": "ascend"}, "PRECISION=int8: people"),
        ("quantize", {"MODEL": "people", "BACKEND": "ascend"}, "make quantize: people has gears"),
        ("om", {"PRECISION": "int8", "BACKEND": "torchscript"}, "use onnxruntime, openvino or ascend"),
        ("infer", {"DEVICE": "0,1"}, "use make eval, or DEVICE=0"),
        ("eval", {"DEVICE": "0,1,2", "SHARDS": "2"}, "SHARDS=3"),
        ("eval", {"CFG": "a b/net.yaml"}, "CFG=a b/net.yaml: expected a path"),
        ("infer", {"OM": "my.onnx", "BACKEND": "ascend"}, ".om"),
        ("infer", {"OM": "my.onnx"}, "-m atc.adopt --om my.onnx"),
        ("infer", {"OM": "my.om"}, "-m atc.adopt --om my.om --model"),
        ("infer", {"OM": "my.ts"}, "make om OM= BACKEND=torchscript TS=my.ts"),
        ("qps", {"OM": "whole.onnx"}, "OM="),
        ("bundle", {"BACKEND": "torchscript"}, "BACKEND=torchscript"),
        ("bundle", {"BUNDLE": "stage", "REFERENCE": "torch", "DATASET": "nowhere"}, "DATASET=nowhere"),
        ("eval", {"PYTHON": "no_such_python"}, "make setup"),
        ("eval", {"CFG": "nowhere.yaml"}, "nowhere.yaml"),
        ("eval", {"CFG": "my.onnx"}, "my.onnx"),
    ],
)
def test_missing_files_and_contradictory_values_are_rejected(goals: str, given: dict[str, str], part: str) -> None:
    Path("set/val").mkdir(parents=True)
    for name in ("my.onnx", "my.om", "my.ts", "whole.onnx", "whole.onnx.json"):
        Path(name).touch()
    assert part in rejected(goals, **given)


def test_a_checkpoint_that_is_to_be_downloaded_may_be_missing() -> None:
    assert resolve("weights onnx", WEIGHTS="to/come.pth")["WEIGHTS"] == "to/come.pth"


@pytest.mark.parametrize(
    ("name", "near"), [("BATHC", "BATCH"), ("dataset", "DATASET"), ("XYZ", None), ("WEIGHT", "WEIGHTS")]
)
def test_unknown_variables_are_rejected(name: str, near: Optional[str]) -> None:
    line = rejected(unknown=name)
    assert line.startswith(f"{name}: ") and (near or "make help") in line


def test_environment_variables_may_be_written_after_the_word_make() -> None:
    """`make cluster RAY_ADDRESS=head:6379` exports it to the script, as `RAY_ADDRESS=head:6379 make cluster` does."""
    resolve("cluster", unknown="RAY_ADDRESS", SHARDS="2")
    resolve("weights", unknown="HF_ENDPOINT")


def test_make_doctor_before_make_setup_is_rejected_in_one_line() -> None:
    assert rejected("doctor", PYTHON=".venv/bin/python").startswith(
        "PYTHON=.venv/bin/python: no such interpreter; run make setup"
    )
    resolve("doctor")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("evla", "did you mean eval?"),
        ("net", "did you mean MODEL=net?"),
        ("evaluate", "did you mean eval?"),
        ("inference", "did you mean infer?"),
        ("LIMIT＝10", "LIMIT=10"),
        ("DATASET＝/data/set", "DATASET=/data/set"),
        ("build/net/om/ＭODEL", "make help"),
        ("10", "make help"),
        ("PRECISION", "PRECISION=<value>"),
    ],
)
def test_an_unknown_target_is_rejected_before_the_work_for_others(word: str, hint: str) -> None:
    line = rejected(f"eval {word}")
    assert line.startswith(f"{word}: ") and hint in line
    resolve("eval build/net/eval/x.json once")


def test_given_values_are_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Path("build/net/settings")
    Path("set/val/n01").mkdir(parents=True)
    found = resolve(DATASET="set", LIMIT="5", GATE="0.5", MAX_REJECTED="2", SOC="310P3")
    assert found["STALE"].split(",") == [f"{settings}/{name}.mk" for name in ("DATASET", "LIMIT", "SOC")]
    assert (settings / "SOC.mk").read_text() == "SOC ?= Ascend310P3\n"
    assert resolve(DATASET="set")["STALE"] == "", "nothing changed"
    capsys.readouterr()
    again = resolve()
    assert (again["DATASET"], again["LIMIT"], again["STALE"]) == ("set", "5", "")
    assert "DATASET=set LIMIT=5 SOC=Ascend310P3" in capsys.readouterr().err
    assert resolve(LIMIT="2")["STALE"] == f"{settings}/LIMIT.mk"
    assert sorted(path.name for path in settings.iterdir()) == ["DATASET.mk", "LIMIT.mk", "SOC.mk"]


def test_clean_is_rejected_while_another_run_works() -> None:
    Path("build/net/out").mkdir(parents=True)
    with files.locked("build/net/out/run_lock"), pytest.raises(OptionError) as caught:
        resolve("clean")
    assert "build/net/out/run_lock is locked by process" in caught.value.what
    assert resolve("clean") == {}


def test_clean_accepts_only_directories_that_a_stage_has_written() -> None:
    Path("build/net").mkdir(parents=True)
    Path("build/net/thesis.txt").touch()
    with pytest.raises(OptionError) as caught:
        resolve("clean")
    assert "no stage has written build/net (found thesis.txt)" in caught.value.what
    Path("build/net/settings").mkdir()
    assert resolve("clean") == {}
    with pytest.raises(OptionError, match="make clean eval: not supported with other targets; run it alone"):
        resolve("clean eval")
    Path("build/family/onnxruntime-fp32-dev0/rows").mkdir(parents=True)
    assert resolve("clean", MODEL="family") == {}


def test_a_dry_run_writes_nothing() -> None:
    assert resolve(dry_run=True, LIMIT="2", PYTHON="no_such_python")["STALE"] == "build/net/settings/LIMIT.mk"
    assert not Path("build").exists()


@pytest.mark.parametrize(
    "text", ["", "LOOP ?= 1\nBATCH ?= 3\n", "LOOP := 1\n", "LOOP ?= $(shell date)\n", "\0", "BATCH ?= 1\n", "LOOP ?= 1"]
)
def test_invalid_settings_files_are_rejected(text: str) -> None:
    path = Path("build/net/settings/LOOP.mk")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        Options(dict(DEFAULTS), set(), set()).remembered()
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).endswith(f"rm {path}")


def test_settings_that_cannot_be_written_are_reported_in_one_line() -> None:
    Path("file").touch()
    with pytest.raises(OptionError) as caught:
        resolve(BUILD="file", LIMIT="2")
    assert str(caught.value).startswith("BUILD=file: ") and "file/net/settings/LIMIT.mk" in str(caught.value)
    assert resolve(BUILD="file")["STALE"] == "", "nothing to remember: the first stage reports it"


def test_the_command_prints_make_assignments() -> None:
    values = {**DEFAULTS, "LIMIT": "7", "MODEL": "hrnet_w18", "BUILD": str(Path("b").absolute())}
    words = [f"{name}:{'command' if name == 'LIMIT' else 'file'}:{value}" for name, value in values.items()]
    call = [sys.executable, "-S", "-m", "make.options", "--dry_run", "--goals", "eval", "--overrides", "LIMIT"]
    call += ["--", *words, "GATE:file:1"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SET:=imagenet-float32-first7" in done.stdout.split()
    call[-1] = "GATE:file:x"
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.startswith("GATE=x: ") and done.stdout.count("\n") == 1


def test_only_small_modules_of_the_standard_library_are_imported() -> None:
    for file in import_closure(["make.options"]):
        check_imports(ROOT / file)


def check_imports(path: Path) -> None:
    """Only imports at module level are checked: functions may import other packages, such as a progress bar."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        tree.body.remove(function)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert names <= {*sys.stdlib_module_names, "make", "hrnet"}, path
    slow = {"ctypes", "dataclasses", "difflib", "hashlib", "inspect", "subprocess", "tarfile", "zipfile"}
    assert not names & slow, f"{path}: each call of make would take longer"


def test_each_option_of_the_makefile_is_checked() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = text.partition("OPTIONS := ")[2].partition("\nSTAGES")[0].replace("\\\n", " ").split()
    assert set(listed) == set(options.CHECKS) | {"MODEL"} == set(DEFAULTS)


@pytest.mark.parametrize(
    ("goals", "ignored"),
    [
        ("train", {"BATCH=4", "FLIP=0", "GATE=2", "LIMIT=3", "WEIGHTS=w.pth"}),
        ("gears", {"BATCH=1", "FLIP=0", "GATE=2", "LIMIT=3", "WEIGHTS=w.pth"}),
    ],
)
def test_train_and_gears_report_what_they_ignore(
    goals: str, ignored: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("w.pth").write_bytes(b"\x80\x02")
    batch, model, dataset = ("4", "net", "data/imagenet") if goals == "train" else ("1", "people", "data/coco")
    used = {"DATASET": dataset, "MODEL": model, "BUILD": "other", "PYTHON": sys.executable}
    resolve(goals, LIMIT="3", BATCH=batch, WEIGHTS="w.pth", GATE="2", FLIP="0", **used)
    notes = [line for line in capsys.readouterr().err.splitlines() if "is ignored" in line]
    assert [line.split()[0] for line in notes] == sorted(ignored)
    assert all("uses only CFG and DATASET" in line for line in notes)


def test_ignored_batch_names_all_targets(capsys: pytest.CaptureFixture[str]) -> None:
    resolve("bench", BATCH="4")
    resolve("bench qps", BATCH="4")
    lines = capsys.readouterr().err
    assert "BATCH=4 is ignored: make bench uses BATCHES" in lines
    assert "BATCH=4 is ignored: make bench and make qps use BATCHES" in lines
