"""make/remembered.py: which values later calls use, and which are forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from make import options
from make.call import NOT_REMEMBERED, OptionError
from make.remembered import BEFORE, READ_BY
from tests.make.option_calls import DEFAULTS, ONNX, resolve
from tests.support import ROOT

pytestmark = pytest.mark.usefixtures("checkout")


def stored(name: str, value: str, model: str = "net") -> Path:
    path = Path("build", model, "settings", f"{name}.mk")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name} ?= {value}\n")
    return path


def publish() -> None:
    """Add a published figure to the config."""
    with Path("configs/net.yaml").open("a", encoding="utf-8") as config:
        config.write("REFERENCE: {TOP1: 76.8}\n")


@pytest.fixture(autouse=True)
def other_data(checkout: Path) -> None:
    Path("other/val/n01").mkdir(parents=True)
    Path("record.json").write_text('{"kind": "metrics"}')


def test_a_hint_for_a_remembered_value_works() -> None:
    """An empty value, such as TUNE=, is not valid for most variables, so it cannot replace a remembered one."""
    path = stored("TUNE", "aoe")
    with pytest.raises(OptionError) as caught:
        resolve(BACKEND="onnxruntime")
    assert f"TUNE=aoe (remembered in {path}): " in str(caught.value) and str(caught.value).endswith(
        f"; to forget it: rm {path}"
    )
    path.unlink()
    assert resolve(BACKEND="onnxruntime")["TUNE"] == "none"


@pytest.mark.parametrize("reference", ["config", "record.json"])
@pytest.mark.parametrize("before", ["", "data/imagenet"])
def test_a_reference_for_one_data_set_is_forgotten_if_another_is_given(
    reference: str, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    path = stored("REFERENCE", reference)
    if before:
        stored("DATASET", before)
    assert resolve(DATASET="data/imagenet/")["REFERENCE"] == reference, "the same data set"
    assert (
        resolve(dry_run=True, DATASET="other")["REFERENCE"] == "" and path.read_text() == f"REFERENCE ?= {reference}\n"
    )
    capsys.readouterr()
    found = resolve(DATASET="other")
    assert found["REFERENCE"] == "" and str(path) in found["STALE"]
    lines = capsys.readouterr().err
    assert f"REFERENCE={reference} is forgotten" in lines and "data/imagenet" in lines
    assert resolve()["REFERENCE"] == "" and "forgotten" not in capsys.readouterr().err


def test_a_reference_that_is_measured_or_given_now_stays() -> None:
    publish()
    stored("REFERENCE", "torch")
    assert resolve(DATASET="other")["REFERENCE"] == "torch"
    assert resolve(DATASET="data/imagenet", REFERENCE="config")["REFERENCE"] == "config"
    assert resolve(DATASET="data/imagenet")["REFERENCE"] == "config"


def test_one_part_of_another_data_set_forgets_nothing_for_later_calls() -> None:
    publish()
    path = stored("REFERENCE", "config")
    assert resolve("part", SHARD="1/2", DATASET="other")["REFERENCE"] == ""
    assert path.read_text() == "REFERENCE ?= config\n" and resolve()["REFERENCE"] == "config"


def test_inputs_of_another_data_set_forget_the_reference() -> None:
    Path("inputs").mkdir()
    Path("inputs/manifest.json").write_text("{}")
    stored("REFERENCE", "config")
    assert resolve("infer", PREP="inputs")["REFERENCE"] == ""


@pytest.mark.parametrize("name", sorted(NOT_REMEMBERED))
def test_a_file_of_a_value_that_is_not_remembered_is_removed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An older version wrote files for GATE and MAX_REJECTED. make/settings.mk does not read such files."""
    path = stored(name, "3")
    settings = (ROOT / "make/settings.mk").read_text(encoding="utf-8")
    assert name in settings.partition("NOT_REMEMBERED :=")[2].partition("#")[0].split()
    for dry_run in (True, False):
        options.resolve(options.Options(dict(DEFAULTS), set(), {"eval"}), set(), dry_run)
        assert path.exists() == dry_run
    assert capsys.readouterr().err.count(f"{path}: removed") == 1


