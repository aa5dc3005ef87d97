"""benchmarks/cluster.py: copies of a part can be merged like many parts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import cluster
from hrnet.io.files import sha256_file
from hrnet.io.parts import Part, predictions_path
from hrnet.io.predictions import ClassPrediction, write_predictions
from hrnet.shards import Shard
from postprocess import merge
from tests.support.part_files import write_inputs, write_part


def test_copies_of_a_part_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(6)
    record = Path("1-of-2.json")
    ranks = [0, 1, 0]
    best = [1, 2, 0], [0.5, 0.3, 0.2]
    lines = [ClassPrediction(f"val/{row}.png", 1, rank, *best, [8, 8]) for row, rank in enumerate(ranks)]
    write_part(record, Shard(1, 2))
    part = Part.read(record)
    write_predictions(predictions_path(record), lines)
    dataclasses.replace(part, predictions_sha256=sha256_file(predictions_path(record))).write(record)
    cluster.write_copies(record, Path("parts"), 5, 2)
    assert merge.main(["--cfg", "small.yaml", "--parts", "parts", "--shards", "5", "--output", "merged.json"]) == 0
    found = json.loads(Path("merged.json").read_text())
    assert found["images"] == 10 and found["metrics"]["top1"] == 50.0
    sources = [json.loads(line)["source"] for line in Path("merged/predictions.jsonl").read_text().splitlines()]
    assert len(set(sources)) == 10
