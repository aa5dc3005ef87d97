"""make/options.py for make predict: what IMAGES may be, what is remembered, and which values are ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import rejected, resolve


@pytest.fixture(autouse=True)
def images(checkout: Path) -> Path:
    for name in ("a.jpg", "photos/b.png", "photos/notes.pdf"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_bytes(b"%PDF-1.4")
    return checkout


def test_images_are_never_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    found = resolve("predict", IMAGES="a.jpg photos/", BATCH="2")
    assert "IMAGES" not in found, "make has this value already; if it were returned, make would split it at the space"
    assert [path.name for path in Path("build/net/settings").iterdir()] == ["BATCH.mk"]
    resolve("eval", IMAGES="a.jpg")
    assert "IMAGES=a.jpg is ignored: only make predict uses it" in capsys.readouterr().err


def test_values_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    resolve("predict", IMAGES="photos\n a.jpg", LIMIT="3", REFERENCE="torch", DEVICE="0,1", BACKEND="torchscript")
    lines = capsys.readouterr().err
    assert "LIMIT=3 is ignored" in lines and "REFERENCE=torch is ignored" in lines


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({}, ["make predict", "IMAGES="]),
        ({"IMAGES": " "}, ["make predict", "IMAGES="]),
        ({"IMAGES": "a.jpg my cat.jpg"}, ["IMAGES: my: no such file", "write ? instead"]),
        ({"IMAGES": "photos/notes.pdf"}, ["photos/notes.pdf", "a PDF file"]),
        ({"IMAGES": "configs"}, ["configs: no images", "*.jpg", "net.yaml"]),
        ({"IMAGES": "it's.jpg"}, ["IMAGES=it's.jpg", "without quotes"]),
        ({"IMAGES": "a.jpg", "OM": "no.onnx"}, ["OM=no.onnx", "no such file"]),
        ({"IMAGES": "a.jpg", "DATASET": "none"}, ["DATASET=none", "no such"]),
    ],
)
def test_what_make_predict_rejects(given: dict[str, str], parts: list[str]) -> None:
    line = rejected("predict", **given)
    assert all(part in line for part in parts), line


def test_the_file_of_class_names(checkout: Path) -> None:
    config = checkout / "configs/net.yaml"
    config.write_text("MODEL: {NAME: cls_hrnet}\nINPUT: {CLASS_NAMES: names.txt}\n")
    assert resolve()["CLASS_NAMES"] == "", "preprocessing reports that it is missing"
    (checkout / "configs/names.txt").write_text("cat\ndog\n")
    assert resolve()["CLASS_NAMES"] == "configs/names.txt"
