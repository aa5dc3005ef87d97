"""Preprocessing that was interrupted or goes too far: any finished files are kept, what cannot be done is told."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet.io.files import temporary_name
from preprocess import classification
from preprocess import folder as prep_folder
from preprocess.classification import main
from tests.preprocess.datasets import contents, listed, noise, record, write_config
from tests.preprocess.test_classification import REASONS, broken, cfg, output, prepare

assert REASONS and broken and cfg and output  # fixtures

STATES = ("whole", "half", "long", "empty", "missing", "temporary")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a data set of eight images, one of them broken, and what a finished run made of it."""
    folder = tmp_path_factory.mktemp("resume")
    listed(folder, {f"img{i}.JPEG": i for i in range(8)})
    (folder / "val/img3.JPEG").write_bytes(b"no image")
    assert prepare(write_config(folder), folder, folder / "prep", "--max-rejected", "1") == 0
    return folder


def here(work: Callable[[object], object], tasks: list[object], workers: int) -> list[object]:
    return list(map(work, tasks))


@settings(max_examples=40, deadline=None)
@given(states=st.lists(st.sampled_from(STATES), min_size=8, max_size=8), records=st.booleans())
def test_any_finished_files_are_kept_and_only_the_rest_is_done(
    finished: Path, states: list[str], records: bool
) -> None:
    before = contents(finished / "prep")
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "map_files", here)
        prep = Path(root, "prep")
        prep.mkdir()
        for name, data in before.items():
            if name == "settings.json" or (records and not name.endswith(".bin")):
                (prep / name).write_bytes(data.replace(str(finished).encode(), root.encode()))
        for i, state in enumerate(states):
            path, data = prep / f"img{i}.bin", before.get(f"img{i}.bin", b"")
            if state == "temporary":
                temporary_name(path).write_bytes(data)
            elif state != "missing":
                path.write_bytes({"whole": data, "half": data[:-4], "long": data + bytes(4), "empty": b""}[state])
                os.utime(path, ns=(0, 0))
        assert prepare(str(finished / "small.yaml"), finished, prep, "--max-rejected", "1") == 0
        after = {name: data.replace(root.encode(), str(finished).encode()) for name, data in contents(prep).items()}
        assert after == before
        kept = {path.name for path in prep.glob("*.bin") if path.stat().st_mtime_ns == 0}
        assert kept == {f"img{i}.bin" for i, state in enumerate(states) if state == "whole" and i != 3}


def test_an_image_that_cannot_be_resized_is_rejected(cfg: str, tmp_path: Path, output: Path) -> None:
    """A hair of 1 x 200,000 pixels would need gigabytes at a short side of 40."""
    listed(tmp_path, {"a.JPEG": 0, "hair.png": 1, "lath.png": 2})
    Image.new("L", (1, 200_000)).save(tmp_path / "val/hair.png")
    Image.new("L", (2000, 2)).save(tmp_path / "val/lath.png")
    assert prepare(cfg, tmp_path, output) == 1
    told = "1 x 200000 pixels would be resized to 40 x 8000000, more than 178956970 pixels"
    assert record(output / "rejected.json")["images"] == {"val/hair.png": f"too long and thin: {told}"}
    assert sorted(path.name for path in output.glob("*.bin")) == ["a.bin", "lath.bin"]


def test_more_images_than_a_folder_may_hold(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prep_folder, "MAX_IMAGES", 2)
    listed(tmp_path, {f"{name}.JPEG": 1 for name in "abc"})
    assert prepare(cfg, tmp_path, output) == 2
    assert capsys.readouterr().err == (
        f"preprocess.classification: error: {tmp_path}: more images than ais_bench takes inputs from one folder (expected at "
        "most 2, found 3); give LIMIT=2, or share the images out among several data sets\n"
    )
    assert not output.exists() and not Path(f"{output}_lock").exists()
    assert prepare(cfg, tmp_path, output, "--limit", "2") == 0
    assert len(os.listdir(output)) == 2 + 4


def test_the_most_images_fill_a_folder() -> None:
    assert prep_folder.MAX_IMAGES == 100_000 - len({"settings.json", "inputs.info", "rejected.json", "manifest.json"})


@pytest.mark.slow
def test_a_hundred_thousand_files(cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100,001 images are refused before any is read; as many without a label, and as many strangers among the inputs
    of an earlier run, are no obstacle."""
    listed(tmp_path, {"img0.JPEG": 1})
    for i in range(1, 100_001):
        seed = tmp_path / f"seed{i // 50_000}.JPEG"  # a file has 65,000 links at most
        if not seed.exists():
            noise(50, 60, i).save(seed)
        os.link(seed, tmp_path / f"val/img{i}.JPEG")
    labels = tmp_path / "val_label.txt"
    labels.write_text("".join(f"img{i}.JPEG 1\n" for i in range(100_001)))
    assert prepare(cfg, tmp_path, output) == 2
    found = "(expected at most 99996, found 100001); give LIMIT=99996, or share the images out among several data sets"
    assert capsys.readouterr().err.endswith(f"more images than ais_bench takes inputs from one folder {found}\n")
    assert not output.exists()
    labels.write_text("img0.JPEG 1\n")
    assert prepare(cfg, tmp_path, output) == 1
    assert "100000 of 100001 files rejected (val/img1.JPEG: no label in val_label.txt, " in capsys.readouterr().err
    for i in range(100_000):
        (output / f"img{i}_0.bin").touch()
    assert main([cfg, str(tmp_path), str(output), "--max-rejected", "100000"]) == 0
    names = ["img0.bin", "inputs.info", "manifest.json", "rejected.json", "settings.json"]
    assert sorted(os.listdir(output)) == names
