"""benchmarks/index.py: all images of each layout are counted, and the table has the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import index
from hrnet.datasets import find_images


@pytest.mark.parametrize("name", index.LAYOUTS)
def test_all_images_are_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CLASSES", 7)
    monkeypatch.setattr(index, "TAR_IMAGES", 10)
    monkeypatch.setattr(index, "MOST_LINKS", 9)
    index.LAYOUTS[name](tmp_path, 35)
    dataset = find_images(tmp_path, 7)
    assert sorted(dataset.labels.values()) == sorted(number % 7 for number in range(35))
    assert (dataset.absent, dataset.broken, dataset.unlabelled) == ([], {}, [])


def test_fewer_images_than_classes_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        index.main(["--images", "999"])
    assert "expected an integer of at least 1000" in capsys.readouterr().err


def test_the_table_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert index.main(["--images", "1000", "--layouts", "class directories"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["images", "s", "CPU"]
    figures = line.replace("class directories", "").replace(",", "").split()
    assert figures[0] == "1000" and len(figures) == 6 and all(float(figure) >= 0 for figure in figures)
