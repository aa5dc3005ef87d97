"""train/classification/data.py: random crops, and which images are read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hrnet.cli import UserError
from hrnet.config import load_config
from tests.train.small_data import CLASSES, CONFIG, data_set, write_config
from train.classification.data import augment, crop_box, read_images


@given(st.integers(1, 700), st.integers(1, 700), st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_a_crop_is_inside_the_image(width: int, height: int, least: float, seed: int) -> None:
    left, top, right, bottom = crop_box(width, height, (least, 1.0), random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_areas_and_ratios_of_the_settings() -> None:
    source = random.Random(0)
    boxes = np.array([crop_box(500, 400, (0.08, 1.0), source) for _ in range(4000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share, ratio = width * height / (500 * 400), width / height
    assert 0.079 < share.min() < 0.09 and 0.97 < share.max() <= 1
    assert 0.74 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.35
    small = share < 0.4  # where each of them fits
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


def test_images_and_labels_of_both_splits(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    data = data_set(tmp_path / "data")
    training, validation = (read_images(data, config, training) for training in (True, False))
    assert (len(training), len(validation)) == (24, 9)
    assert [path.parent.name for path in training.files] == [CLASSES[label] for label in training.labels]
    before = training.sha256()
    (tmp_path / "moved").mkdir()
    data.rename(tmp_path / "moved/data")
    assert read_images(tmp_path / "moved/data", config, True).sha256() == before, "the location does not matter"
    (tmp_path / "moved/data/val/new").mkdir()
    with pytest.raises(UserError) as caught:
        read_images(tmp_path / "moved/data", config, False)
    assert caught.value.where == tmp_path / "moved/data/val" and caught.value.found == 4
