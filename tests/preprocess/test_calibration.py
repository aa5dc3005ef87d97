"""preprocess --calibration: images below train/ if there are any, otherwise of val/, chosen by their names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hrnet.calibration import choose
from hrnet.io.files import natural_key
from hrnet.io.manifest import Manifest
from make.changed import data_changed
from preprocess import classification
from tests.support import image_sets
from tests.support.reference_pixels import reference


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
    out = capsys.readouterr().out
    assert "val_label.txt: only 12 images for calibration" in out and "100 were requested" in out


def write_train(folder: Path, *names: str) -> None:
    image_sets.write_images(folder / "data/train", list(names))


CLASSES = [f"{label}/{number}.JPEG" for label in range(image_sets.CLASSES) for number in range(2)]
FLAT = ["b.png", "a.JPEG", "c.jpg"]


@pytest.mark.parametrize("names", [CLASSES, FLAT, CLASSES[:3], ["deep/er/x.png", "flat.png"]])
def test_any_images_of_train_calibrate(dataset: Path, names: list[str]) -> None:
    write_train(dataset, *names)
    found = calibration_images(dataset, 6)
    sources = [image.source for image in found.images]
    assert set(sources) == choose([f"train/{name}" for name in names], 6)
    assert sources == sorted(sources, key=natural_key)
    assert {image.label for image in found.images} == {None} and found.dataset == "images"
    for image in found.images:
        expected = reference(dataset / "data" / image.source, image_sets.RESIZE, image_sets.CROP)
        assert (dataset / "inputs" / f"{image.stem}.bin").read_bytes() == expected


def test_train_needs_no_val_and_other_files_in_it_are_skipped(dataset: Path) -> None:
    shutil.rmtree(dataset / "data/val")
    (dataset / "data/val_label.txt").unlink()
    write_train(dataset, "a.png", ".hidden.png", "no/suffix.png")
    train = dataset / "data/train"
    (train / "no/suffix.png").rename(train / "no/suffix")
    (train / "notes.txt").write_text("no image")
    (train / "broken.png").write_text("no image")
    (train / "gone.png").symlink_to("nothing")
    (train / "no/loop").symlink_to("..")
    os.mkfifo(train / "queue.png")
    assert [image.source for image in calibration_images(dataset, 6).images] == ["train/a.png", "train/no/suffix"]


def test_images_of_val_are_used_until_train_has_an_image(dataset: Path) -> None:
    def changed() -> bool:
        return data_changed(dataset / "inputs/settings.json")

    assert calibration_images(dataset, 3).images[0].source.startswith("val/") and not changed()
    (dataset / "data/train").mkdir()
    assert changed()
    assert calibration_images(dataset, 3).images[0].source.startswith("val/") and not changed()
    write_train(dataset, "a.png")
    assert changed()
    assert calibration_images(dataset, 3).images[0].source == "train/a.png" and not changed()
