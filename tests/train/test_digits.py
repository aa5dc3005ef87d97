"""train/digits.py: its parts, a short training run, and the committed checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, classification
from tests import tiny
from train import digits


@pytest.fixture
def dataset(tmp_path):
    """Twelve bright and twelve dark pictures: classes 0 and 1."""
    random = np.random.default_rng(0)
    lines = []
    for number in range(24):
        label = number % 2
        pixels = random.integers(0, 100, (64, 64), dtype=np.uint8) + np.uint8(150 * label)
        held_out = number >= 16
        folder = tmp_path / "data" / ("val" if held_out else f"train/{label}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.JPEG")
        if held_out:
            lines.append(f"{number}.JPEG {label}\n")
    (tmp_path / "data" / "val_label.txt").write_text("".join(lines), encoding="utf-8")
    return tmp_path / "data"


def test_a_short_run_learns_and_repeats(dataset, tmp_path, capsys, monkeypatch):
    for name, value in {"THREADS": 1, "RATE": 0.01, "EPOCHS": 12}.items():
        monkeypatch.setattr(digits, name, value)
    cfg = tmp_path / "tiny.yaml"
    text = tiny.CONFIG + "TRAIN: {BATCH_SIZE_PER_GPU: 8}\n"
    cfg.write_text(text, encoding="utf-8")
    written = []
    for name in ("a.pth", "b.pth"):
        output = tmp_path / "weights" / name
        assert digits.main(["--dataset", str(dataset), "--cfg", str(cfg), "--output", str(output)]) == 0
        written.append(output.read_bytes())
    told = capsys.readouterr().out
    assert "trained on 16 images" in told
    assert "Top-1 100.0% of 8 held-out images" in told
    assert written[0] == written[1]


def test_moving_keeps_what_it_should():
    torch.manual_seed(0)
    flat = torch.full((4, 3, 16, 16), 0.5)
    assert torch.allclose(digits.moved(flat), flat)  # the border is carried on, nothing dark comes in
    images = torch.rand(4, 3, 64, 64)
    moved = digits.moved(images)
    assert moved.shape == images.shape
    assert not torch.allclose(moved, images)


def test_a_dot_moves_no_further_than_told():
    torch.manual_seed(0)
    images = torch.zeros(64, 1, 65, 65)
    images[:, :, 32, 32] = 1  # the centre, which turning and stretching leave in place
    moved = digits.moved(images)
    where = torch.stack([image[0].argmax() for image in moved])
    reach = digits.SHIFT * 65 / 2 * (1 + digits.STRETCH) * 1.5
    assert (where // 65 - 32).abs().max() <= reach
    assert (where % 65 - 32).abs().max() <= reach


def test_no_data_names_the_command(tmp_path, capsys):
    assert digits.main(["--dataset", str(tmp_path / "none"), "--output", str(tmp_path / "x.pth")]) == 2
    assert f"python -m data.digits --output {tmp_path / 'none'}\n" in capsys.readouterr().err


def test_the_committed_checkpoint_fits_its_config():
    path = CONFIGS.parent / "weights" / "demo_digits.pth"
    assert path.stat().st_size < 3_000_000
    config = load_config(CONFIGS / "demo_digits.yaml")
    checkpoint.load(classification.build(config), path)
    assert config.REFERENCE.TOP1 >= 97
    made_by = (digits.EPOCHS, digits.RATE, config.TRAIN.BATCH_SIZE_PER_GPU, config.TRAIN.WD)
    assert made_by == (30, 0.003, 32, 0.0001), "other values would make other weights"
