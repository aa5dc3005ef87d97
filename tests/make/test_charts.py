"""make/charts.py: labels that do not overlap, and the same bytes for the same points."""

from __future__ import annotations

import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.cli import UserError
from make import charts
from make.charts import Box, Point, Series, place_labels

BOUNDS = Box(0, 0, 500, 350)
POINTS = st.lists(st.tuples(st.integers(10, 490), st.integers(10, 340)), min_size=1, max_size=12, unique=True)


def placed(anchors: list[tuple[int, int]], width: float = 40.0, lines: tuple[Box, ...] = ()) -> list[Box]:
    markers = [Box(x, y, x, y).grow(charts.MARKER / 2) for x, y in anchors]
    boxes = place_labels(anchors, [(width, 10.0)] * len(anchors), markers, lines, BOUNDS)
    for number, box in enumerate(boxes):
        others = boxes[:number] + boxes[number + 1 :]
        assert not any(box.overlap(other) for other in (*others, *markers, *lines))
        assert box.x0 >= BOUNDS.x0 and box.y0 >= BOUNDS.y0 and box.x1 <= BOUNDS.x1 and box.y1 <= BOUNDS.y1
        assert (box.x1 - box.x0, box.y1 - box.y0) == pytest.approx((width, 10.0))
    return boxes


@settings(max_examples=50)
@given(POINTS)
def test_labels_overlap_neither_each_other_nor_a_point(anchors: list[tuple[int, int]]) -> None:
    placed(anchors)


def test_a_label_is_beside_its_point_where_there_is_room() -> None:
    (box,) = placed([(100, 100)])
    assert 0 < box.x0 - 100 < 2 * charts.MARKER and (box.y0 + box.y1) / 2 == 100
    (box,) = placed([(490, 100)])
    assert box.x1 < 490, "at the right end: on the left side"


def test_a_label_is_not_beside_another_point() -> None:
    """A reader could not tell to which of two points a label between them belongs."""
    _, middle, _ = placed([(55, 100), (100, 100), (145, 100)], width=30)
    assert (middle.x0 + middle.x1) / 2 == 100


def test_a_label_does_not_overlap_lines() -> None:
    line = tuple(charts.steps((100, 100), (300, 100)))
    assert math.dist((line[0].x0, line[-1].x1), (99, 301)) < 1e-9
    (box,) = placed([(100, 100)], lines=line)
    assert box.x1 < 100 or box.y0 > 100 or box.y1 < 100


def test_a_label_is_placed_even_without_free_space() -> None:
    boxes = place_labels([(250, 175)], [(40, 10)], [Box(0, 0, 500, 350)], [], BOUNDS)
    assert boxes[0].x1 - boxes[0].x0 == 40


def test_files_of_equal_points_are_equal(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    series = [
        Series("batch 1", [Point("W18", 40, 76.8, False), Point("W30", 70, 78.2)]),
        Series("batch 4", [Point("W18", 130, 76.8, False), Point("W30", 260, 78.2)]),
    ]
    for name in ("a", "b"):
        charts.draw(tmp_path / name, "title", "ms", series, log=True)
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        first, second = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("a", "b"))
        assert first == second and first.startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(UserError) as caught:
        charts.check_installed()
    assert "matplotlib" in str(caught.value) and 'pip install ".[report]"' in (caught.value.hint or "")


def drawn() -> list[str]:
    """One chart of each kind for a page; its names contain characters with a meaning in XML and TeX."""
    pytest.importorskip("matplotlib")
    curves = [charts.Curve("<b> & $x$", [1, 4], [5.0, 7.0]), charts.Curve("published", [1, 4], [9.0, 9.5], grey=True)]
    return [
        charts.curves(curves, "batch", "images/s", ticks=[1, 4], log=True),
        charts.bars(["<b> & $x$", "b"], [0.5, 0.25], "similarity"),
        charts.stacked([("<b> & $x$", 1.0), ("infer", 3.0)], "ms"),
        charts.intervals([charts.Interval("<b> & $x$", 76.0, 75.0, 77.0)], "Top-1, %", limit=75.8),
        charts.scatter("ms", [Series("", [Point("<b> & $x$", 0.0, 76.0, False), Point("b", 4.0, 78.0)])]),
    ]


def test_charts_for_pages_are_elements_with_text() -> None:
    for chart in drawn():
        element = ET.fromstring(chart)
        texts = ["".join(each.itertext()) for each in element.iter() if each.tag.endswith("}text")]
        assert any("<b> & $x$" in text for text in texts), "text is text, not paths"
        assert "width" not in element.attrib and "currentColor" in chart and charts.INK not in chart
        assert "#ffffff" not in chart, "transparent"
        assert "metadata" not in chart and "<style" not in chart


def test_ids_in_charts_are_unique_and_reproducible() -> None:
    first, again = drawn(), drawn()
    assert first == again
    ids = [name for chart in first for name in re.findall(r' id="([^"]*)"', chart)]
    used = [name for chart in first for name in re.findall(r'(?:url\(|href=")#([^")]*)', chart)]
    assert len(set(ids)) == len(ids) and set(used) <= set(ids)


def test_markers_at_the_border_are_not_clipped() -> None:
    """The highest point of a chart with one batch size is nearly at the top."""
    pytest.importorskip("matplotlib")
    lines = [charts.Curve("device alone", [8], [120.0]), charts.Curve("files to files", [8], [100.0])]
    assert "<g clip-path" not in charts.curves(lines, "batch", "images/s", ticks=[8])
