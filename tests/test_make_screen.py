"""If nobody reads the output of make, every finished product is kept."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.checkout import Checkout


@pytest.mark.parametrize("screen", ["| head -1", "> /dev/full"])
def test_the_product_is_kept(screen: str, evaluated_demo: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    exported = f"ONNX={evaluated_demo.root}/build/demo_digits/model.onnx"
    call = ["make", "om", "MODEL=demo_digits", "BATCH=2", exported, f"PYTHON={sys.executable}"]
    # without the MAKE* variables of `make test`, which may run this test
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for _ in range(10):  # make ends when its pipe is closed, perhaps before the running stage
        subprocess.run(["bash", "-c", f"{shlex.join(call)} {screen}"], cwd=tmp_path, env=clean, capture_output=True)
        done = checkout.make("om", "BATCH=2", exported, "-q")
        if done.returncode == 0:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
