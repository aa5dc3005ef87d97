"""postprocess/show.py: the five classes, the frame's colour, the sheet's size, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from postprocess import show
from tests.postprocess.runs import Run

LOGITS = np.array([[0, 5, 1, 2, 3, 4], [9, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 7]], dtype=np.float32)
RIGHT, WRONG = ImageColor.getrgb(show.RIGHT), ImageColor.getrgb(show.WRONG)


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    """Three images of one grey each: hit, wrong, hit."""
    finished = Run(tmp_path, LOGITS, [1, 3, 5], classes=6)
    (tmp_path / "val").mkdir()
    for number in range(3):
        Image.new("L", (30, 20), 50 * number).save(tmp_path / f"val/img{number}.JPEG")
    return finished


def call(finished: Run, *more: str) -> int:
    named = ["--manifest", str(finished.manifest), "--run", str(finished.record), "--dataset", str(finished.root)]
    return show.main([*named, "--output", str(finished.root / "eval/show.png"), *more])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("postprocess.show: error: ").rstrip("\n")


def test_guesses_are_the_softmax_in_order() -> None:
    best = show.guesses(LOGITS[0], 0)
    assert [guess.label for guess in best] == [1, 5, 4, 3, 2]
    powers = np.exp([5, 4, 3, 2, 1])
    np.testing.assert_allclose([guess.probability for guess in best], powers / (powers.sum() + 1), rtol=1e-12)
    assert [guess.label for guess in show.guesses(LOGITS[1], 0)] == [0, 1, 2, 3, 4], "among equals the lower index"
    assert [guess.label for guess in show.guesses(LOGITS[0], 1)] == [0, 4, 3, 2, 1], "behind a background class"
    assert show.guesses(np.array([1e30, -1e30], dtype=np.float32), 0) == [(0, 1.0), (1, 0.0)], "no overflow"


def test_the_sheet(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(finished) == 0
    path = finished.root / "eval/show.png"
    assert capsys.readouterr().out == f"wrote {path}: the first 3 of 3 images, Top-1 wrong on 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with Image.open(path) as sheet:
        assert sheet.format == "PNG" and sheet.mode == "RGB"
        width, height = show.TILE
        assert sheet.size == (3 * (width + show.BORDER) + show.BORDER, height + 2 * show.BORDER)
        for number, frame in enumerate((RIGHT, WRONG, RIGHT)):
            left = show.BORDER + number * (width + show.BORDER)
            assert sheet.getpixel((left, show.BORDER)) == frame
            centre = sheet.getpixel((left + width // 2, show.BORDER + width // 2))
            assert centre == (50 * number,) * 3, "the photograph stands in the manifest's order"
            assert sheet.getpixel((left + width // 2, 2 * show.BORDER)) == (255,) * 3, "padded, not stretched"


def test_rows_and_count(finished: Run) -> None:
    tiles = [Image.new("RGB", show.TILE) for _ in range(show.COLUMNS + 1)]
    width, height = show.TILE
    expected = (show.COLUMNS * (width + show.BORDER) + show.BORDER, 2 * (height + show.BORDER) + show.BORDER)
    assert show.draw_sheet(tiles, show.COLUMNS).size == expected
    assert call(finished, "--count", "1") == 0
    with Image.open(finished.root / "eval/show.png") as sheet:
        assert sheet.size[0] == width + 2 * show.BORDER


def test_a_missing_photograph(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (finished.root / "val/img1.JPEG").unlink()
    assert call(finished) == 2
    assert refusal(capsys) == f"{finished.root}/val/img1.JPEG: no such image; give DATASET=<folder>"
    assert not (finished.root / "eval/show.png").exists()


def test_a_broken_photograph(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (finished.root / "val/img1.JPEG").write_bytes(b"no JPEG")
    assert call(finished) == 2
    assert refusal(capsys).startswith(f"{finished.root}/val/img1.JPEG: cannot be read: cannot identify image file")


def test_a_run_of_other_inputs(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finished.rewrite(manifest_sha256="0" * 64)
    assert call(finished) == 2
    assert refusal(capsys) == (
        f"{finished.record}: run was made from other inputs (expected those of {finished.manifest}); run make infer"
    )


def test_an_image_without_its_output(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finished.rewrite(files={"img0": ["img0_0.bin"]})
    assert call(finished) == 2
    line = f"{finished.record}: not one output of img1; rm {finished.record}; make infer"
    assert refusal(capsys) == line
