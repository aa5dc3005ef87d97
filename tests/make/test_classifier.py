"""make/classifier.py: options of a model that is an ONNX file, and the default of REFERENCE."""

from __future__ import annotations

from pathlib import Path

import pytest

from make.call import OptionError
from tests.make import doctor_calls
from tests.make.doctor_calls import report
from tests.make.option_calls import ONNX, rejected, resolve
from tests.support.onnx_models import classifier, saved

MINE = {"CFG": "mine.yaml", "MODEL": "mine", "ONNX": "mine.onnx"}


@pytest.fixture
def files(checkout: Path) -> None:
    Path("mine.yaml").write_text("MODEL: {NAME: onnx}  # REFERENCE: {TOP1: 70}\n")
    Path("mine.onnx").write_bytes(ONNX)


@pytest.mark.usefixtures("files")
def test_stages_read_the_completed_config() -> None:
    names = resolve(**MINE)
    assert (names["CFG"], names["CFG_GIVEN"]) == ("build/mine/mine.yaml", "mine.yaml")
    assert names["TASK"] == "classification" and names["ONNX"] == "mine.onnx"
    assert Path("build/mine/settings/CFG.mk").read_text() == "CFG ?= mine.yaml\n"
    again = resolve(MODEL="mine")
    assert (again["CFG"], again["REFERENCE"]) == ("build/mine/mine.yaml", "onnx")
    names = resolve()
    assert names["CFG"] == names["CFG_GIVEN"] == "configs/net.yaml", "the config of a network is not completed"


@pytest.mark.usefixtures("files")
def test_a_completed_config_is_used_unchanged() -> None:
    Path("build/mine").mkdir(parents=True)
    Path("build/mine/mine.yaml").write_text("MODEL: {NAME: onnx, NUM_CLASSES: 10}\n")
    assert resolve(**{**MINE, "CFG": "build/mine/mine.yaml"})["CFG"] == "build/mine/mine.yaml"


@pytest.mark.usefixtures("files")
def test_a_board_needs_only_the_completed_config() -> None:
    Path("mine.om").write_bytes(b"IMOD")
    Path("mine.om.json").write_text("{}")
    bundled = resolve(CFG="mine.yaml", MODEL="mine", OM="mine.om")
    assert bundled["CFG"] == "mine.yaml" and bundled["REFERENCE"] == ""


@pytest.mark.usefixtures("files")
def test_the_reference_is_onnx_if_no_figure_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve(**MINE)["REFERENCE"] == "onnx"
    assert "REFERENCE=onnx: comparing with mine.onnx" in capsys.readouterr().err
    assert not Path("build/mine/settings/REFERENCE.mk").exists()
    assert resolve(**MINE, REFERENCE="config", GATE="none")["REFERENCE"] == "config"
    for model, own in ((MINE, "onnx"), ({"MODEL": "net"}, "torch")):
        with pytest.raises(OptionError) as caught:
            resolve(**model, REFERENCE="config")
        assert str(caught.value).startswith("REFERENCE=config") and f"REFERENCE={own}" in caught.value.hint
        assert "GATE=none" in caught.value.hint
        assert not Path("build/net/settings/REFERENCE.mk").exists()
    Path("mine.yaml").write_text("MODEL: {NAME: onnx}\nREFERENCE:\n  TOP1: 70.5\n")
    assert resolve(**{**MINE, "REFERENCE": ""})["REFERENCE"] == ""
    assert resolve()["REFERENCE"] == "", "the config of a network, without a figure; make exports its ONNX file"
    assert resolve(ONNX="mine.onnx")["REFERENCE"] == "onnx", "the same config with a given ONNX file"


@pytest.mark.parametrize(
    ("reference", "published"),
    [
        ("{TOP1: 70.5, IMAGES: 9}", True),
        ('{TOP1: "70.5"}', True),
        ("{'TOP1': '70'}", True),
        ("{TOP5: 90}", True),
        ("{AP : .5e2}", True),
        ("{TOP1: 0, TOP5: 0.0}", False),
        ("{TOP1: high}", False),
        ("{TOP1:}", False),
        ("{SOURCE: none}  # TOP1: 70", False),
        ("\n  TOP1:\n  IMAGES: 9", False),
    ],
)
@pytest.mark.parametrize("name", ["NAME: onnx", '"NAME": "onnx"', "NAME : 'onnx'"])
@pytest.mark.usefixtures("files")
def test_published_figures_are_found(name: str, reference: str, published: bool) -> None:
    Path("mine.yaml").write_text(f"MODEL: {{{name}}}\nREFERENCE: {reference}\n")
    assert resolve(**MINE)["REFERENCE"] == ("" if published else "onnx")


