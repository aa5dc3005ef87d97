"""A data set of tar files gives the same results as a folder with the same images, in every stage that reads images."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet.config import load_config
from hrnet.images import open_image
from hrnet.io.manifest import InputImage, Manifest
from hrnet.tars import find_source
from tests.support.examples import examples
from tests.support.image_sets import listed, prepare, record, write_config
from tests.support.tar_sets import Entry, write_tar
from train.classification.data import read_images

NAMES = ["a.jpg", "b.png", "c.JPEG", "d.jpeg", "e.jpg", "f.png"]
LABELS = {name: number % 3 for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of files, its config beside it."""
    root = tmp_path_factory.mktemp("tars")
    write_config(root)
    return listed(root / "set", LABELS)


def in_tars(folder: Path, target: Path, groups: list[list[str]]) -> Path:
    """The images of `folder` in tar files."""
    for number, names in enumerate(groups):
        entries: list[Entry] = []
        for name in names:
            key, label = name.partition(".")[0], LABELS[name]
            named = (f"{key}.json", json.dumps({"label": label}).encode()) if label else (f"{key}.cls", b"0")
            entries += [named, (name, (folder / "val" / name).read_bytes())]
        write_tar(target / f"val-{number}.tar", entries)
    return target


def inputs(output: Path) -> dict[str, tuple[bytes, InputImage]]:
    """By the image's own name."""
    found = {Path(image.source).name: image for image in Manifest.read(output / "manifest.json").images}
    return {name: ((output / f"{image.stem}.bin").read_bytes(), image) for name, image in found.items()}


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, tuple[bytes, InputImage]]:
    assert prepare(f"{folder.parent}/small.yaml", folder, folder.parent / "prep") == 0
    return inputs(folder.parent / "prep")


@settings(max_examples=examples(15), deadline=None)
@given(st.permutations(NAMES), st.lists(st.integers(1, 5), unique=True, max_size=4), st.integers(1, 6))
def test_any_division_into_tar_files_gives_the_same_inputs(
    folder: Path, expected: dict[str, tuple[bytes, InputImage]], names: list[str], places: list[int], parts: int
) -> None:
    borders = [0, *sorted(places), len(names)]
    groups = [names[start:end] for start, end in zip(borders, borders[1:])]
    with tempfile.TemporaryDirectory() as scratch:
        dataset = in_tars(folder, Path(scratch, "set"), groups)
        order: list[str] = []
        for number in range(1, parts + 1):
            output = Path(scratch, f"prep{number}")
            assert prepare(f"{folder.parent}/small.yaml", dataset, output, "--shard", f"{number}/{parts}") == 0
            found = inputs(output)
            order += found
            for name, (data, image) in found.items():
                data_of_file, file = expected[name]
                assert data == data_of_file
                assert (image.label, image.width, image.height) == (file.label, file.width, file.height)
            if parts == len(groups):
                assert list(found) == groups[number - 1], "a tar file is a part"
        assert order == names


def test_finished_inputs_are_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, cfg = in_tars(folder, tmp_path / "set", [NAMES[:2], NAMES[2:]]), f"{folder.parent}/small.yaml"
    assert prepare(cfg, dataset, tmp_path / "prep") == 0
    first = Manifest.read(tmp_path / "prep/manifest.json")
    assert [image.source for image in first.images[:3]] == [f"val-{n}.tar/{name}" for n, name in zip("001", NAMES)]
    capsys.readouterr()
    (tmp_path / "prep/a.bin").unlink()
    assert prepare(cfg, dataset, tmp_path / "prep") == 0
    assert "wrote 1 input " in (out := capsys.readouterr().out) and "kept 5" in out
    assert prepare(cfg, dataset, tmp_path / "prep") == 0
    assert "up to date" in capsys.readouterr().out


def test_broken_images_and_those_without_a_label_are_rejected(folder: Path, tmp_path: Path) -> None:
    good = (folder / "val/a.jpg").read_bytes()
    entries: list[Entry] = [("a.jpg", good), ("a.cls", b"1"), ("b.jpg", b""), ("b.cls", b"1"), ("u.jpg", good)]
    write_tar(tmp_path / "set/0.tar", [*entries, ("c.jpg", good[:300]), ("c.cls", b"1")])
    assert prepare(f"{folder.parent}/small.yaml", tmp_path / "set", tmp_path / "prep") == 1
    reasons = record(tmp_path / "prep/rejected.json")["images"]
    assert set(reasons) == {"0.tar/b.jpg", "0.tar/c.jpg", "0.tar/u.jpg"}
    assert reasons["0.tar/b.jpg"] == "empty file" and "no label" in reasons["0.tar/u.jpg"]


def test_an_invalid_tar_is_reported_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = in_tars(folder, tmp_path / "set", [NAMES])
    with open(dataset / "val-0.tar", "r+b") as file:
        file.truncate(9000)
    assert prepare(f"{folder.parent}/small.yaml", dataset, tmp_path / "prep") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "truncated" in err and "val-0.tar" in err


def test_the_other_stages_open_the_same_images(folder: Path, tmp_path: Path) -> None:
    dataset = in_tars(folder, tmp_path / "set", [NAMES[:3], NAMES[3:]])
    config = load_config(folder.parent / "small.yaml")
    validation, files = read_images(dataset, config, training=False), read_images(folder, config, training=False)
    for number, name in enumerate(NAMES):
        source = f"val-{int(number > 2)}.tar/{name}"
        with Image.open(folder / "val" / name) as image:
            assert np.array_equal(np.asarray(open_image(find_source(dataset, source))), np.asarray(image))
        pixels, label = validation.read(0, number)
        others, expected_label = files.read(0, number)
        assert bool((pixels == others).all()) and label == expected_label
