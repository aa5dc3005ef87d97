"""A checkout in which the whole chain of the demo's classifier ran once."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.checkout import STAGES, Checkout

EXPORTED = "ONNX=build/demo_digits/model.onnx"  # of the checkout: other values of BUILD need no second export


class DemoChain(Checkout):
    def make(self, *arguments: str, model: str = "demo_digits", **environment: str) -> subprocess.CompletedProcess[str]:
        """GATE is not remembered, so each call gives it."""
        return super().make(*arguments, model=model, **{"GATE": "50", **environment})


def run_chain(root: Path, digits: Path) -> DemoChain:
    """The chain on 60 digits, 6 of them with a wrong label, so that Top-1 is near 90%."""
    checkout = DemoChain(root)
    shutil.copytree(digits, root / "data/digits")
    labels = root / "data/digits/val_label.txt"
    lines = [line.split() for line in labels.read_text().splitlines()]
    wrong = [(name, (int(label) + 1) % 10 if row < 6 else label) for row, (name, label) in enumerate(sorted(lines))]
    labels.write_text("".join(f"{name} {label}\n" for name, label in wrong))
    assert checkout.stages("eval", "DATASET=data/digits", "LIMIT=60", "GATE=50", "REFERENCE=config") == list(STAGES)
    return checkout


def metrics(demo: Checkout) -> dict[str, object]:
    """The metrics of `run_chain`."""
    path = demo.root / "build/demo_digits/eval/digits-float32-first60/onnxruntime-bs16-fp32.json"
    content: dict[str, object] = json.loads(path.read_text())
    return content
