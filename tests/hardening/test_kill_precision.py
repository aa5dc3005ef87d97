"""kill -9 of make precision between its rows and within them, then the same call again: the bytes of an undisturbed
run."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import pytest

from tests.hardening.harness import SESSION, Stage, contents
from tests.support.checkout import Checkout
from tests.support.processes import SECONDS, group_is_gone

POINTS = 20
IMAGES = 12
LOG = "log.txt"
ROW = re.compile(r"^row ([0-9]+) of ", re.MULTILINE)
TABLE = f"build/demo_digits/precision/digits-float32-first{IMAGES}.json"
PRODUCTS = Stage("make.precision", "", ("build",), TABLE)


def start(root: Path) -> subprocess.Popen[bytes]:
    """Start make precision in its own process group; its output goes to a file."""
    (root / "tmp").mkdir(exist_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    options = ["MODEL=demo_digits", "DATASET=data/digits", f"LIMIT={IMAGES}", "CALIB=8", "BACKEND=onnxruntime"]
    options += ["REFERENCE=config", "GATE=none", f"PYTHON={sys.executable}"]
    with open(root / LOG, "wb") as log:
        return subprocess.Popen(
            ["make", "precision", *options],
            cwd=root,
            env={**clean, "TMPDIR": str(root / "tmp"), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(root: Path) -> dict[str, bytes]:
    """The products of a run that ends by itself."""
    started = start(root)
    assert started.wait(10 * SECONDS) == 0, (root / LOG).read_text()
    assert {path.name for path in (root / "tmp").iterdir()} <= {SESSION}
    return contents(root, PRODUCTS)


def newest(group: int) -> int:
    """The process of the group that was started last: the stage at work, or its tool."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
        except ProcessLookupError:
            pass
    return max(found)


def kill(root: Path, source: random.Random, at_row: bool, whole_group: bool) -> Optional[int]:
    """Start it and kill it at a random moment, or where a row begins; returns that row, or None if it ended before.
    Without `whole_group` only the newest process is killed, and make ends with an error."""
    started, lines = start(root), source.randint(1, 40)
    deadline = time.monotonic() + 2 * SECONDS
    rows: list[str] = []
    while started.poll() is None:
        assert time.monotonic() < deadline
        text = (root / LOG).read_text()
        rows = ROW.findall(text)
        if (len(rows) > 1) if at_row else text.count("\n") >= lines:
            break
        time.sleep(0.005)
    if not at_row:
        time.sleep(source.uniform(0, 1))
    if started.poll() is not None:
        assert started.returncode == 0, (root / LOG).read_text()
        return None
    if whole_group:
        os.killpg(started.pid, signal.SIGKILL)
    else:
        os.kill(newest(started.pid), signal.SIGKILL)
    code = started.wait(SECONDS)
    assert group_is_gone(started.pid)
    if code == 0:  # it ended just before, or did not need the killed process
        return None
    return int(rows[-1]) if rows else 0


@pytest.mark.slow
def test_make_precision_killed_anywhere_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    root = Checkout(tmp_path).root
    subprocess.run([sys.executable, "-m", "data.digits", "--output", "data/digits"], cwd=root, check=True)
    expected, source, killed = finish(root), random.Random(1), list[int]()
    shutil.rmtree(root / "build")
    while len(killed) < POINTS:
        row = kill(root, source, at_row=len(killed) % 4 == 3, whole_group=len(killed) % 3 != 2)
        if row is None:
            assert contents(root, PRODUCTS) == expected
            shutil.rmtree(root / "build")
        else:
            killed.append(row)
            if (root / TABLE).exists():  # killed after its last file, the record
                assert contents(root, PRODUCTS) == expected
    assert finish(root) == expected
    assert len(set(killed)) >= 4, killed
