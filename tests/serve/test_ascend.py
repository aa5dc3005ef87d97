"""BACKEND=ascend with a fake of ais_bench: one process for each device, on consecutive ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atc import convert
from tests.serve.chain import SIDE, arguments
from tests.support import ROOT, fakes
from tests.support.processes import SECONDS


@pytest.fixture(scope="module")
def folder(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with om/bs4.om, compiled by the fake atc from the chain's ONNX file, and python_npu."""
    folder = tmp_path_factory.mktemp("ascend")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "bin").mkdir()
        fakes.atc(folder / "bin")
        fakes.ais_python(folder)
        patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        for name in ("small.yaml", "names.txt"):
            (folder / name).write_bytes((chain / name).read_bytes())
        model = arguments(cfg="small.yaml", model=chain / "m.onnx", output="om/bs4.om", batch_size=4, backend="ascend")
        assert convert.main(model) == 0
    return folder


def free_ports() -> int:
    """A port after which the next one is free too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
                return int(port)
            except OSError:
                continue


@pytest.fixture
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_ports()
    words = [
        "--cfg",
        "small.yaml",
        "--models",
        "om/bs4.om",
        "--backend",
        "ascend",
        "--allow_unjudged",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        ["./python_npu", "-m", "serve.run", *words, "--device", "0,1"], cwd=folder, env=environment
    )
    try:
        wait_for(lambda: all(ready(port + number) for number in (0, 1)))
        yield started, port
    finally:
        started.kill()
        started.wait()
        wait_for(lambda: not any(ready(port + number) for number in (0, 1)))


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_two_devices_and_the_end_of_their_processes(process: tuple[subprocess.Popen[bytes], int], chain: Path) -> None:
    """Both servers give the chain's outputs; SIGTERM ends both."""
    started, port = process
    rows = np.stack([np.fromfile(chain / f"in/img{i}.bin", np.float32) for i in range(4)])
    tensor = {"name": "image", "datatype": "FP32", "shape": [4, 3, SIDE, SIDE], "data": rows.reshape(-1).tolist()}
    data = json.dumps({"inputs": [tensor]}).encode()
    for number in (0, 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port + number}/v2/models/small_tensor/infer", data) as response:
            found = np.array(json.loads(response.read())["outputs"][0]["data"], np.float32).reshape(4, -1)
        expected = np.stack([np.fromfile(chain / f"out/run/img{i}_0.bin", np.float32) for i in range(4)])
        np.testing.assert_allclose(found, expected, atol=1e-4)
    started.send_signal(signal.SIGTERM)
    assert started.wait(SECONDS) == 0
    assert not ready(port) and not ready(port + 1)


def test_no_process_survives_kill_9_of_the_first(process: tuple[subprocess.Popen[bytes], int]) -> None:
    started, port = process
    started.kill()
    wait_for(lambda: not ready(port) and not ready(port + 1))


def test_a_device_that_fails_ends_the_others(folder: Path) -> None:
    words = ["--cfg", "small.yaml", "--models", "om/bs4.om", "--backend", "ascend", "--allow_unjudged"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE_AIS_BENCH": "device1"}
    call = ["./python_npu", "-m", "serve.run", *words, "--port", str(free_ports()), "--device", "0,1"]
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and "acl init failed, device 1" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "serve.run: failed: a server ended, see above (found device 1: exit 2"
    )
