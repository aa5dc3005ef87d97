"""train/classification/data.py: random crops, and which images are read."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.config import load_config
from tests.support.reference_pixels import paddleclas_crop
from tests.support.training_sets import CLASSES, CONFIG, data_set, write_config
from train.classification.data import augment, crop_box, read_images


@given(st.integers(1, 700), st.integers(1, 700), st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_a_crop_is_inside_the_image(width: int, height: int, least: float, seed: int) -> None:
    left, top, right, bottom = crop_box(width, height, (least, 1.0), random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_configured_areas_and_ratios() -> None:
    source = random.Random(0)
    boxes = np.array([crop_box(500, 400, (0.08, 1.0), source) for _ in range(4000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share, ratio = width * height / (500 * 400), width / height
    assert 0.079 < share.min() < 0.09 and 0.97 < share.max() <= 1
    assert 0.74 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.35
    small = share < 0.4  # so small that each ratio fits
    assert np.histogram(share[small], 4)[0] / small.sum() == pytest.approx([0.25] * 4, abs=0.03)
    assert np.median(np.log(ratio[small])) == pytest.approx(0, abs=0.02)
    assert boxes[:, 0].min() == 0 and boxes[:, 2].max() == 500
    assert np.mean(boxes[:, 0] + boxes[:, 2]) == pytest.approx(500, abs=5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 30), (180, 0, 220, 30)), ((30, 400), (0, 180, 30, 220)), ((20, 20), (0, 0, 20, 20))],
)
def test_the_centre_is_used_where_no_crop_fits(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    """As torchvision: with the ratio nearest to the image's."""

    class Widest(random.Random):
        def uniform(self, low: float, high: float) -> float:
            return high

    assert crop_box(*size, (1.0, 1.0), Widest()) == expected


def test_a_crop_is_resized_and_flipped(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, CONFIG.replace("CROP_SCALE: [0.5, 1.0]", "CROP_SCALE: [1.0, 1.0]")))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = {np.asarray(augment(image, config, random.Random(seed))).tobytes() for seed in range(100)}
    assert {pixels.tobytes(), pixels[:, ::-1].tobytes()} <= found, "whole, and flipped"
    still = load_config(write_config(tmp_path, CONFIG + "DATASET: {FLIP: false}\n"))
    box = crop_box(32, 32, still.TRAIN.CROP_SCALE, random.Random(3))
    expected = image.crop(box).resize((32, 32), Image.Resampling.BILINEAR)
    assert augment(image, still, random.Random(3)).tobytes() == expected.tobytes()


def test_validation_images_are_resized_by_the_configs_resizer(tmp_path: Path) -> None:
    """As in preprocess. Random crops for training are always resized by Pillow."""
    data = data_set(tmp_path / "data")
    first = sorted(data.glob("val/*/*"))[0]
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)).save(first, "PNG")
    image = np.asarray(Image.open(first))
    found = {}
    for resizer in ("pillow", "cv2"):
        config = load_config(write_config(tmp_path, CONFIG)).clone()
        config.defrost()
        config.INPUT.RESIZER = resizer
        samples = read_images(data, config, training=False)
        found[resizer] = samples.read(0, samples.files.index(first))[0].numpy()
    width, height = config.MODEL.IMAGE_SIZE
    expected = paddleclas_crop(image, config.INPUT.RESIZE, (width, height))
    assert np.array_equal(found["cv2"], expected)
    assert not np.array_equal(found["pillow"], expected)


def test_images_and_labels_of_both_splits_are_read(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    data = data_set(tmp_path / "data")
    training, validation = (read_images(data, config, training) for training in (True, False))
    assert (len(training), len(validation)) == (24, 9)
    assert [path.parent.name for path in training.files] == [CLASSES[label] for label in training.labels]
    before = training.sha256()
    (tmp_path / "moved").mkdir()
    data.rename(tmp_path / "moved/data")
    assert read_images(tmp_path / "moved/data", config, True).sha256() == before, "the location does not matter"


def error_of(data: Path, config: CfgNode, training: bool) -> UserError:
    with pytest.raises(UserError) as caught:
        read_images(data, config, training)
    return caught.value


def test_files_that_are_not_images_are_named_before_the_first_step(tmp_path: Path) -> None:
    config, data = load_config(write_config(tmp_path)), data_set(tmp_path / "data")
    (data / "train/grey/Thumbs.db").write_bytes(b"x")
    (data / "train/grey/lost.JPEG").symlink_to("nowhere")
    (data / "train/light/inner").mkdir()
    os.rename(data / "train/dark/dark0.JPEG", data / "train/dark/no ending")
    (data / "train/list.txt").write_text("beside the class folders")
    (data / "train/__MACOSX").mkdir()
    error = error_of(data, config, True)
    assert error.where == data / "train"
    reasons = {"grey/lost.JPEG": "a broken link", "light/inner": "a directory", "grey/Thumbs.db": "not an image"}
    assert error.found == ", ".join(f"train/{name}: {reason}" for name, reason in reasons.items())
    for name in ("grey/Thumbs.db", "grey/lost.JPEG"):
        (data / "train" / name).unlink()
    (data / "train/light/inner").rmdir()
    samples = read_images(data, config, True)
    assert len(samples) == 24 and data / "train/dark/no ending" in samples.files
    left_out, folders = samples.notes()
    assert "train/list.txt" in left_out and "__MACOSX" in folders


def test_classes_of_both_splits_must_be_the_same(tmp_path: Path) -> None:
    config, data = load_config(write_config(tmp_path)), data_set(tmp_path / "data")
    os.rename(data / "val/grey", data / "val/gray")
    error = error_of(data, config, False)
    assert (error.where, error.found) == (data, "gray only in val/, grey only in train/")
    lines = [f"val/{name}/{name}9.JPEG {label}\n" for label, name in enumerate(("light", "dark"))]
    (data / "val_list.txt").write_text("".join(lines))
    error = error_of(data, config, False)
    assert error.where == data / "val_list.txt"
    assert error.found == "val/dark/dark9.JPEG is 1, train/dark is 0, val/light/light9.JPEG is 0, train/light is 2"
    (data / "val_list.txt").write_text("val/light/light9.JPEG 2\n")
    assert read_images(data, config, False).labels == [2]
