"""report.write on 50,000 images: its memory and its size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.files import make_folder, sha256_file
from tests.support import ROOT
from tests.support.html_pages import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

IMAGES, CLASSES = 50_000, 1000
MOST_MEMORY, MOST_BYTES = 1_000_000, 1_000_000  # kB, bytes
# Run a command and print its largest memory in kB. Linux also counts the memory of the process that starts the command
# (pytest may have more than MOST_MEMORY), so this small process starts it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def write_run(build: Path) -> tuple[Path, int]:
    """Write the files of make eval, with random predictions; return the metrics record and the number of hits."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    ranks = random.integers(0, 4, IMAGES)
    metrics = build / "eval/imagenet-float32/emulator-bs1.json"
    folder = make_folder(metrics.with_suffix(""))
    with open(folder / "predictions.jsonl", "w") as file:
        for number, (label, rank) in enumerate(zip(labels.tolist(), ranks.tolist())):
            classes = [(label + 1 + k) % CLASSES for k in range(5)]
            classes[rank] = label
            best = round(float(random.uniform(0.2, 1)), 6)
            values = [best, *(round((1 - best) / 4, 6) for _ in range(4))]
            line = {"source": f"val/n{label:08d}_{number}.JPEG", "label": label, "rank": rank, "classes": classes}
            file.write(json.dumps({**line, "probabilities": values, "size": [500, 300 + number % 300]}) + "\n")
    hits = int((ranks == 0).sum())
    top1 = 100 * hits / IMAGES
    content = {
        "kind": "metrics",
        "format_version": 1,
        "name": "hrnet_w18",
        "metrics": {"top1": top1},
        "interval95": {"top1": [top1 - 0.4, top1 + 0.4]},
        "images": IMAGES,
        "batch": 16,
        "counts": {"inputs": IMAGES, "outputs": IMAGES, "evaluated": IMAGES, "rejected": 0},
        "gate": {"metric": "top1", "allowed_points": 1.0},
        "reference": {"top1": 76.8, "source": "made up"},
        "drop": {"points": 76.8 - top1, "relative_percent": 1.0},
        "verdict": "fail",
        "images_sha256": "ab",
        "evaluated": {
            "predictions_sha256": sha256_file(folder / "predictions.jsonl"),
            "model_sha256": "ab",
        },
        "model": {},
        "tool": "emulator 1",
        "images_per_second": {"infer end to end": 10.0, "device alone": 12.0},
        "versions": {},
    }
    metrics.write_text(json.dumps(content))
    return metrics, hits


@pytest.mark.slow
def test_memory_size_and_content(tmp_path: Path) -> None:
    build = tmp_path / "build/hrnet_w18"
    metrics, hits = write_run(build)
    named = {"--cfg": "hrnet_w18", "--build": build, "--metrics": metrics, "--output": build / "report.html"}
    words = [sys.executable, "-m", "report.write", *(str(word) for pair in named.items() for word in pair)]
    command = [sys.executable, "-c", MEASURE, *words, "--base", metrics]
    measured = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert measured.returncode == 0
    assert int(measured.stdout.split()[-1]) < MOST_MEMORY
    assert (build / "report.html").stat().st_size < MOST_BYTES
    page = Page(build / "report.html")
    page.check_safe()
    page.check_numbers()
    own = page.json["page"]
    assert (own["classes"]["images"], own["classes"]["hits"], own["classes"]["classes"]) == (IMAGES, hits, CLASSES)
    assert sum(row["images"] for row in own["classes"]["sizes"]) == IMAGES
    assert own["base"]["changed"] == 0 and own["base"]["images"] == IMAGES
