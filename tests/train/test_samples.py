"""train/samples.py: which images a process sees, how they are cropped, and that SEED and epoch alone decide it."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hrnet.cli import UserError
from hrnet.config import load_config
from tests.train.pictures import CLASSES, CONFIG, data_set, write_config
from train import samples
from train.distributed import DistributedContext


def place(rank: int = 0, processes: int = 1) -> DistributedContext:
    return DistributedContext(rank, processes, torch.device("cpu"))


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.floats(0.01, 1.0),
    st.integers(0, 2**32),
)
def test_a_crop_lies_in_the_image(width: int, height: int, least: float, seed: int) -> None:
    left, top, right, bottom = samples.crop_box(width, height, (least, 1.0), random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_shares_and_ratios_that_are_asked_for() -> None:
    source = random.Random(0)
    boxes = np.array([samples.crop_box(500, 400, (0.08, 1.0), source) for _ in range(4000)])
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
def test_where_no_crop_fits_the_centre_is_taken(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    """As torchvision: of the ratio that is nearest to the image's."""

    class Widest(random.Random):
        def uniform(self, low: float, high: float) -> float:
            return high

    assert samples.crop_box(*size, (1.0, 1.0), Widest()) == expected


def test_a_crop_is_cut_resized_and_mirrored(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, CONFIG.replace("CROP_SCALE: [0.5, 1.0]", "CROP_SCALE: [1.0, 1.0]")))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = {
        np.asarray(samples.augmented(Image.fromarray(pixels), config, random.Random(seed))).tobytes()
        for seed in range(100)
    }
    assert {pixels.tobytes(), pixels[:, ::-1].tobytes()} <= found, "whole, and mirrored"
    still = load_config(write_config(tmp_path, CONFIG + "DATASET: {FLIP: false}\n"))
    image = Image.fromarray(pixels)
    source = random.Random(3)
    box = samples.crop_box(32, 32, still.TRAIN.CROP_SCALE, random.Random(3))
    expected = image.crop(box).resize((32, 32), Image.Resampling.BILINEAR)
    assert samples.augmented(image, still, source).tobytes() == expected.tobytes()


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_processes_share_the_batches_of_one(images: int, batch: int, processes: int, epoch: int) -> None:
    each = [samples.TrainingKeys(images, batch, rank, processes) for rank in range(processes)]
    one = samples.TrainingKeys(images, batch * processes, 0, 1)
    for keys in (*each, one):
        keys.epoch = epoch
    steps = [list(itertools.chain(*parts)) for parts in zip(*each)]
    assert [sorted(step) for step in steps] == [sorted(step) for step in one]
    assert all(len(part) == batch for keys in each for part in keys)
    flat = list(itertools.chain(*steps))
    assert len(flat) == len(set(flat)) == images // (batch * processes) * batch * processes
    assert {number for number, _ in flat} <= {epoch}


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9))
def test_every_held_out_image_is_validated_once(images: int, batch: int, processes: int) -> None:
    keys = [samples.HeldOutKeys(images, batch, rank, processes) for rank in range(processes)]
    seen = [place for each in keys for part in each for _, place in part]
    assert sorted(seen) == list(range(images))
    assert all(len(each) == len(list(each)) for each in keys)


def test_epochs_differ_and_come_again(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    split = samples.read_training(data_set(tmp_path / "data"), config)
    alone = samples.training(split, config, place())
    first, second, again = ([pixels for pixels, _ in alone.of(epoch)] for epoch in (0, 1, 0))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, second))
    assert first[0].shape == (8, 32, 32, 3) and first[0].dtype == torch.uint8
    config.defrost()
    config.WORKERS, config.TRAIN.BATCH_SIZE_PER_GPU = 1, 4
    parts = [list(samples.training(split, config, place(rank, 2)).of(0)) for rank in range(2)]
    for step, whole in enumerate(first):
        halves = [part[step][0] for part in parts]
        assert torch.equal(torch.stack(halves, 1).flatten(0, 1), whole), "in turn, by workers of two processes"


def test_what_is_read(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    data = data_set(tmp_path / "data")
    train, held_out = samples.read_training(data, config), samples.read_held_out(data, config)
    assert (len(train.files), len(held_out.files)) == (24, 9)
    assert [path.parent.name for path in train.files] == [CLASSES[label] for label in train.labels]
    (data / "val/new").mkdir()
    with pytest.raises(UserError, match=r"data/val: class folders \(expected 3, MODEL.NUM_CLASSES, found 4\)"):
        samples.read_held_out(data, config)
    other = samples.Split(train.files, train.labels[::-1], [], [])
    assert samples.images_sha256(train) != samples.images_sha256(other)
    elsewhere = samples.Split([Path("/x", *path.parts[-3:]) for path in train.files], train.labels, [], [])
    assert samples.images_sha256(train) == samples.images_sha256(elsewhere), "a moved data set is the same"


def test_a_fault_comes_whole_out_of_a_worker() -> None:
    error = UserError("is no readable image", where="a.JPEG", hint="mend it")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert samples.collate([(torch.zeros(1), 0), error]) is error
