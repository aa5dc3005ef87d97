"""preprocess.classification and preprocess.pose with --images: inputs without labels, equal to those of a data set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hrnet.io.manifest import Manifest
from preprocess import classification, pose
from tests.support import coco_sets
from tests.support.coco_sets import FOLDER, SIZES, coco_set
from tests.support.image_sets import encoded, listed, noise, record


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images of one name in two folders."""
    for number, name in enumerate(("one/a.jpg", "two/a.jpg")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(encoded(noise(70 + number, 60), "JPEG"))
    return tmp_path


def classify(cfg: str, output: Path, *given: object) -> int:
    return classification.main(["--cfg", cfg, "--output", str(output), "--workers", "1", *map(str, given)])


def test_classification(cfg: str, output: Path, photos: Path, tmp_path: Path) -> None:
    sources = [str(photos / name) for name in ("two/a.jpg", "one/a.jpg")]
    assert classify(cfg, output, "--images", *sources) == 0
    manifest = Manifest.read(output / "manifest.json")
    assert manifest.dataset == "images" and [image.source for image in manifest.images] == sources
    assert [image.label for image in manifest.images] == [None, None]
    stems = [image.stem for image in manifest.images]
    assert len(set(stems)) == 2
    dataset = tmp_path / "set"
    listed(dataset, {"x.jpg": 0, "y.jpg": 1})
    for source, name in zip(sources, ("x", "y")):
        shutil.copy(source, dataset / f"val/{name}.jpg")
    assert classify(cfg, tmp_path / "labelled", "--dataset", dataset) == 0
    for stem, name in zip(stems, ("x", "y")):
        assert (output / f"{stem}.bin").read_bytes() == (tmp_path / f"labelled/{name}.bin").read_bytes()


def test_a_replaced_image_is_prepared_again(cfg: str, output: Path, photos: Path) -> None:
    source = photos / "one/a.jpg"
    assert classify(cfg, output, "--images", source) == 0
    (written,) = output.glob("*.bin")
    before = written.read_bytes()
    shutil.copy(photos / "two/a.jpg", source)
    os.utime(source, (1, 1))
    assert classify(cfg, output, "--images", source) == 0
    assert written.read_bytes() != before


def test_pose(output: Path, tmp_path: Path) -> None:
    config = coco_sets.write_config(tmp_path, coco_sets.CONFIG)
    dataset = coco_set(tmp_path / "coco")
    given = ["--cfg", config, "--workers", "1"]
    assert pose.main([*given, "--dataset", str(dataset), "--output", str(tmp_path / "labelled")]) == 0
    flips = ["--output_flip", str(tmp_path / "flip")]
    assert pose.main([*given, "--images", str(dataset / FOLDER), "--output", str(output), *flips]) == 0
    manifest, labelled = Manifest.read(output / "manifest.json"), Manifest.read(tmp_path / "labelled/manifest.json")
    assert manifest.dataset == "images" and Manifest.read(tmp_path / "flip/manifest.json") == manifest.flip()
    assert [image.image_id for image in manifest.images] == list(range(1, len(SIZES) + 1))
    for image, other in zip(manifest.images, labelled.images):
        assert image.source == str(dataset / other.source)
        facts = ("width", "height", "shape", "center", "scale")
        assert [getattr(image, name) for name in facts] == [getattr(other, name) for name in facts]
        assert (output / f"{image.stem}.npy").read_bytes() == (tmp_path / f"labelled/{other.stem}.npy").read_bytes()


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_unreadable_images(
    task: str, cfg: str, output: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"%PDF-1.4")
    Image.new("L", (70, 60)).save(tmp_path / "good.png")
    if task == "pose":
        cfg = coco_sets.write_config(tmp_path, coco_sets.CONFIG)
    main = {"classification": classification, "pose": pose}[task].main
    given = ["--cfg", cfg, "--output", str(output), "--workers", "1", "--images", str(bad)]
    assert main(given) == 1
    assert f"{bad}: not an image that Pillow can read" in capsys.readouterr().err
    more = [str(tmp_path / "good.png"), "--max_rejected", "1"]
    assert main([*given, *more]) == 0
    assert list(record(output / "rejected.json")["images"]) == [str(bad)]
    (image,) = Manifest.read(output / "manifest.json").images
    assert (image.source, image.image_id) == (str(tmp_path / "good.png"), 2 if task == "pose" else None)


def test_one_of_dataset_and_images(cfg: str, output: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        classify(cfg, output, "--images", photos / "one", "--dataset", photos)
    assert classify(cfg, output, "--images", photos / "one", "--limit", 1) == 2
    assert "--limit" in capsys.readouterr().err
