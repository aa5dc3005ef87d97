"""Runs of preprocess.classification in separate processes that are stopped before they finish all images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import ROOT
from tests.support.image_sets import encoded, listed, noise


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.bin")}


MANY = 300  # images, some of which are still to be done when the run is stopped


def start_many(cfg: str, root: Path, output: Path) -> subprocess.Popen[str]:
    """A run in a separate process that has written some of its inputs, but not all."""
    call = [sys.executable, "-m", "preprocess.classification", cfg, str(root), str(output), "--workers=2"]
    started = subprocess.Popen(
        call,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    deadline = time.monotonic() + 20
    while len(list(output.glob("*.bin"))) < 4:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    return started


def many_images(root: Path) -> Path:
    """A data set of MANY images that are links to one file: slow to decode, with little disk space."""
    listed(root, {"img0.JPEG": 1})
    names = [f"img{i}.JPEG" for i in range(MANY)]
    (root / "val/img0.JPEG").write_bytes(encoded(noise(1000, 700), "JPEG"))
    for name in names[1:]:
        os.link(root / "val/img0.JPEG", root / "val" / name)
    (root / "val_label.txt").write_text("".join(f"{name} 1\n" for name in names))
    return root
