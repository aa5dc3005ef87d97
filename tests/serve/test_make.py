"""`make serve`: its command, and that HOST and PORT are read only from make's command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Checkout
from tests.support.processes import SECONDS, lines_until


def test_a_host_in_the_environment_is_ignored(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    words = ("-n", "serve", "BACKEND=onnxruntime", "GATE=none")
    command = " ".join(checkout.make(*words, HOST="0.0.0.0", PORT="80").stdout.splitlines()[-2:])
    assert "--host 127.0.0.1 --port 8000" in command and "--allow_unjudged" in command
    assert command.count("om/bs") == 5 and "bs16-float32-fp32.onnx" in command
    command = " ".join(checkout.make(*words, "HOST=0.0.0.0", "PORT=80").stdout.splitlines()[-2:])
    assert "--host 0.0.0.0 --port 80" in command


def test_nothing_is_compiled_without_a_verdict(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    done = checkout.make("serve", "BACKEND=onnxruntime")
    assert done.returncode == 2 and " -m " not in done.stdout
    assert "accuracy was not evaluated" in done.stderr and "make eval MODEL=demo_digits" in done.stderr
    words = ("-n", "serve", "BACKEND=onnxruntime")
    stages = [
        line.partition(" -m ")[2].split()[0] for line in checkout.make(*words).stdout.splitlines() if " -m " in line
    ]
    assert stages[:3] == ["serve.verdict", "pth2onnx.classification", "atc.convert"] and stages[-1] == "serve.run"
    assert "serve.verdict" not in checkout.make(*words, "GATE=none").stdout


@pytest.mark.slow
def test_make_serve(tmp_path: Path) -> None:
    """After make eval the model is served with its verdict, also at other batch sizes; HOST and PORT are not
    remembered."""
    pytest.importorskip("sklearn.datasets")
    checkout = Checkout(tmp_path)
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    given = ("DATASET=data/digits", "LIMIT=60", "REFERENCE=torch", "BACKEND=onnxruntime", "BATCH=4")
    done = checkout.make("eval", *given)
    assert done.returncode == 0, done.stderr
    assert checkout.make("om", "BATCH=1").returncode == 0, "so that the server is ready sooner"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    words = ["make", "serve", "MODEL=demo_digits", f"PYTHON={sys.executable}", "BATCH=4", "BATCHES=1,2", "PORT=0"]
    process = subprocess.Popen(
        words, cwd=checkout.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = lines_until(process, "ready: ")
    process.terminate()
    rest, _ = process.communicate(timeout=SECONDS)
    assert lines[-1].startswith("ready: demo_digits, onnxruntime") and "batch sizes 1, 2, 4; PASS" in lines[-1], lines
    assert "Traceback" not in rest
    kept = {path.name for path in (checkout.root / "build/demo_digits/settings").iterdir()}
    assert "BATCH.mk" in kept and not kept & {"BATCHES.mk", "HOST.mk", "PORT.mk"}
