"""make/files.py: missing and wrong files are rejected before the first stage; given values replace remembered ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from make.options import OptionError
from tests.make.option_calls import ONNX, rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")

PICKLE = b"\x80\x02" + b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the start of a file of torch.save


@pytest.fixture(autouse=True)
def files(checkout: Path) -> None:
    Path("x.onnx").write_bytes(ONNX)
    Path("x.pth").write_bytes(PICKLE)
    Path("page.pth").write_text("<html>Sign in</html>")


def remembered(name: str, value: str, model: str = "net") -> Path:
    path = Path("build", model, "settings", f"{name}.mk")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name} ?= {value}\n")
    return path


def error(goals: str = "eval", **given: str) -> str:
    with pytest.raises(OptionError) as caught:
        resolve(goals, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "given", "default"),
    [
        ("ONNX", "x.onnx", {"WEIGHTS": "x.pth"}, "build/net/model.onnx"),
        ("TS", "x.ts", {"WEIGHTS": "x.pth", "BACKEND": "torchscript"}, "build/net/model.ts"),
        ("OM", "x.om", {"WEIGHTS": "x.pth"}, ""),
        ("OM", "x.om", {"ONNX": "x.onnx"}, ""),
    ],
)
def test_a_given_value_has_priority_over_a_remembered_one(
    name: str, value: str, given: dict[str, str], default: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(value).touch()
    Path("x.om.json").touch()
    path = remembered(name, value)
    found = resolve(**given)
    assert found[name] == default and path.read_text() == f"{name} ?= {default}\n"
    assert str(path) in found["STALE"], "products that were made from it are made again"
    lines = capsys.readouterr().err
    given_name, given_value = next(iter(given.items()))
    assert f"{name}={value} is forgotten, because {given_name}={given_value} is given now" in lines
    assert "is ignored" not in lines and f" {name}={value}" not in lines.partition("using values remembered")[2]
    assert resolve()[name] == default


def test_a_dry_run_forgets_nothing() -> None:
    path = remembered("ONNX", "x.onnx")
    assert resolve(dry_run=True, WEIGHTS="x.pth")["ONNX"] == "build/net/model.onnx"
    assert path.read_text() == "ONNX ?= x.onnx\n"


def test_two_sources_of_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    """A note names the source that is used; there is no note if both are used."""
    assert resolve(WEIGHTS="x.pth", ONNX="x.onnx")["ONNX"] == "x.onnx"
    assert "WEIGHTS=x.pth is ignored because ONNX=x.onnx is set" in capsys.readouterr().err
    resolve(WEIGHTS="x.pth", ONNX="x.onnx", REFERENCE="torch")
    assert "is ignored" not in capsys.readouterr().err


@pytest.mark.parametrize("goal", ["infer", "serve"])
def test_a_model_that_is_gone_is_reported_with_what_helps(goal: str) -> None:
    """Although build/old has results of the model, the hint does not name BUILD=build/old: BUILD does not change a path
    that is given as OM."""
    Path("build/old/net/settings").mkdir(parents=True)
    hint = "no such file or directory; to compile a model, give an empty OM="
    assert error(goal, OM="gone.onnx", GATE="none") == f"OM=gone.onnx: {hint}"
    place = remembered("OM", "gone.onnx")
    assert error(goal, GATE="none") == f"OM=gone.onnx (remembered in {place}): {hint}"


def test_a_source_of_other_backends_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.ts").touch()
    resolve("om", TS="x.ts")
    assert "TS=x.ts is ignored: BACKEND=onnxruntime uses ONNX\n" in capsys.readouterr().err
    resolve("om", ONNX="x.onnx", BACKEND="torchscript")
    assert "ONNX=x.onnx is ignored: BACKEND=torchscript uses TS\n" in capsys.readouterr().err


def test_the_default_model_is_named_when_a_file_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    resolve(ONNX="x.onnx")
    assert "MODEL=net is the default" in capsys.readouterr().err
    resolve(ONNX="x.onnx", MODEL="net")
    resolve()
    assert "is the default" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"WEIGHTS": "x.pht"}, ("WEIGHTS=x.pht: no such file", "WEIGHTS=x.pth?")),
        ({"WEIGHTS": "nowhere/x.pth"}, ("no directory nowhere", "make weights WEIGHTS=weights/net.pth")),
        ({"WEIGHTS": "page.pth"}, ("WEIGHTS=page.pth: not a PyTorch checkpoint", "an HTML page")),
        ({"WEIGHTS": "x.onnx"}, ("WEIGHTS=x.onnx: not a PyTorch checkpoint", "ONNX=x.onnx")),
        ({"WEIGHTS": "configs"}, ("WEIGHTS=configs: not a PyTorch checkpoint",)),
        ({"ONNX": "x.pth"}, ("ONNX=x.pth: not an ONNX file", "a PyTorch checkpoint; give WEIGHTS=x.pth")),
        ({"ONNX": "mine.yaml"}, ("ONNX=mine.yaml: not an ONNX file", "give CFG=mine.yaml")),
        ({"ONNX": "y/x.onnx"}, ("no directory y", "ONNX=build/net/model.onnx")),
        ({"OM": "my.om"}, ("OM=my.om: no such file", "OM=")),
        ({"DATASET": "data/imagnet"}, ("DATASET=data/imagnet: no such", "DATASET=data/imagenet?")),
        ({"DATASET": "/nowhere/imagenet"}, ("no directory /nowhere", "DATASET=<directory>", "val_label.txt")),
        ({"DATASET": "data"}, ("DATASET=data: not an ImageNet directory", "coco/, imagenet/", "DATASET=data/imagenet")),
        ({"DATASET": "data/coco"}, ("DATASET=data/coco: ", "for pose models")),
        ({"DATASET": "data/imagenet", "MODEL": "people"}, ("no annotations/person_keypoints_val2017.json", "MODEL=")),
        ({"REFERENCE": "troch"}, ("REFERENCE=troch: no such", "REFERENCE=torch")),
        ({"REFERENCE": "r.json"}, ("REFERENCE=r.json: no such", "config, torch, onnx")),
        ({"REFERENCE": "mine.yaml"}, ("REFERENCE=mine.yaml: not a metrics record", "a record of make eval")),
        ({"MODEL": "configs/net.yaml"}, ("no such config; give MODEL=net",)),
        ({"MODEL": "my/own.yaml"}, ("no such config", "CFG=my/own.yaml")),
        ({"MODEL": "mine"}, ("no such config; give CFG=mine.yaml",)),
        ({"MODEL": "mine.yaml"}, ("no such config; for the path of a YAML file: CFG=mine.yaml",)),
        ({"MODEL": "pepole.yaml"}, ("no such config; did you mean MODEL=people?",)),
        ({"MODEL": "own.onnx"}, ("no such config", "ONNX=own.onnx", "CFG=")),
        ({"CFG": "own.onnx"}, ("CFG=own.onnx: no such YAML file", "ONNX=own.onnx")),
        ({"OM": "x.onnx", "BACKEND": "torchscript"}, ("needs a .ts file", "give BACKEND=auto")),
        ({"MODEL": "weights/own.pth"}, ("no such config", "WEIGHTS=weights/own.pth", "MODEL=")),
    ],
)
def test_hints_about_files(given: dict[str, str], parts: tuple[str, ...]) -> None:
    Path("mine.yaml").write_text("MODEL: {}")
    line = rejected(**given)
    assert all(part in line for part in parts), line


def test_a_command_in_a_hint_has_the_interpreter_of_the_stages() -> None:
    """make/options.py runs with the system's python3, which may have no torch."""
    Path("dcp").mkdir()
    Path("dcp/.metadata").touch()
    Path("dcp/__0_0.distcp").touch()
    assert "; python3 -m torch.distributed." in rejected(WEIGHTS="dcp", PYTHON="python3")