def note(capsys: pytest.CaptureFixture[str], goals: str, **given: str) -> set[str]:
    capsys.readouterr()
    resolve(goals, **given)
    lines = [line for line in capsys.readouterr().err.splitlines() if "using values remembered" in line]
    return {word.partition("=")[0] for line in lines for word in line.rpartition(": ")[2].split()}


def test_only_the_values_that_a_call_uses_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jpg").write_bytes(b"")
    Path("x.onnx").write_bytes(ONNX)
    Path("x.onnx.json").touch()
    values = {"DATASET": "other", "LIMIT": "7", "REFERENCE": "torch", "LOOP": "3", "CALIB": "5"}
    for name, value in {**values, "BATCH": "4", "SHARDS": "2", "BACKEND": "onnxruntime"}.items():
        stored(name, value)
    assert note(capsys, "predict", IMAGES="a.jpg") == {"BATCH", "BACKEND", "DATASET"}
    assert note(capsys, "show") == {"BATCH", "BACKEND", "DATASET", "LIMIT", "REFERENCE", "SHARDS"}
    assert note(capsys, "bench") == {"BACKEND", "LOOP"}
    assert note(capsys, "om") == {"BATCH", "BACKEND"}
    assert note(capsys, "om", PRECISION="int8") == {"BATCH", "BACKEND", "DATASET", "CALIB"}
    assert note(capsys, "weights") == set()
    stored("WEIGHTS", "w.pth")
    Path("w.pth").touch()
    assert note(capsys, "predict", IMAGES="a.jpg", OM="x.onnx") == {"BACKEND", "DATASET"}
    assert "WEIGHTS" in note(capsys, "show"), "REFERENCE=torch reads it"


