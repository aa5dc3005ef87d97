"""make/options.py for make family: its models, and which values are remembered and rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")


def test_defaults_of_family(checkout: Path) -> None:
    for name in ("demo_net", "wide"):
        (checkout / f"configs/{name}.yaml").write_text("MODEL: {NAME: cls_hrnet}\n")
    found = resolve("family", MODEL="family")
    assert (found["MODELS"], found["BATCHES"], found["BATCH"]) == ("net,wide", "1,4,8", "8"), "neither demo nor pose"
    assert (found["DATASET"], found["CFG"], found["BENCH"]) == ("", "", "onnxruntime-fp32-dev0")
    assert not Path("build").exists()
    found = resolve("family", MODEL="family", MODELS=" wide, demo_net wide", BATCHES="2 16")
    assert (found["MODELS"], found["BATCHES"], found["BATCH"]) == ("wide,demo_net", "2,16", "16")


def test_what_make_family_remembers() -> None:
    """Values for make family are remembered separately from those of each model; MODELS is not remembered."""
    Path("set").mkdir()
    resolve("eval", PRECISION="fp16")
    assert resolve("family", MODEL="family")["PRECISION"] == "fp32"
    resolve("family", MODEL="family", MODELS="net", BATCHES="2", LOOP="3", DATASET="set")
    assert sorted(path.stem for path in Path("build/family/settings").iterdir()) == ["DATASET", "LOOP"]
    found = resolve("family", MODEL="family")
    assert (found["LOOP"], found["DATASET"], found["NAME"]) == ("3", "set", "set-float32")
    assert resolve("family", MODEL="family", DATASET="")["DATASET"] == ""
    assert resolve("family", MODEL="family")["DATASET"] == "", "no data set until one is given again"
    assert resolve("clean", MODEL="family") == {}


@pytest.mark.parametrize(
    ("goals", "given", "parts"),
    [
        ("family", {"MODELS": "nte"}, ["MODELS=nte", "did you mean net?"]),
        ("family", {"MODELS": "net people"}, ["MODELS=net people", "people is a pose model"]),
        ("family", {"MODELS": "net;x"}, ["MODELS=net;x", "net"]),
        ("family", {"MODEL": "net"}, ["MODEL=net", "MODELS=net"]),
        ("family", {"CFG": "configs/net.yaml"}, ["CFG=configs/net.yaml"]),
        ("family", {"WEIGHTS": "configs"}, ["WEIGHTS=configs", "weights/<MODEL>.pth"]),
        ("family", {"OM": "my.om"}, ["OM=my.om"]),
        ("family", {"BATCHES": "1;4"}, ["BATCHES=1;4"]),
        ("family", {"DATASET": "nowhere"}, ["DATASET=nowhere"]),
        ("family", {"DATASET": "configs", "DEVICE": "0,1", "SHARDS": "1", "BACKEND": "torchscript"}, ["SHARDS=2"]),
        ("family eval", {}, ["make family eval"]),
        ("eval", {}, ["MODEL=family", "no such config"]),
        ("eval", {"CFG": "mine/family.yaml"}, ["CFG=mine/family.yaml"]),
    ],
)
def test_what_make_family_rejects(goals: str, given: dict[str, str], parts: list[str]) -> None:
    Path("mine").mkdir()
    Path("mine/family.yaml").write_text("MODEL: {}\n")
    line = rejected(goals, **{"MODEL": "family", **given})
    assert all(part in line for part in parts), line


def test_models_without_make_family(capsys: pytest.CaptureFixture[str]) -> None:
    resolve("eval", MODELS="net")
    assert "MODELS=net is ignored" in capsys.readouterr().err
    assert not Path("build/net/settings/MODELS.mk").exists()