def test_missing_defaults_are_rejected_where_they_are_needed() -> None:
    Path("data/imagenet/val/n01").rmdir()
    for goals in ("eval", "infer", "preprocess", "om quantize"):
        assert "no class directories" in error(goals), goals
    assert "no class directories" in error("om", PRECISION="int8")
    assert "no class directories" in error("part", SHARD="1/2")
    for goals in ("om", "onnx", "bench"):
        resolve(goals)
    assert resolve(dry_run=True)["DATASET"] == "data/imagenet", "make -n works on a fresh clone"


def test_a_remembered_file_that_is_gone() -> None:
    path = remembered("ONNX", "gone.onnx")
    assert f"ONNX=gone.onnx (remembered in {path}): no such file" in error("om")
    remembered("DATASET", "gone")
    assert "ONNX=gone.onnx" not in error("preprocess") and "DATASET=gone (remembered" in error("preprocess")


def test_make_weights_is_no_hint_without_a_published_checkpoint() -> None:
    assert "make weights" in error("eval", WEIGHTS="nowhere/x.pth")
    for text in ("MODEL: {NAME: cls_hrnet}\n", "WEIGHTS: {URL: ''}\n", "WEIGHTS: # URL: http://x\n  URL:\n"):
        Path("configs/net.yaml").write_text(text)
        line = error("eval", WEIGHTS="nowhere/x.pth")
        assert "give WEIGHTS=<file>" in line and "make weights" not in line
    remembered("WEIGHTS", "x.pth")
    assert resolve("weights")["WEIGHTS"] == "x.pth", "accepted here; data.weights rejects the config later"


def test_make_weights_does_not_overwrite_a_file_of_the_user() -> None:
    remembered("WEIGHTS", "x.pth")
    line = error("weights")
    assert "WEIGHTS=x.pth (remembered" in line and "make weights WEIGHTS=weights/net.pth" in line
    assert resolve("weights", WEIGHTS="x.pth")["WEIGHTS"] == "x.pth", "data.weights checks the file later"
    assert resolve("weights", WEIGHTS="weights/net.pth")["WEIGHTS"] == "weights/net.pth"
    resolve("weights")


def test_the_results_of_another_output_directory_are_named() -> None:
    Path("data/imagenet/val/n01").rmdir()
    Path("data/imagenet/val").rmdir()
    Path("data/imagenet").rmdir()
    Path("build/demo/net/settings").mkdir(parents=True)
    assert "results of net are in build/demo: give BUILD=build/demo" in error("show")
    Path("build/net/settings").mkdir(parents=True)
    assert "BUILD=" not in error("show")
    assert "results of net are in build: give BUILD=build" in error("show", BUILD="build/other")


def test_calibration_with_images_of_train_needs_no_val() -> None:
    Path("data/set/train").mkdir(parents=True)
    assert resolve("quantize", DATASET="data/set")["DATASET"] == "data/set"
    assert resolve("bench", DATASET="data/set", PRECISION="int8")["DATASET"] == "data/set"
    assert "not an ImageNet directory" in error("quantize eval", DATASET="data/set")
    Path("data/set/train").rename("data/set/images")
    assert "not an ImageNet directory" in error("quantize", DATASET="data/set")


def test_inputs_of_another_dtype_are_rejected_before_they_are_remembered() -> None:
    Path("inputs").mkdir()
    Path("inputs/manifest.json").write_text('{"kind": "manifest", "dtype": "float32"}')
    line = rejected(PREP="inputs", INPUT="uint8")
    assert line.startswith("PREP=inputs: ") and "float32" in line and "INPUT=float32" in line
    assert resolve(PREP="inputs")["PREP"] == "inputs"
