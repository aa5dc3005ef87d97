"""hrnet/gears.py: which gear is chosen for an image, and which gears files are rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet import gears
from tests.support.invalid_records import check_invalid

ZOO_LONGS = (512, 576, 640, 704, 768, 832, 896, 960, 1024)
ZOO = [*((512, long) for long in ZOO_LONGS), *((long, 512) for long in ZOO_LONGS[1:])]


def zoo_choice(width: int, height: int) -> tuple[int, int]:
    """The model zoo's choice: a binary search for the next long side; the last one for longer images."""
    long = int((512 / min(width, height) * max(width, height) + 63) // 64 * 64)
    chosen = next((value for value in ZOO_LONGS if value >= long), ZOO_LONGS[-1])
    return (chosen, 512) if width < height else (512, chosen)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_gears_are_chosen_as_by_the_model_zoo(width: int, height: int) -> None:
    assert gears.choose(width, height, 512, ZOO) == zoo_choice(width, height)


@pytest.mark.parametrize(
    ("size", "offered", "chosen"),
    [
        ((640, 480), [(512, 512), (512, 1024)], (512, 1024)),  # the image needs 704: 512 is nearer, but would crop it
        ((640, 480), [(512, 1024), (512, 704)], (512, 704)),  # in any order
        ((640, 480), [(512, 512)], (512, 512)),
        ((480, 640), [(512, 512), (512, 704)], (512, 512)),
        ((480, 640), [(512, 640), (512, 704)], None),
        ((640, 480), [(704, 512)], None),
        ((500, 500), [(704, 512), (512, 640)], (512, 640)),
        ((640, 480), [], (512, 704)),
        ((480, 640), [], (704, 512)),
        ((5120, 512), [], (512, 5120)),
        ((512, 513), [], (576, 512)),
        ((1000, 1001), [], (512, 512)),  # 512.512, cut to an integer as upstream does
    ],
)
def test_the_shortest_gear_that_holds_the_image_is_chosen(
    size: tuple[int, int], offered: list[tuple[int, int]], chosen: object
) -> None:
    assert gears.choose(*size, 512, offered) == chosen


def test_gears_are_read_as_written(tmp_path: Path) -> None:
    gears.write_gears(tmp_path / "g.yaml", [(512, 512), (768, 512)], "for a test")
    assert (tmp_path / "g.yaml").read_text() == "# for a test\nGEARS: [[512, 512], [768, 512]]\n"
    assert gears.read_gears(tmp_path / "g.yaml", 512) == [(512, 512), (768, 512)]


def read(path: Path) -> list[gears.Gear]:
    return gears.read_gears(path, 512)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("GEARS: []", "[]"),
        ("GEARS: 512x512", "'512x512'"),
        ("GEAR: [[512, 512]]", "None"),
        ("[[512, 512]]", "None"),
        ("GEARS: [[512, 512], [512]]", "[512]"),
        ("GEARS: [[512, 512], 512]", "512"),
        ("GEARS: [[512, 520]]", "[512, 520]"),
        ("GEARS: [[512, 448]]", "[512, 448]"),
        ("GEARS: [[640, 640]]", "[640, 640]"),
        ("GEARS: [[512, 512.0]]", "[512, 512.0]"),
        ("GEARS: [[512, true]]", "[512, True]"),
        ("GEARS: [[512, 640], [512, 512], [512, 640]]", "[512, 640]"),
    ],
)
def test_invalid_gears_are_rejected(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text)
    error = check_invalid(read, path, "GEARS")
    assert (error.what, str(error.found)) == ("invalid GEARS", found)


def test_missing_and_invalid_gears_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    check_invalid(read, path, "run make gears")
    path.write_text("GEARS: [")
    check_invalid(read, path, "not YAML")
