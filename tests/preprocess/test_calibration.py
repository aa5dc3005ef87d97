"""preprocess --calibration: images of train/ if it exists, otherwise of val/, chosen by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet.calibration import choose
from hrnet.io.manifest import Manifest
from preprocess import classification
from tests.support import image_sets


def calibration_images(folder: Path, count: int) -> Manifest:
    words = ["--cfg", str(image_sets.write_config(folder)), "--dataset", str(folder / "data")]
    output = folder / "inputs"
    assert classification.main([*words, "--output", str(output), "--calibration", str(count), "--workers", "1"]) == 0
    return Manifest.read(output / "manifest.json")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """data/ with 12 images in val/."""
    image_sets.listed(tmp_path / "data", {f"img{i}.JPEG": i % image_sets.CLASSES for i in range(12)})
    return tmp_path


def test_images_of_val_with_the_smallest_hashes(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = calibration_images(dataset, 5)
    assert {image.source for image in found.images} == choose([f"val/img{i}.JPEG" for i in range(12)], 5)
    assert found.dtype == "float32" and found.rejected == 0
    assert "for calibration" not in capsys.readouterr().out
    assert len(calibration_images(dataset, 100).images) == 12
    assert "only 12 images for calibration, 100 were requested" in capsys.readouterr().out


def test_images_of_train_if_it_exists(dataset: Path) -> None:
    for label in range(image_sets.CLASSES):
        folder = dataset / f"data/train/{label}"
        folder.mkdir(parents=True)
        for number in range(2):
            image_sets.noise(50, 40, label).save(folder / f"{number}.JPEG")
    found = calibration_images(dataset, 6)
    assert len(found.images) == 6 and all(image.source.startswith("train/") for image in found.images)
    assert all(image.source.split("/")[1] == str(image.label) for image in found.images)