@pytest.mark.usefixtures("files")
def test_a_bundle_without_a_figure_to_judge_by_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    stage = {**MINE, "BUNDLE": "stage"}
    for given in ("", "config"):
        assert resolve("bundle", **stage, REFERENCE=given)["REFERENCE"] == given
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("BUNDLE=stage: "))
        assert "no published figure" in line and "REFERENCE=onnx" in line and "DATASET" in line
    assert resolve("bundle", **stage, REFERENCE="onnx")["REFERENCE"] == "onnx"
    assert "no published figure" not in capsys.readouterr().err
    Path("mine.yaml").write_text("MODEL: {NAME: onnx}\nREFERENCE:\n  TOP1: 70.5\n")
    resolve("bundle", **stage, REFERENCE="")
    resolve("bundle", **{**MINE, "BUNDLE": "inputs"})
    assert "no published figure" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("goals", "given", "parts"),
    [
        ("eval", {"ONNX": "none.onnx"}, ("ONNX=none.onnx", "no such file")),
        ("eval", {"REFERENCE": "torch"}, ("REFERENCE=torch", "REFERENCE=onnx")),
        ("eval", {"BACKEND": "torchscript"}, ("BACKEND=torchscript", "onnxruntime, openvino or ascend")),
        ("train", {}, ("make train", "mine is an ONNX file")),
        ("weights", {}, ("make weights", "mine is an ONNX file")),
        ("eval", {"MODEL": "people", "CFG": "", "REFERENCE": "onnx"}, ("REFERENCE=onnx", "REFERENCE=torch")),
    ],
)
@pytest.mark.usefixtures("files")
def test_values_that_need_a_network_are_rejected_for_an_onnx_file(
    goals: str, given: dict[str, str], parts: tuple[str, ...]
) -> None:
    line = rejected(goals, **{**MINE, **given})
    assert all(part in line for part in parts), line


@pytest.mark.usefixtures("files")
def test_without_a_file() -> None:
    line = rejected(CFG="mine.yaml", MODEL="mine")
    assert "MODEL=mine" in line and "MODEL.NAME: onnx" in line and "give ONNX=<file>" in line


@pytest.mark.usefixtures("files")
def test_ignored_values(capsys: pytest.CaptureFixture[str]) -> None:
    Path("w.pth").write_bytes(b"")
    resolve(**MINE, WEIGHTS="w.pth")
    resolve(**MINE, WEIGHTS="missing.pth")
    lines = capsys.readouterr().err
    assert "WEIGHTS=w.pth is ignored" in lines and "WEIGHTS=missing.pth is ignored" in lines
    settings = Path("build/mine/settings")
    assert (settings / "ONNX.mk").is_file() and not (settings / "WEIGHTS.mk").exists()
    (settings / "WEIGHTS.mk").write_text("WEIGHTS ?= w.pth\n")  # as an older version wrote it
    assert resolve(**MINE)["WEIGHTS"] == "weights/mine.pth" and not (settings / "WEIGHTS.mk").exists()
    assert "WEIGHTS=" not in capsys.readouterr().err
    Path("mine.om").write_bytes(b"IMOD")
    Path("mine.om.json").write_text("{}")
    resolve(**MINE, OM="mine.om", AIS_PYTHON="python3")
    assert "ONNX=mine.onnx is ignored" not in capsys.readouterr().err
    with pytest.raises(OptionError, match="did you mean"):
        resolve(**MINE, unknown="ONX")


def test_doctor_reads_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """make doctor shows the content of the ONNX file and reports its errors; it does not require a checkpoint."""
    Path("m.yaml").write_text("MODEL: {NAME: onnx}\n")
    model = classifier()
    saved(place, model).rename("m.onnx")
    doctor_calls.call(REFERENCE="onnx")
    shown = capsys.readouterr()
    assert report(shown.out)["ONNX file"].endswith("16 x 16 pixels, any batch; output class, 10 classes")
    assert "3 images" in report(shown.out)["data set"] and "checkpoint" not in shown.out + shown.err
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    saved(place, model).rename("m.onnx")
    doctor_calls.call()
    assert "16 x 16 pixels, batch 4; output class" in report(capsys.readouterr().out)["ONNX file"]
    doctor_calls.call(ONNX="none.onnx", BACKEND="torchscript")
    assert "BACKEND=torchscript: m is an ONNX file" in capsys.readouterr().err
    assert doctor_calls.call(ONNX="build/m/model.onnx") == 2 and "give ONNX=<file>" in capsys.readouterr().err
