"""postprocess/join.py: the joined keypoints of chunks equal those of all images to the byte."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.runs import DecodeRecord
from postprocess import decode
from postprocess.join import main
from tests.postprocess.pose_runs import OTHER, PoseRun, spread, write_runs

IMAGES = 12  # and as many parts: 10.json comes after 9.json


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> PoseRun:
    run = PoseRun(tmp_path_factory.mktemp("whole"), spread(IMAGES, 1)).infer()
    assert decode.main(run.decode_arguments()) == 0
    return run


@pytest.fixture
def parts(undivided: PoseRun, tmp_path: Path) -> Path:
    """Each image decoded alone, as infer.chunks does."""
    whole, folder = Manifest.read(undivided.manifest), make_folder(tmp_path / "parts")
    for number, image in enumerate(whole.images):
        prep, out = make_folder(tmp_path / f"in{number}"), tmp_path / f"out{number}"
        dataclasses.replace(whole, images=[image]).write(prep / "manifest.json")
        write_runs(prep / "manifest.json", undivided.annotations, out, tmp_path / f"flip{number}")
        dump = ["--dump_dir", str(out), "--dump_dir_flip", str(tmp_path / f"flip{number}")]
        named = ["--cfg", str(undivided.cfg), "--manifest", str(prep / "manifest.json"), "--workers", "1"]
        assert decode.main([*named, *dump, "--output", str(folder / f"{number}.json")]) == 0
    return folder


def call(run: PoseRun, parts: Path) -> tuple[int, Path]:
    output = parts.parent / "joined/keypoints.json"
    return main(["--manifest", str(run.manifest), "--parts", str(parts), "--output", str(output)]), output


def test_chunks_give_the_undivided_result(undivided: PoseRun, parts: Path) -> None:
    each = [DecodeRecord.read(parts / f"{number}.json") for number in range(IMAGES)]
    code, output = call(undivided, parts)
    assert code == 0
    assert output.read_bytes() == undivided.keypoints.read_bytes()
    assert parts.exists(), "a killed join can be repeated"
    record, expected = DecodeRecord.read(output), DecodeRecord.read(undivided.keypoints)
    same = ("manifest_sha256", "model_sha256", "keypoints_sha256", "metadata", "tool", "flip", "images", "people")
    assert [getattr(record, name) for name in same] == [getattr(expected, name) for name in same]
    assert record.inferred == IMAGES
    assert record.seconds == pytest.approx(
        {step: sum(part.seconds[step] for part in each) for step in expected.seconds}
    )


def remove_chunk(parts: Path) -> None:
    (parts / "3.json").unlink()
    (parts / "3.decode.json").unlink()


def change_record(parts: Path, **changes: Any) -> None:
    dataclasses.replace(DecodeRecord.read(parts / "3.json"), **changes).write(parts / "3.json")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing chunk": (remove_chunk, f"expected {IMAGES}, found {IMAGES - 1}"),
    "two models": (lambda parts: change_record(parts, model_sha256=OTHER), "rm -r"),
    "with and without flip": (lambda parts: change_record(parts, flip=False), "rm -r"),
    "other keypoints": (lambda parts: (parts / "3.json").write_text("[]"), "3.decode.json"),
    "no chunks": (lambda parts: [path.unlink() for path in parts.iterdir()], f"expected {IMAGES}, found 0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_chunks_that_do_not_match(
    damage: str, undivided: PoseRun, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, part = DAMAGES[damage]
    change(parts)
    code, output = call(undivided, parts)
    assert code == 2 and not output.exists() and parts.exists()
    line = capsys.readouterr().err
    assert line.startswith(f"postprocess.join: error: {parts}") and part in line
