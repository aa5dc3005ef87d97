"""Preprocessing that was interrupted or is run again: finished files are kept, and nothing is computed twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet.io import stamp
from hrnet.io.files import temporary_name
from preprocess import folder as prep_folder
from preprocess.classification import main
from tests.support.examples import examples
from tests.support.image_sets import contents, listed, noise, prepare, record, write_config

STATES = ("whole", "half", "long", "empty", "missing", "temporary")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a data set of eight images, one of them broken, and the output of a finished run."""
    folder = tmp_path_factory.mktemp("resume")
    listed(folder, {f"img{i}.JPEG": i for i in range(8)})
    (folder / "val/img3.JPEG").write_bytes(b"no image")
    assert prepare(write_config(folder), folder, folder / "prep", "--max_rejected", "1") == 0
    return folder


@pytest.fixture
def twice(cfg: str, tmp_path: Path, output: Path) -> Path:
    """A data set of two images, and the output of a finished run on them, whose files are old."""
    listed(tmp_path, {"a.JPEG": 0, "b.JPEG": 1})
    assert prepare(cfg, tmp_path, output) == 0
    for path in output.iterdir():
        os.utime(path, ns=(0, 0))
    return tmp_path


def test_a_second_run_only_touches_the_manifest(
    cfg: str, twice: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(output)
    monkeypatch.setattr(prep_folder, "map_files", None)
    assert prepare(cfg, twice, output, "--workers", "2") == 0
    assert contents(output) == before
    assert {path.name for path in output.iterdir() if path.stat().st_mtime_ns > 0} == {"manifest.json"}


def test_other_code_keeps_the_inputs(cfg: str, twice: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All inputs are computed again only if the code of the pixel arithmetic has changed."""
    before = contents(output)
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: "0")
    assert prepare(cfg, twice, output) == 0
    assert contents(output) == before
    kept = {path.name for path in output.iterdir() if path.stat().st_mtime_ns == 0}
    assert kept == {"a.bin", "b.bin", "settings.json"}
    monkeypatch.setattr(prep_folder, "map_files", None)
    assert prepare(cfg, twice, output) == 0


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a missing input": lambda folder: (folder / "b.bin").unlink(),
    "half an input": lambda folder: (folder / "b.bin").write_bytes(b"half"),
    "a foreign file": lambda folder: (folder / "c.bin").write_bytes(b"more"),
    "a changed manifest": lambda folder: (folder / "manifest.json").write_text("{}"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no info file": lambda folder: (folder / "inputs.info").unlink(),
    "no stamp": lambda folder: stamp.stamp_path(folder).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_directory_is_repaired(damage: str, cfg: str, twice: Path, output: Path) -> None:
    before = contents(output)
    DAMAGES[damage](output)
    assert prepare(cfg, twice, output) == 0
    assert contents(output) == before
    assert (output / "a.bin").stat().st_mtime_ns == 0


def test_fewer_allowed_rejections_make_a_finished_run_fail(cfg: str, twice: Path, output: Path) -> None:
    (twice / "val/b.JPEG").write_bytes(b"")
    assert prepare(cfg, twice, output, "--max_rejected", "1") == 0
    assert prepare(cfg, twice, output, "--max_rejected", "2") == 0
    assert prepare(cfg, twice, output) == 1
    assert not (output / "manifest.json").exists()


def in_this_process(work: Callable[[object], object], tasks: list[object], workers: int) -> list[object]:
    return list(map(work, tasks))


@settings(max_examples=examples(40), deadline=None)
@given(states=st.lists(st.sampled_from(STATES), min_size=8, max_size=8), records=st.booleans())
def test_any_finished_files_are_kept_and_only_the_rest_is_prepared(
    finished: Path, states: list[str], records: bool
) -> None:
    before = contents(finished / "prep")
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(prep_folder, "map_files", in_this_process)
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
        assert prepare(str(finished / "small.yaml"), finished, prep, "--max_rejected", "1") == 0
        after = {name: data.replace(root.encode(), str(finished).encode()) for name, data in contents(prep).items()}
        assert after == before
        kept = {path.name for path in prep.glob("*.bin") if path.stat().st_mtime_ns == 0}
        assert kept == {f"img{i}.bin" for i, state in enumerate(states) if state == "whole" and i != 3}


def test_an_image_that_cannot_be_resized_is_rejected(cfg: str, tmp_path: Path, output: Path) -> None:
    """An image of 1 x 200,000 pixels would need gigabytes at a short side of 40."""
    listed(tmp_path, {"a.JPEG": 0, "hair.png": 1, "lath.png": 2})
    Image.new("L", (1, 200_000)).save(tmp_path / "val/hair.png")
    Image.new("L", (2000, 2)).save(tmp_path / "val/lath.png")
    assert prepare(cfg, tmp_path, output) == 1
    assert list(record(output / "rejected.json")["images"]) == ["val/hair.png"]
    assert sorted(path.name for path in output.glob("*.bin")) == ["a.bin", "lath.bin"]


def test_more_images_than_a_folder_may_hold_are_rejected(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prep_folder, "MAX_IMAGES", 2)
    listed(tmp_path, {f"{name}.JPEG": 1 for name in "abc"})
    assert prepare(cfg, tmp_path, output) == 2
    assert "LIMIT=2" in capsys.readouterr().err
    assert not output.exists() and not Path(f"{output}_lock").exists()
    assert prepare(cfg, tmp_path, output, "--limit", "2") == 0
    assert len(os.listdir(output)) == 2 + 4


def test_as_many_images_as_a_folder_may_hold_are_accepted() -> None:
    assert prep_folder.MAX_IMAGES == 100_000 - len({"settings.json", "inputs.info", "rejected.json", "manifest.json"})


@pytest.mark.slow
def test_too_many_images_are_rejected_before_the_work(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """100,001 images are rejected before any is read. Neither files without a label, which are rejected one by one, nor
    foreign files in the output directory count for this limit."""
    listed(tmp_path, {"img0.JPEG": 1})
    for i in range(1, 100_001):
        source = tmp_path / f"source{i // 50_000}.JPEG"  # a file has 65,000 links at most
        if not source.exists():
            noise(50, 60, i).save(source)
        os.link(source, tmp_path / f"val/img{i}.JPEG")
    labels = tmp_path / "val_label.txt"
    labels.write_text("".join(f"img{i}.JPEG 1\n" for i in range(100_001)))
    assert prepare(cfg, tmp_path, output) == 2
    assert "LIMIT=99996" in capsys.readouterr().err
    assert not output.exists()
    labels.write_text("img0.JPEG 1\n")
    assert prepare(cfg, tmp_path, output) == 1
    assert "100000 of 100001 files rejected" in capsys.readouterr().err
    for i in range(100_000):
        (output / f"img{i}_0.bin").touch()
    assert main([cfg, str(tmp_path), str(output), "--max_rejected", "100000"]) == 0
    names = ["img0.bin", "inputs.info", "manifest.json", "rejected.json", "settings.json"]
    assert sorted(os.listdir(output)) == names
