"""data/gears.py: the gears have the lowest cost, and the file that is written."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import gears
from hrnet.gears import choose, read_gears, whole_size
from tests.support import coco_sets

CONFIG = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 64}\n"
CONFIG += coco_sets.DECODING


def by_trying(sizes: list[tuple[int, int]], count: int, longest: int) -> int:
    """Pixels of the cheapest `count` gears, by trying all sets in which each image fits into a gear. Of an image that
    is longer than `longest`, only `longest` pixels must fit."""
    sides = range(64, longest + 1, 64)
    offered = sorted({*((64, side) for side in sides), *((side, 64) for side in sides)})
    needs = [min(longest, max(whole_size(*size, 64))) for size in sizes]
    costs = []
    for chosen in itertools.combinations(offered, count):
        given_gears = [choose(*size, 64, chosen) for size in sizes]
        if all(gear is not None and max(gear) >= need for gear, need in zip(given_gears, needs)):
            costs.append(gears.waste(sizes, 64, chosen).pixels)
    return min(costs)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(60, 400), st.integers(60, 400)), min_size=1, max_size=8))
def test_no_other_gears_cost_less(sizes: list[tuple[int, int]]) -> None:
    best = gears.cheapest_gears(sizes, 64, 256)
    for count, chosen in best.items():
        assert len(chosen) == len(set(chosen)) == count
        if count <= 4:
            assert gears.waste(sizes, 64, chosen).pixels == by_trying(sizes, count, 256)
    costs = [gears.waste(sizes, 64, chosen).pixels for chosen in best.values()]
    assert costs == sorted(costs, reverse=True)


def test_the_square_is_shared() -> None:
    """1000 x 1001 pixels are portrait, but fit the square gear."""
    assert gears.cheapest_gears([(500, 500), (1000, 1001)], 512, 1024)[1] == [(512, 512)]
    assert gears.cheapest_gears([(500, 500), (1000, 1001), (640, 480)], 512, 1024)[2] == [(512, 512), (512, 704)]


def test_the_model_zoos_gears_are_found() -> None:
    found = gears.model_zoo_gears(512)
    assert len(found) == 17
    assert {(512, 512), (512, 1024), (1024, 512), (960, 512)} < set(found)
    assert len(gears.model_zoo_gears(640)) == 21


def test_waste_counts_padding_and_cropped_images() -> None:
    found = gears.waste([(128, 64), (96, 64), (640, 64), (64, 80)], 64, [(64, 128), (64, 64), (128, 64)])
    assert found.pixels == 4 * 128 * 64
    assert found.border == pytest.approx(1 - (128 + 96 + 128 + 80) / (4 * 128))
    assert found.cropped == 1
    assert found.images == {(64, 128): 3, (128, 64): 1}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "set/annotations").mkdir(parents=True)
    sizes = [(128, 64)] * 6 + [(96, 64)] * 3 + [(64, 120)] * 2 + [(400, 64)]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": w, "height": h} for i, (w, h) in enumerate(sizes)]
    nobody: dict[str, Any] = {"annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "set/annotations/person_keypoints_val2017.json").write_text(json.dumps({"images": images, **nobody}))
    (tmp_path / "pose.yaml").write_text(CONFIG)
    return tmp_path / "set"


def call(dataset: Path, *options: str) -> int:
    return gears.main(["--cfg", str(dataset.parent / "pose.yaml"), "--dataset", str(dataset), *options])


def test_the_report_and_the_file(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = dataset.parent / "deep/gears.yaml"
    assert call(dataset, "--gears", "2", "--longest", "3", "--output", str(output)) == 0
    assert output.read_text() == (
        "# height and width, the cheapest 2 for set (data.gears)\nGEARS: [[64, 192], [128, 64]]\n"
    )
    assert read_gears(output, 64) == [(64, 192), (128, 64)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines[2:4]] == [["best", "2", "141.7%"], ["best", "3", "104.2%"]]
    assert lines[4][-3:] == ["height", "x", "width:"]
    assert lines[5:7] == [["64", "x", "192", "10", "images"], ["128", "x", "64", "2", "images"]]


def test_fewer_gears_than_requested_are_reported(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(dataset) == 0
    assert "2 gears instead of 4: more would not reduce the cost" in capsys.readouterr().out


@pytest.mark.parametrize("options", [("--gears", "257"), ("--gears", "1"), ("--longest", "0.5"), ("--longest", "nan")])
def test_invalid_options_are_rejected(options: tuple[str, str], dataset: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        call(dataset, *options)
    assert caught.value.code == 2
