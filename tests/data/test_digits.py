"""data/digits.py: the layout, the split, and that a rerun changes nothing."""

from __future__ import annotations

import importlib.util
import stat
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data import digits
from hrnet.label_files import read_labels

# not imported here: that takes a second in each process of pytest-xdist
pytestmark = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    assert digits.main(["--output", str(folder)]) == 0
    return folder


def test_the_data_set_has_this_layout_and_modes(folder):
    labels = read_labels(folder / "val_label.txt")
    assert sorted(labels) == sorted(path.name for path in (folder / "val").iterdir())
    assert len(labels) == 500
    train = list((folder / "train").glob("*/*"))
    assert len(train) == 1297
    assert {path.parent.name for path in train} == set("0123456789")
    assert not {path.name for path in train} & set(labels)
    assert stat.S_IMODE((folder / "val").stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "val").iterdir()} == {0o640}


def test_labels_equal_the_sources(folder):
    from sklearn.datasets import load_digits

    target = load_digits().target
    labels = read_labels(folder / "val_label.txt")
    assert all(target[int(name[6:10])] == label for name, label in labels.items())
    assert all(target[int(path.name[6:10])] == int(path.parent.name) for path in (folder / "train").glob("*/*"))
    shares = np.bincount(list(labels.values())) / np.bincount(target)
    assert np.allclose(shares, 500 / 1797, atol=0.01)


def test_images_are_grey_jpegs_of_the_digits(folder):
    with Image.open(folder / "val" / "digit_0002.JPEG") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (64, 64))
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=float)
    from sklearn.datasets import load_digits

    source = load_digits().images[2] * 255 / 16
    assert np.corrcoef(small.ravel(), source.ravel())[0, 1] > 0.95


def test_a_rerun_restores_a_missing_image_and_changes_no_other(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.JPEG")}
    gone = folder / "val" / "digit_0002.JPEG"
    gone.unlink()
    assert digits.main(["--output", str(folder)]) == 0
    screen = capsys.readouterr().out
    assert "1297 images" in screen and "500 " in screen and str(folder) in screen
    assert {path: path.read_bytes() for path in folder.rglob("*.JPEG")} == before


def test_a_missing_package_has_a_hint_for_this_interpreter(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert digits.main(["--output", str(tmp_path / "digits")]) == 2
    assert f'{sys.executable} -m pip install ".[demo]"' in capsys.readouterr().err


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), share=st.integers(0, 100), seed=st.integers(0, 99))
def test_each_class_has_its_share_to_within_one(labels, share, seed):
    count = len(labels) * share // 100
    mask = digits.validation_mask(np.array(labels), count, seed)
    assert mask.sum() == count
    for label in set(labels):
        expected = labels.count(label) * count / len(labels)
        assert abs(mask[np.array(labels) == label].sum() - expected) < 1 + 1e-9
