"""Compare `make serve` with MLServer and LitServe: responses per second for JPEGs, each server in its own environment.

    make eval bench MODEL=demo_digits DATASET=data/digits REFERENCE=torch BATCHES=1,2,4,8,16
    python -m benchmarks.serve --models build/demo_digits/om/bs*-float32-fp32.onnx --images data/digits/val \\
        --mlserver_python /venvs/mlserver/bin/python --litserve_python /venvs/litserve/bin/python

All servers compute the same compiled models with this project's code; the other servers call it through
benchmarks.serve_model. Each request has one image as base64 in JSON; the servers join images to batches of up to the
largest compiled size. `serve, binary` is this project's server with the binary tensor extension. All servers run during
the whole benchmark, but those that are not measured at the moment are stopped (SIGSTOP).
The environment of each peer needs its own package (`pip install litserve`, or `pip install mlserver 'uvloop<0.22'`) and
the packages of this project's stages: `numpy onnxruntime opencv-python-headless Pillow simplejpeg yacs PyYAML tqdm`.
--bare adds a loop without HTTP over the same images; each of its threads computes one batch after another.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from benchmarks import serve_model
from benchmarks.serve_client import drive, http_request
from hrnet.cli import WorkFailed, command, cores, integer, real
from hrnet.config import add_cfg_argument
from hrnet.io.compiled import CompiledModel
from infer.emulator.pipeline import default_requests

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


class Peer(NamedTuple):
    """A running server. `requests`: one for each image."""

    process: subprocess.Popen[bytes]
    port: int
    requests: list[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(words: Sequence[str], port: int, health: str, requests: list[bytes], environment: Mapping[str, str]) -> Peer:
    """Start a server in its own process group, and wait until `health` answers 200."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(words, env=given, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not answers(port, health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise WorkFailed("the server did not start, see above", where=" ".join(words[:3]))
            time.sleep(0.2)
    except BaseException:  # also Ctrl-C
        end(process)
        raise
    return Peer(process, port, requests)


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
            return True
    except OSError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cpu_seconds(group: int) -> float:
    """CPU time of all processes in a process group, without those that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # after the name: state, parent, group, …
        except OSError:  # it has ended
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def v2_requests(name: str, images: Sequence[bytes], binary: bool = False) -> list[bytes]:
    """Requests of the Open Inference Protocol for one image each."""
    requests = []
    for image in images:
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
        if not binary:
            body = json.dumps({"inputs": [{**tensor, "data": [base64.b64encode(image).decode()]}]}).encode()
            requests.append(http_request(f"/v2/models/{name}/infer", body))
            continue
        data = len(image).to_bytes(4, "little") + image
        outputs = [{"name": "classes"}, {"name": "probabilities"}]
        given = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}], "outputs": outputs}
        head = json.dumps(given).encode()
        headers = f"Inference-Header-Content-Length: {len(head)}\r\n"
        requests.append(http_request(f"/v2/models/{name}/infer", head + data, headers))
    return requests


def largest_batch(models: Sequence[Path]) -> int:
    return max(CompiledModel.read(path).inputs[0].shape[0] for path in models)


def start_ours(args: argparse.Namespace, images: Sequence[bytes]) -> Peer:
    port, models = free_port(), [str(path) for path in args.models]
    words = [sys.executable, "-m", "serve.run", "--cfg", str(args.cfg), "--models", *models, "--allow_unjudged"]
    limit = ["--max_images", str(max(64, 2 * args.clients))]
    requests = v2_requests(args.cfg.stem, images)
    return start([*words, "--port", str(port), *limit], port, "/v2/health/ready", requests, {})


def start_litserve(args: argparse.Namespace, images: Sequence[bytes], environment: Mapping[str, str]) -> Peer:
    port = free_port()
    bodies = [json.dumps({"image": base64.b64encode(image).decode()}).encode() for image in images]
    numbers = [port, args.litserve_workers, largest_batch(args.models)]
    words = [args.litserve_python, "-m", "benchmarks.serve_litserve", *map(str, numbers)]
    return start(words, port, "/health", [http_request("/predict", body) for body in bodies], environment)


def start_mlserver(
    args: argparse.Namespace, images: Sequence[bytes], environment: Mapping[str, str], folder: Path
) -> Peer:
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": args.mlserver_workers,
        "debug": False,
        "metrics_dir": str(folder),
    }
    model = {
        "name": args.cfg.stem,
        "implementation": "benchmarks.serve_mlserver.Classifier",
        "max_batch_size": largest_batch(args.models),
        "max_batch_time": args.mlserver_batch_time,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    words = [str(Path(args.mlserver_python).with_name("mlserver")), "start", str(folder)]
    return start(words, port, "/v2/health/ready", v2_requests(args.cfg.stem, images), environment)


def bare_loop(args: argparse.Namespace, images: Sequence[bytes]) -> Callable[[float], tuple[float, int]]:
    """A function that computes batches of the largest size for some seconds, and returns the images per second and
    their number."""
    requests = default_requests()
    model = serve_model.Model(str(args.cfg), args.models, requests)
    size = model.sizes[-1]

    def work(stop: float, counts: list[int], number: int) -> None:
        while time.perf_counter() < stop:
            model([images[(number * size + i) % len(images)] for i in range(size)])
            counts.append(size)

    def run(seconds: float) -> tuple[float, int]:
        counts: list[int] = []
        begun = time.perf_counter()
        threads = [threading.Thread(target=work, args=(begun + seconds, counts, number)) for number in range(requests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - begun), sum(counts)

    return run


def measure(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The rates of each candidate in each round; the first round is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            rate = run()
            if number:
                rates[name].append(rate)
    return rates


def run(args: argparse.Namespace) -> None:
    """Start the servers, measure them in turn, and print medians and the ratios of this project's server to each."""
    files = sorted(path for path in args.images.iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    images = [file.read_bytes() for file in files[: args.count]]
    environment = {serve_model.CFG: str(args.cfg), serve_model.MODELS: ":".join(map(str, args.models))}
    latencies: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}  # seconds of an image
    with tempfile.TemporaryDirectory() as scratch:
        peers = {"serve": start_ours(args, images)}
        try:
            if args.mlserver_python:
                peers["MLServer"] = start_mlserver(args, images, environment, Path(scratch))
            if args.litserve_python:
                peers["LitServe"] = start_litserve(args, images, environment)
            for peer in peers.values():
                os.killpg(peer.process.pid, signal.SIGSTOP)

            def served(name: str, peer: Peer) -> float:
                os.killpg(peer.process.pid, signal.SIGCONT)
                began = cpu_seconds(peer.process.pid)
                rate, latencies[name] = drive(peer.port, peer.requests, args.clients, args.seconds)
                cpu[name] = (cpu_seconds(peer.process.pid) - began) / len(latencies[name])
                os.killpg(peer.process.pid, signal.SIGSTOP)
                return rate

            def candidate(name: str, peer: Peer) -> Callable[[], float]:
                return lambda: served(name, peer)

            candidates = {name: candidate(name, peer) for name, peer in peers.items()}
            ours = peers["serve"]
            candidates["serve, binary"] = candidate(
                "serve, binary", ours._replace(requests=v2_requests(args.cfg.stem, images, binary=True))
            )
            if args.bare:
                loop = bare_loop(args, images)

                def bare() -> float:
                    began = time.process_time()
                    rate, count = loop(args.seconds)
                    cpu["bare loop"] = (time.process_time() - began) / count
                    return rate

                candidates["bare loop"] = bare
            rates = measure(candidates, args.rounds)
        finally:
            for peer in peers.values():
                end(peer.process)
    print(
        f"{args.cfg.stem}, {len(images)} images, {args.clients} clients, {cores()} cores, {args.rounds} rounds, medians"
    )
    for name, mine in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["serve"], mine))
        line = f"{name:14}{statistics.median(mine):9.1f} images/s  serve / {name}: {ratio:.2f}"
        line += f"  CPU {1000 * cpu[name]:.2f} ms/image"  # of the last round
        if times := sorted(latencies.get(name, [])):
            middle, late = (1000 * times[len(times) * percent // 100] for percent in (50, 99))
            line += f"  p50 {middle:.1f} ms, p99 {late:.1f} ms"
        print(line)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.splitlines()[0])
    add_cfg_argument(parser, "demo_digits")
    parser.add_argument(
        "--models", type=Path, nargs="+", required=True, help="compiled models, one for each batch size"
    )
    parser.add_argument("--images", type=Path, required=True, help="directory of JPEGs")
    parser.add_argument("--count", type=integer(1), default=200, help="number of JPEGs (%(default)s)")
    parser.add_argument("--mlserver_python", help="interpreter of an environment with mlserver (default: not measured)")
    parser.add_argument("--litserve_python", help="interpreter of an environment with litserve (default: not measured)")
    parser.add_argument("--mlserver_workers", type=integer(0), default=1, help="its parallel_workers (%(default)s)")
    parser.add_argument("--mlserver_batch_time", type=real(0), default=0.002, help="its max_batch_time (%(default)s s)")
    parser.add_argument("--litserve_workers", type=integer(1), default=1, help="its workers_per_device (%(default)s)")
    parser.add_argument("--bare", action="store_true", help="also measure a loop without HTTP")
    parser.add_argument("--clients", type=integer(1), default=8, help="connections (%(default)s)")
    parser.add_argument("--seconds", type=real(0.1), default=5.0, help="seconds of each run (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=5, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
