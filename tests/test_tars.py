"""The stages on a data set of tar files: predictions, metrics and sheet are those of the folder of the same images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.files import make_folder
from infer import run as infer
from postprocess import classification, show
from tests.support import linear_model
from tests.support.image_sets import listed, prepare, write_config
from tests.support.linear_model import CLASSES
from tests.support.tar_sets import write_tar

LABELS = {f"digit_{number}.jpg": number % linear_model.CLASSES for number in range(11)}
EQUAL = ("metrics", "interval95", "images", "classes", "counts", "gate", "reference", "drop", "verdict")


def evaluated(dataset: Path, place: Path) -> tuple[list[dict[str, Any]], dict[str, Any], bytes]:
    """Predictions with the names of images instead of their sources, metrics, and the sheet."""
    cfg, output = f"{place.parent}/small.yaml", place / "out/run"
    assert prepare(cfg, dataset, place / "prep") == 0
    make_folder(output.parent)
    assert infer.main(["--model", f"{place.parent}/m.onnx", "--inputs", f"{place}/prep", "--output", f"{output}"]) == 0
    products = ["--manifest", f"{place}/prep/manifest.json", "--run", f"{output}_run.json"]
    assert classification.main(["--cfg", cfg, *products, "--output", f"{place}/eval.json"]) == 0
    predictions = place / "eval/predictions.jsonl"
    sheet = place / "show.png"
    shown = ["--predictions", f"{predictions}", "--dataset", f"{dataset}", "--output", f"{sheet}"]
    assert show.main(["--cfg", cfg, *shown]) == 0
    lines = [line for line in map(json.loads, predictions.read_text().splitlines()) if "source" in line]
    named = [{**line, "source": Path(line["source"]).name} for line in lines]
    metrics = json.loads((place / "eval.json").read_text())
    return named, {key: metrics.get(key) for key in EQUAL}, sheet.read_bytes()


@pytest.mark.usefixtures("emulators_in_process")
def test_tar_files_are_evaluated_as_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, f"MODEL: {{NUM_CLASSES: {CLASSES}, IMAGE_SIZE: [32, 32]}}\nINPUT: {{RESIZE: 40}}\n")
    monkeypatch.setattr(linear_model, "SHAPE", [3, 32, 32])
    weights = np.random.default_rng(0).standard_normal((3 * 32 * 32, linear_model.CLASSES))
    monkeypatch.setattr(linear_model, "WEIGHTS", weights.astype(np.float32))
    linear_model.linear_model(tmp_path / "m.onnx", 2)
    folder = listed(tmp_path / "folder", LABELS)
    names = sorted(LABELS, key=lambda name: int(name[6:-4]))
    for number, part in enumerate((names[:4], names[4:])):
        pairs = (((f"{name[:-4]}.cls", b"%d" % LABELS[name]), name) for name in part)
        entries = [each for label, name in pairs for each in (label, (name, (folder / "val" / name).read_bytes()))]
        write_tar(tmp_path / f"set/{number}.tar", entries)
    (tmp_path / "list.txt").write_text("set/1.tar\nset/0.tar\n")
    for name in ("by_folder", "by_tars", "by_list"):
        (tmp_path / name).mkdir()
    expected = evaluated(folder, tmp_path / "by_folder")
    assert len(expected[0]) == len(LABELS) and expected[1]["metrics"]
    assert evaluated(tmp_path / "set", tmp_path / "by_tars") == expected
    assert evaluated(tmp_path / "list.txt", tmp_path / "by_list") == expected
