"""benchmarks/seeded_checkpoint.py: calibrated scales, one seed one file, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import seeded_checkpoint
from hrnet.config import load_config
from hrnet.nets import classification
from tests import tiny


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "val"
    folder.mkdir()
    for number in range(12):
        pixels = random.integers(0, 256, (90, 100, 3), dtype=np.uint8) // (1 + number % 4)
        Image.fromarray(pixels).save(folder / f"photo{number}.JPEG")
    return folder


def make(tmp_path, images, name, *more) -> int:
    cfg, output = tiny.write_config(tmp_path), tmp_path / name
    arguments = ["--cfg", cfg, "--images", images, "--output", output, *more]
    return seeded_checkpoint.main([str(argument) for argument in arguments])


def test_one_seed_one_net(tmp_path, images):
    for name, seed in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        assert make(tmp_path, images, name, "--seed", seed) == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b
    assert a != c


def test_logits_have_scale_and_variety(tmp_path, images, capsys):
    assert make(tmp_path, images, "a.pth") == 0
    told = capsys.readouterr().out
    assert "calibrated on 12 images: logits up to " in told
    assert 0.01 < float(told.split("logits up to ")[1].split(",")[0]) < 100
    assert int(told.split(", ")[-1].split()[0]) > 1


def test_calibration_is_the_average_of_each_layers_input(tmp_path):
    net = classification.build(load_config(tiny.write_config(tmp_path)))
    images = torch.randn(20, 3, 64, 64)  # a batch of 16 and one of 4
    seeded_checkpoint.calibrate(net, images)
    with torch.no_grad():
        before = [net.conv1(batch) for batch in images.split(seeded_checkpoint.BATCH)]
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in before]).mean(dim=0)
    variance = torch.stack([x.var(dim=(0, 2, 3)) for x in before]).mean(dim=0)
    assert torch.allclose(net.bn1.running_mean, mean, atol=1e-5)
    assert torch.allclose(net.bn1.running_var, variance, rtol=1e-3)
    assert net.bn1.momentum == 0.1
    assert not net.training


def test_first_images_in_natural_order(images):
    names = [path.name for path in seeded_checkpoint.list_images(images, 3)]
    assert names == ["photo0.JPEG", "photo1.JPEG", "photo2.JPEG"]


@pytest.mark.parametrize(("folder", "told"), [("none", "no such folder"), (".", "holds no image")])
def test_a_folder_without_images(tmp_path, folder, told, capsys):
    assert make(tmp_path, tmp_path / folder, "a.pth") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "a.pth").exists()
