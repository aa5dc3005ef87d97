"""benchmarks/seeded_checkpoint.py: calibrated scales, equal files for equal seeds, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import seeded_checkpoint
from hrnet.config import load_config
from hrnet.nets import checkpoint, classification, pose
from tests.support import tiny


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "val"
    folder.mkdir()
    for number in range(12):
        pixels = random.integers(0, 256, (90, 100, 3), dtype=np.uint8) // (1 + number % 4)
        Image.fromarray(pixels).save(folder / f"photo{number}.JPEG")
    return folder


def make(tmp_path, images, name, *more, write_config=tiny.write_config) -> int:
    arguments = ["--cfg", write_config(tmp_path), "--images", images, "--output", tmp_path / name, *more]
    return seeded_checkpoint.main([str(argument) for argument in arguments])


def make_pose(tmp_path, images, name, *more) -> int:
    return make(tmp_path, images, name, *more, write_config=tiny.write_pose_config)


@pytest.mark.parametrize("make", [make, make_pose])
def test_equal_seeds_give_equal_nets(tmp_path, images, make):
    for name, seed in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        assert make(tmp_path, images, name, "--count", 3, "--seed", seed) == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b
    assert a != c


def test_logits_have_scale_and_variety(tmp_path, images, capsys):
    assert make(tmp_path, images, "a.pth") == 0
    line = capsys.readouterr().out
    assert "calibrated on 12 images: logits up to " in line
    assert 0.01 < float(line.split("logits up to ")[1].split(",")[0]) < 100
    assert int(line.split(", ")[-1].split()[0]) > 1


def test_calibration_is_the_average_of_each_layers_input(tmp_path):
    net = classification.build(load_config(tiny.write_config(tmp_path)))
    images = torch.randn(20, 3, 64, 64)  # a batch of 16 and one of 4
    seeded_checkpoint.calibrate(net, images.split(16))
    with torch.no_grad():
        before = [net.conv1(batch) for batch in images.split(16)]
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in before]).mean(dim=0)
    variance = torch.stack([x.var(dim=(0, 2, 3)) for x in before]).mean(dim=0)
    assert torch.allclose(net.bn1.running_mean, mean, atol=1e-5)
    assert torch.allclose(net.bn1.running_var, variance, rtol=1e-3)
    assert net.bn1.momentum == 0.1
    assert not net.training


def test_the_first_images_are_used_in_natural_order(images):
    names = [path.name for path in seeded_checkpoint.list_images(images, 3)]
    assert names == ["photo0.JPEG", "photo1.JPEG", "photo2.JPEG"]


def test_maps_have_the_scale_that_thresholds_expect(tmp_path, images, capsys):
    assert make_pose(tmp_path, images, "a.pth") == 0
    line = capsys.readouterr().out
    assert "calibrated on 6 images: heat up to " in line
    assert 0.1 < float(line.split("heat up to ")[1].split(",")[0]) < 2
    config = load_config(tiny.write_pose_config(tmp_path))
    net = pose.build(config)
    checkpoint.load(net, tmp_path / "a.pth")
    inputs = [seeded_checkpoint.pose_input(path, config) for path in seeded_checkpoint.list_images(images, 6)]
    with torch.inference_mode():
        outputs = [net.eval()(each) for each in inputs]
    first, second = (torch.cat([each[k][0].flatten(1) for each in outputs], dim=1) for k in (0, 1))
    deviations = [0.06] * tiny.JOINTS + [1.0] * tiny.JOINTS
    for maps in (first, second):
        assert torch.allclose(maps.std(dim=1), torch.tensor(deviations[: len(maps)]), rtol=1e-2)
        assert (maps.mean(dim=1).abs() < 1e-2 * maps.std(dim=1)).all()
        for group in maps.split(tiny.JOINTS):  # all joints have nearly the same map
            assert torch.corrcoef(group).min() > 0.9


def test_the_steadiest_mix_of_channels_excludes_one_that_differs_between_images():
    noise = torch.randn(3, 2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = [each + torch.tensor([[3.0 * number], [0.0]]) for number, each in enumerate(noise)]
    moved, steady = seeded_checkpoint.steadiest(maps).abs()
    assert moved < 0.1 * steady


def test_a_damaged_image_is_reported(tmp_path, images, capsys):
    (images / "photo0.JPEG").write_bytes(b"no image")
    assert make_pose(tmp_path, images, "a.pth") == 2
    assert f"error: {images / 'photo0.JPEG'}: " in capsys.readouterr().err


@pytest.mark.parametrize(("folder", "error"), [("none", "no such directory"), (".", "no images")])
def test_a_directory_without_images_is_rejected(tmp_path, folder, error, capsys):
    assert make(tmp_path, tmp_path / folder, "a.pth") == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "a.pth").exists()


def test_noise_replaces_missing_images_for_classification_but_not_for_pose(tmp_path, capsys):
    words = ["--cfg", str(tiny.write_config(tmp_path)), "--output", str(tmp_path / "a.pth")]
    assert seeded_checkpoint.main(words) == 0
    assert "noise" in capsys.readouterr().out
    net = classification.build(load_config(tmp_path / "tiny.yaml")).eval()
    checkpoint.load(net, tmp_path / "a.pth")
    assert 1e-3 < net(torch.randn(2, 3, 64, 64)).abs().max() < 100
    words = ["--cfg", str(tiny.write_pose_config(tmp_path)), "--output", str(tmp_path / "b.pth")]
    assert seeded_checkpoint.main(words) == 2
    assert "--images" in capsys.readouterr().err
