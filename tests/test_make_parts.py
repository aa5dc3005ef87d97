"""make on the demo's model in parts: SHARDS, make part, make merge and make cluster."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.checkout import STAGES, Checkout
from tests.support.demo_chain import EXPORTED

IN_PARTS = ["BUILD=parts", EXPORTED, "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config"]


SHARDED = ("make.shards", "postprocess.merge")


def due(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that make itself calls."""
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{sys.executable} -m ")]
    return [line.split()[2] for line in lines if line.split()[2] in (*STAGES, *SHARDED)]


def test_parts_give_the_metrics_of_all_images(demo: Checkout) -> None:
    """Also if computed part by part; finished parts are not computed again."""
    given = [*IN_PARTS, "SHARDS=2"]
    place = demo.root / "parts/demo_digits"
    shown = due(demo.make("-n", "eval", *given))
    assert shown == [STAGES[1], *SHARDED]
    assert [stage for stage in due(demo.make("eval", *given)) if stage in shown] == shown
    assert (place / "settings/SHARDS.mk").read_text() == "SHARDS ?= 2\n"
    path = place / "eval/digits-float32-first60/onnxruntime-bs16-fp32.json"
    whole = demo.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32"
    found, expected = json.loads(path.read_text()), json.loads(whole.with_suffix(".json").read_text())
    for name in ("metrics", "interval95", "images", "classes", "counts", "verdict", "images_sha256"):
        assert found[name] == expected[name], name
    for name in ("predictions.jsonl", "result.json"):
        assert (path.with_suffix("") / name).read_bytes() == (whole / name).read_bytes(), name
    parts = path.with_suffix("") / "parts"
    assert not [entry for entry in parts.iterdir() if entry.is_dir()], "inputs and outputs are removed"
    assert due(demo.make("eval", "BUILD=parts")) == [], "SHARDS is remembered"

    before = {part: part.stat().st_mtime_ns for part in parts.glob("*.json")}
    (parts / "2-of-2.json").unlink()
    done = demo.make("merge", "SHARDS=2", "BUILD=parts")
    assert (
        done.returncode == 2
        and "2/2" in done.stderr
        and "make part MODEL=demo_digits BUILD=parts " in done.stderr
        and " SHARD=2/2" in done.stderr
    )
    settings = sorted((place / "settings").iterdir())
    assert "make.shards" in due(demo.make("part", "SHARD=2/2", "KEEP=1", "BUILD=parts"))
    assert sorted((place / "settings").iterdir()) == settings
    assert sorted(entry.name for entry in (parts / "2-of-2").iterdir() if entry.is_dir()) == ["out", "prep"]
    assert "PASS: demo_digits top1 " in demo.make("merge", "SHARDS=2", "BUILD=parts").stdout
    after = {part: part.stat().st_mtime_ns for part in parts.glob("*.json")}
    assert [part.name for part in before if before[part] != after[part]] == ["2-of-2.json"]
    assert json.loads(path.read_text())["metrics"] == expected["metrics"]

    whole_again = due(demo.make("-n", "eval", "BUILD=parts", "SHARDS=1"))
    assert whole_again == ["preprocess.classification", "infer.run", "postprocess.classification"]


@pytest.mark.slow
def test_a_whole_run_after_parts_gives_their_metrics(demo: Checkout) -> None:
    given = ["BUILD=both", *IN_PARTS[1:]]
    found = []
    for shards in ("3", "1"):
        done = demo.make("eval", *given, f"SHARDS={shards}")
        assert done.returncode == 0, done.stderr
        (path,) = (demo.root / "both/demo_digits/eval").glob("*/*.json")
        found.append(json.loads(path.read_text())["metrics"])
    assert found[0] == found[1]


def test_a_part_builds_nothing_before_it(demo: Checkout) -> None:
    done = demo.make("part", "SHARD=3/16", "BUILD=nothing", "DATASET=data/digits", "GATE=3")
    assert done.returncode == 2 and "nothing/demo_digits/om/bs16-float32-fp32.onnx" in done.stderr
    assert "make om" in done.stderr and done.stderr.count(": error: ") == 1
    assert not (demo.root / "nothing").exists(), "no settings either"


def test_a_cluster_takes_the_same_arguments(demo: Checkout) -> None:
    """The model is compiled before; the other lines are those of make eval with parts."""
    given = [*IN_PARTS, "SHARDS=3", "BUILD=nodes", "INPUT=uint8"]
    parts, cluster = (demo.make("-n", goal, *given).stdout.splitlines() for goal in ("eval", "cluster"))
    ours = [line for line in cluster if " -m " in line]
    assert [line.split()[2] for line in ours] == [
        "atc.convert",
        "make.cluster",
        "postprocess.merge",
        "postprocess.gate",
    ]
    (expected,) = (line.replace("make.shards", "make.cluster") for line in parts if "-m make.shards " in line)
    assert ours[1].startswith(f"{expected} --backend onnxruntime ")
    assert all(f" --set {word}" in ours[1] for word in ("INPUT=uint8", "LIMIT=60", "MAX_REJECTED=0"))
    assert ours[2] in parts


@pytest.mark.parametrize("goal", ["preprocess", "infer", "reference", "qps"])
def test_parts_are_only_computed_by_eval(demo: Checkout, goal: str) -> None:
    done = demo.make(goal, "SHARDS=2", "BUILD=nothing", "DATASET=data/digits")
    assert (
        done.returncode == 2
        and "SHARDS=2: " in done.stderr
        and f"make {goal} " in done.stderr
        and "SHARDS=1" in done.stderr
    )
    assert not (demo.root / "nothing").exists()


def test_the_error_for_chunk_names_shards(demo: Checkout) -> None:
    settings = demo.root / "chunks/demo_digits/settings"
    given = ["eval", "BUILD=chunks", "DATASET=data/digits"]
    done = demo.make(*given, "CHUNK=100")
    assert done.returncode == 2 and "CHUNK=100" in done.stderr and "SHARDS=5 " in done.stderr
    assert not settings.exists()
    settings.mkdir(parents=True)
    (settings / "CHUNK.mk").write_text("CHUNK ?= 100\n")
    done = demo.make(*given)
    assert done.returncode == 2 and "rm chunks/demo_digits/settings/CHUNK.mk" in done.stderr
