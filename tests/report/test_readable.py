"""report.write: names of classes from directories, Top-N, singular after 1, and charts in the dark theme."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hrnet.io.files import sha256_file
from make import charts
from report.accuracy import class_figures
from report.page import TEMPLATES
from tests.report.runs import CLASSES, IMAGES, Built
from tests.support.html_pages import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

BREEDS = ["beagle", "<b>boxer", "collie", "husky", "poodle", "terrier"]


def in_folders(built: Built, names: list[str]) -> Page:
    """The page of a run over a data set in class directories, whose config has no names."""
    built.cfg.write_text(f"MODEL: {{NUM_CLASSES: {CLASSES}}}\n")
    path = built.metrics.with_suffix("") / "predictions.jsonl"
    lines = [
        {**each, "source": f"val/{names[each['label']]}/{number}.jpg"} for number, each in enumerate(built.predictions)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    evaluated = json.loads(built.metrics.read_text())["evaluated"]
    built.change(evaluated={**evaluated, "predictions_sha256": sha256_file(path)})
    return built.write()


def test_classes_are_called_as_their_directories(tmp_path: Path) -> None:
    page = in_folders(Built(tmp_path), BREEDS)
    page.check_safe()
    names = {each["name"] for each in page.json["page"]["classes"]["worst"]}
    assert names and names <= {f"{index} {name}" for index, name in enumerate(BREEDS)}


def test_directories_named_by_indices_are_no_names(tmp_path: Path) -> None:
    page = in_folders(Built(tmp_path), [str(index) for index in range(CLASSES)])
    assert {each["name"] for each in page.json["page"]["classes"]["worst"]} <= {f"class {n}" for n in range(CLASSES)}


@pytest.mark.parametrize(("classes", "last"), [(1, 1), (2, 1), (3, 2), (5, 4), (6, 5), (1000, 5)])
def test_top_n_is_left_out_if_n_is_the_number_of_classes(classes: int, last: int) -> None:
    assert class_figures({"classes": classes}) == tuple(f"top{n}" for n in range(1, last + 1))


def test_images_that_were_left_out_are_counted(tmp_path: Path) -> None:
    built = Built(tmp_path)
    record = json.loads(built.metrics.read_text())
    built.change(available=IMAGES + 3, counts={**record["counts"], "rejected": 2})
    page = built.write()
    page.check_numbers()
    assert f"; 1 of {IMAGES + 3} listed images left out" in page.text
    assert f"Only {IMAGES} of {IMAGES + 3} listed images were evaluated" in page.text


def test_hashes_are_labelled_and_one_image_is_singular(tmp_path: Path) -> None:
    built = Built(tmp_path, images=1)
    page = built.write()
    page.check_numbers()
    assert "on 1 image " in page.text and "1 image;" in page.text and "1 images" not in page.text
    assert re.search("SHA-256 of its MODEL and INPUT without CLASS_NAMES: [0-9a-f]{64}", page.text)


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [({"precision": "int8"}, "int8"), ({"torchscript.precision": "fp16"}, "fp16"), ({}, "emulator-bs1")],
)
def test_the_precision_is_that_of_the_model(metadata: dict[str, str], shown: str, tmp_path: Path) -> None:
    """The last record has no such metadata, like older records. Its name, emulator-bs1, contains no precision, so the
    page shows the whole name."""
    built = Built(tmp_path)
    built.change(model=metadata)
    assert f" precision {shown} tools " in built.write().text


@pytest.mark.parametrize(
    ("tool", "shown"),
    [
        ("torch_aie 6.3 on Ascend310P3", "Ascend310P3"),
        ("ais_bench 0.0.2", "an NPU; no record names the chip"),
        ("onnxruntime 1.18", "none: onnxruntime 1.18 computed the outputs"),
    ],
)
def test_the_chip_is_that_of_the_records(tool: str, shown: str, tmp_path: Path) -> None:
    built = Built(tmp_path)
    built.change(tool=tool)
    assert f" chip {shown} precision " in built.write().text


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_charts_have_contrast_on_dark_paper() -> None:
    """At least 4.5 to 1 (https://www.w3.org/TR/WCAG21/#contrast-minimum asks this of text)."""
    style = (TEMPLATES / "style.css").read_text()
    dark = style[style.index("prefers-color-scheme: dark") :].partition("} }")[0]
    values = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", dark))
    for number in range(len(charts.COLOURS)):
        contrast = (luminance(values[f"chart{number}"]) + 0.05) / (luminance(values["paper"]) + 0.05)
        assert contrast >= 4.5, number
    drawn = charts.intervals([charts.Interval("a", 1.0, 0.5, 1.5)], "%")
    assert f"var(--chart0, {charts.COLOURS[0]})" in drawn
