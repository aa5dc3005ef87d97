"""`make serve`: its command, and where HOST and PORT may come from."""

from __future__ import annotations

from pathlib import Path

from tests.support.checkout import Checkout


def test_a_host_in_the_environment_opens_nothing(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    words = ("-n", "serve", "BACKEND=onnxruntime", "GATE=none")
    command = " ".join(checkout.make(*words, HOST="0.0.0.0", PORT="80").stdout.splitlines()[-2:])
    assert "--host 127.0.0.1 --port 8000" in command and "--allow_unjudged" in command
    assert command.count("om/bs") == 5 and "bs16-float32-fp32.onnx" in command
    command = " ".join(checkout.make(*words, "HOST=0.0.0.0", "PORT=80").stdout.splitlines()[-2:])
    assert "--host 0.0.0.0 --port 80" in command
