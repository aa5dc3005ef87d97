"""postprocess/join.py: the keypoints of chunks are, put together, those of all images to the byte."""

from __future__ import annotations

import dataclasses
from pathlib import Path

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
    """Each image decoded alone, as infer.chunks has it done."""
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


def test_chunks_give_the_undivided_result(undivided: PoseRun, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    each = [DecodeRecord.read(parts / f"{number}.json") for number in range(IMAGES)]
    capsys.readouterr()
    code, output = call(undivided, parts)
    assert code == 0
    assert output.read_bytes() == undivided.keypoints.read_bytes()
    assert parts.exists(), "a join that was killed is done again"
    record, expected = DecodeRecord.read(output), DecodeRecord.read(undivided.keypoints)
    same = ("manifest_sha256", "model_sha256", "keypoints_sha256", "metadata", "tool", "flip", "images", "people")
    assert [getattr(record, name) for name in same] == [getattr(expected, name) for name in same]
    assert record.inferred == IMAGES
    assert record.seconds == pytest.approx(
        {step: sum(part.seconds[step] for part in each) for step in expected.seconds}
    )
    told = f"found {expected.people} people on {IMAGES} images in {IMAGES} chunks, {output}\n"
    assert capsys.readouterr().out == told


def test_a_missing_chunk(undivided: PoseRun, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "3.json").unlink()
    (parts / "3.decode.json").unlink()
    capsys.readouterr()
    code, output = call(undivided, parts)
    assert code == 2 and not output.exists() and parts.exists()
    assert capsys.readouterr().err == (
        f"postprocess.join: error: {parts}: images of all chunks (expected {IMAGES}, found {IMAGES - 1}); "
        f"rm -r {parts}; make eval\n"
    )


@pytest.mark.parametrize("change", [{"model_sha256": OTHER}, {"flip": False}])
def test_chunks_of_two_models(
    undivided: PoseRun, parts: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    dataclasses.replace(DecodeRecord.read(parts / "3.json"), **change).write(parts / "3.json")  # type: ignore[arg-type]
    capsys.readouterr()
    code, output = call(undivided, parts)
    assert code == 2 and not output.exists() and parts.exists()
    line = f"postprocess.join: error: {parts}: chunks of several models; rm -r {parts}; make eval\n"
    assert capsys.readouterr().err == line


def test_a_chunk_whose_keypoints_were_changed(
    undivided: PoseRun, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / "3.json").write_text("[]")
    code, output = call(undivided, parts)
    assert code == 2 and not output.exists() and parts.exists()
    assert "3.decode.json: speaks of other keypoints" in capsys.readouterr().err


def test_no_chunk_at_all(undivided: PoseRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = call(undivided, make_folder(tmp_path / "parts"))
    assert code == 2
    assert f"images of all chunks (expected {IMAGES}, found 0)" in capsys.readouterr().err