@pytest.mark.parametrize(
    ("goals", "given", "unused"),
    [
        ("eval", {"PREP": "inputs"}, {"LIMIT": "7"}),
        ("infer", {"OM": "x.onnx"}, {"BATCH": "4", "ONNX": "y.onnx", "SOC": "Ascend910B1"}),
        ("eval", {"OM": "x.onnx", "PREP": "inputs"}, {"INPUT": "uint8", "LIMIT": "7"}),
        ("predict", {"IMAGES": "a.jpg"}, {"LIMIT": "3", "REFERENCE": "torch"}),
        ("train", {}, {"BATCH": "4", "LIMIT": "7"}),
        ("bench qps", {}, {"BATCH": "4"}),
        ("om", {"BACKEND": "torchscript"}, {"ATC_FLAGS": "--log=debug"}),
        ("eval", {}, {"FLIP": "0", "KEEP_FLOAT": "auto"}),
        ("cluster", {"SHARDS": "2"}, {"DEVICE": "0"}),
        ("precision", {}, {"LOOP": "3", "PRECISION": "fp16", "BUNDLE": "stage"}),
        ("eval gate", {}, {"LOOP": "3", "CALIB": "9"}),
        ("family", {"MODEL": "family"}, {"REFERENCE": "torch"}),
        ("eval", {"ONNX": "y.onnx"}, {"WEIGHTS": "w.pth"}),
    ],
)
def test_a_value_that_is_ignored_is_not_remembered(
    goals: str, given: dict[str, str], unused: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("x.onnx", "x.onnx.json", "y.onnx", "w.pth", "a.jpg"):
        Path(path).touch()
    for path in ("y.onnx", "x.onnx"):
        Path(path).write_bytes(ONNX)
    Path("w.pth").write_bytes(b"\x80\x02")
    Path("inputs").mkdir()
    Path("inputs/manifest.json").write_text("{}")
    resolve(goals, **given, **unused, PYTHON=sys.executable)
    shown = capsys.readouterr().err
    assert all(f"{name}={value} is ignored" in shown for name, value in unused.items()), shown
    kept = {path.stem for path in Path("build/net/settings").glob("*.mk")}
    assert kept == set(given) - NOT_REMEMBERED


def test_the_dataset_that_calibrates_an_int8_model_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jpg").touch()
    resolve("predict", IMAGES="a.jpg", PRECISION="int8", DATASET="other")
    assert Path("build/net/settings/DATASET.mk").is_file() and "is ignored" not in capsys.readouterr().err


@pytest.mark.parametrize("goal", ["bench", "qps"])
def test_om_is_rejected_for_sweeps_since_they_compile_their_models(goal: str) -> None:
    for path in ("x.onnx", "x.onnx.json"):
        Path(path).touch()
    with pytest.raises(OptionError) as caught:
        resolve(goal, OM="x.onnx")
    assert caught.value.what.startswith("OM=x.onnx: ") and caught.value.hint.endswith(" OM=")


def test_a_message_shows_the_default_model_and_the_models_that_have_results(capsys: pytest.CaptureFixture[str]) -> None:
    stored("LIMIT", "3", model="people")
    Path("build/demo/net/settings").mkdir(parents=True)
    resolve("om")
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("MODEL=net is the default"))
    assert "MODEL=people" in line and "MODEL=net BUILD=build/demo" in line
    resolve("om", MODEL="people")
    Path("build/net/om").mkdir(parents=True)
    capsys.readouterr()
    resolve("om")
    assert "is the default" in capsys.readouterr().err, (
        "an empty directory, such as a failed call leaves, is not a result"
    )
    Path("build/net/om/model.onnx").touch()
    resolve("om")
    assert "is the default" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"WEIGHTS": "missing.pth", "SOC": "nonsense"}, ["SOC=nonsense: ", "WEIGHTS=missing.pth: "]),
        ({"LIMIT": "abc", "BATCH": "0", "MODEL": "nte"}, ["MODEL=nte: ", "BATCH=0: ", "LIMIT=abc: "]),
        ({"WEIGHTS": "missing.pth", "DATASET": "nowhere"}, ["DATASET=nowhere: ", "WEIGHTS=missing.pth: "]),
        ({"REFERENCE": "troch", "ONNX": "x.onnx"}, ["ONNX=x.onnx: ", "REFERENCE=troch: "]),
        ({"CFG": "a b.yaml", "LIMIT": "x"}, ["CFG=a b.yaml: ", "LIMIT=x: "]),
        ({"BUILD": "a b"}, ["BUILD=a b: "]),
    ],
)
def test_all_errors_of_a_call_are_reported(given: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(OptionError) as caught:
        resolve(**given)
    lines = [str(error) for error in (*caught.value.earlier, caught.value)]
    assert len(lines) == len(parts), lines
    assert all(line.startswith(part) for line, part in zip(lines, parts)), lines
    assert not Path("build").exists()


def test_unknown_variables_and_targets_are_reported_together() -> None:
    with pytest.raises(OptionError) as caught:
        resolve("evla", unknown="BATHC XYZ", LIMIT="x")
    lines = [str(error) for error in (*caught.value.earlier, caught.value)]
    assert [line.partition(":")[0] for line in lines] == ["BATHC", "XYZ", "evla", "LIMIT=x"]


def test_backups_of_killed_calls_are_removed() -> None:
    """Each call has a directory for the files that it replaces; the directories of calls that still run are kept."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folders = {number: Path("build/net", f"{BEFORE}{number}") for number in (ended.pid, os.getpid())}
    for folder in folders.values():
        folder.mkdir(parents=True)
    before = resolve(LIMIT="3")["SETTINGS_BEFORE"]
    assert before == f"build/net/{BEFORE}{os.getppid()}" and Path(before, "LIMIT.given").read_text() == "LIMIT ?= 3\n"
    assert not folders[ended.pid].exists() and folders[os.getpid()].exists()


def test_read_by_contains_only_targets_and_variables_of_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    stages = text.partition("STAGES  := ")[2].partition("\n")[0].split()
    listed = text.partition("OPTIONS := ")[2].partition("\nSTAGES")[0].replace("\\\n", " ").split()
    assert set(READ_BY) <= set(stages)
    assert set().union(*READ_BY.values()) <= set(listed)
