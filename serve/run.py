"""Serve compiled models over HTTP with the Open Inference Protocol V2, a page at `/` and metrics at /metrics.

    python -m serve.run --cfg hrnet_w18 --models build/hrnet_w18/om/bs1-float32-fp32.onnx \\
        build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --metrics build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32.json

Reads    the compiled models, one for each batch size, with their records; the metrics record with the verdict about one
         of them; the config; the names of classes, from INPUT.CLASS_NAMES or <--labelled>/manifest.json
Serves   two models by name. `<cfg>`: the five best classes of image files, or the people in them, computed as by the
         stages preprocess, infer and postprocess. `<cfg>_tensor`: the compiled model itself
Devices  with `--device 0,1` one process for each device, on the ports --port, --port + 1, …
Ends     after SIGTERM or Ctrl-C, when the accepted requests are answered
NPU      with --backend ascend this runs in the interpreter that has ais_bench. Not tested on NPU hardware
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import cv2
from yacs.config import CfgNode

from hrnet.cli import UserError, WorkFailed, command, integer, real
from hrnet.config import add_cfg_argument, check_same_config, config_sha256, load_config
from hrnet.io.compiled import CompiledModel
from hrnet.pose.joints import SKELETON
from hrnet.schemas import POSE
from infer import runtimes
from infer.emulator.pipeline import default_requests
from infer.run_ais_bench import BACKENDS, device_list
from postprocess.show import MIN_PERSON_SCORE
from postprocess.tiles import MIN_JOINT_SCORE
from postprocess.topn import add_labelled_argument, directory_names
from serve.app import Metrics, Server
from serve.batches import Batcher
from serve.classification import Classifier
from serve.listen import bind, make_server, url
from serve.models import ImageModel, TensorModel
from serve.pose import PoseModel
from serve.verdict import TOOLS, check_verdict

PLATFORMS = {"ascend": "ascend_om", "torchscript": "pytorch_torchscript", "torch_aie": "pytorch_torchscript"}
BATCHES_AT_A_TIME = 4  # default of --max_images: 4 times the largest batch size, but at least 32
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def read_models(paths: list[Path], cfg: Path, config: CfgNode) -> dict[Path, CompiledModel]:
    """The records of the models. Raises UserError unless they differ only in their batch sizes and fit the config."""
    models = {path: CompiledModel.read(path) for path in paths}
    first = models[paths[0]]
    sizes: dict[int, Path] = {}
    for path, compiled in models.items():
        if len(compiled.inputs) != 1:
            raise UserError("the model has several inputs", where=path, expected="one")
        size = compiled.inputs[0].shape[0]
        if size in sizes:
            raise UserError(f"two models of batch size {size}", where=path, found=sizes[size])
        sizes[size] = path
        for ours, theirs in zip((*compiled.inputs, *compiled.outputs), (*first.inputs, *first.outputs)):
            if (ours.dtype, ours.shape[1:]) != (theirs.dtype, theirs.shape[1:]):
                expected, found = f"{theirs.dtype}{theirs.shape[1:]}", f"{ours.dtype}{ours.shape[1:]}"
                message = f"{ours.name} differs from that of {paths[0]}"
                raise UserError(message, where=path, expected=expected, found=found)
        what, hint = "the model has another config", "give the --cfg that the model was exported with"
        check_same_config(compiled.metadata, config_sha256(config), cfg, path, what, hint)
    outputs = 2 if config.MODEL.NAME == POSE else 1
    if len(first.outputs) != outputs:
        names = [tensor.name for tensor in first.outputs]
        raise UserError("wrong number of outputs", where=paths[0], expected=outputs, found=names)
    return models


def make_served(args: argparse.Namespace, config: CfgNode, models: Mapping[Path, CompiledModel]) -> ImageModel:
    path, compiled = next(iter(models.items()))
    if config.MODEL.NAME == POSE:
        return PoseModel(args.cfg.stem, args.cfg, config, compiled, args.flip)
    return Classifier(args.cfg.stem, config, compiled, path, directory_names(args.labelled, config.MODEL.NUM_CLASSES))


def serve_device(args: argparse.Namespace) -> None:
    """Serve the models on one device."""
    config = load_config(args.cfg)
    models = read_models(args.models, args.cfg, config)
    flip = args.flip if config.MODEL.NAME == POSE else None
    tool = TOOLS.get(args.backend, args.backend)
    verdict = check_verdict(args.metrics, models, tool, flip, args.allow_unjudged)
    (device,) = args.device
    runtimes.check_device(args.backend, device)
    served = make_served(args, config, models)
    name, tensors = served.name, TensorModel(served.name, models[args.models[0]])
    sizes = sorted(compiled.inputs[0].shape[0] for compiled in models.values())
    facts: dict[str, Any] = {
        "model": name,
        "task": "pose" if config.MODEL.NAME == POSE else "classification",
        "verdict": verdict,
        "batches": sizes,
        "skeleton": SKELETON,
        "min_person_score": MIN_PERSON_SCORE,
        "min_joint_score": MIN_JOINT_SCORE,
    }
    cv2.setNumThreads(1)  # images are prepared in several threads

    def load(metrics: Metrics) -> Batcher:
        loaded = [runtimes.load(args.backend, str(path), default_requests(), int(device)) for path in models]
        batcher = Batcher(loaded, getattr(served, "rank", None), metrics.observe_batch)
        batcher.warm_up()
        facts["runtime"] = loaded[0].version
        return batcher

    def announce() -> None:
        print(f"ready: {name}, {facts['runtime']}, batch sizes {', '.join(map(str, sizes))}; {verdict}", flush=True)

    errors: list[Exception] = []

    def failed(error: Exception) -> None:
        errors.append(error)
        http.should_exit = True

    max_images = args.max_images or BATCHES_AT_A_TIME * max(8, sizes[-1])
    platform = PLATFORMS.get(args.backend, "onnx_onnxv1")
    server = Server(
        {name: served, tensors.name: tensors}, platform, facts, load, max_images, args.timeout, failed, announce
    )
    bound = bind(args.host, args.port)
    http = make_server(server.app(), args.timeout)
    print(f"listening on {url(bound)}", flush=True)
    http.run(sockets=[bound])
    if errors:
        raise errors[0]


def serve_devices(args: argparse.Namespace, words: list[str]) -> None:
    """Run one process for each device until one of them ends, or a signal arrives; then end all of them. Raises
    WorkFailed if one failed."""
    libc = ctypes.CDLL(None)
    processes: list[subprocess.Popen[bytes]] = []

    ending: set[int] = set()

    def stop(*_: object) -> None:
        """Send SIGTERM to each process once: a second one would kill a process that is about to exit and has already
        removed its handler."""
        for process in processes:
            if process.pid not in ending:
                ending.add(process.pid)
                process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for number, device in enumerate(args.device):
        own = ["--device", device, "--port", str(args.port and args.port + number)]
        process = subprocess.Popen(
            [sys.executable, "-m", "serve.run", *words, *own],
            start_new_session=True,  # a Ctrl-C in the terminal goes only to the parent, which calls stop
            preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGTERM),
        )
        processes.append(process)
    while all(process.poll() is None for process in processes):
        time.sleep(0.1)
    stop()
    codes = {device: process.wait() for device, process in zip(args.device, processes)}
    if failed := {device: code for device, code in codes.items() if code}:
        found = ", ".join(f"device {device}: exit {code}" for device, code in failed.items())
        raise WorkFailed("a server ended, see above", found=found)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.run", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="compiled models, one per batch size")
    parser.add_argument("--metrics", type=Path, help="metrics record with the verdict about one of the models")
    parser.add_argument("--allow_unjudged", action="store_true", help="also serve a model that was not judged")
    add_labelled_argument(parser)
    parser.add_argument("--flip", action="store_true", help="pose: with the flip test, as make eval FLIP=1")
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime", help="what runs the models (%(default)s)")
    parser.add_argument("--device", type=device_list, default=["0"], help="one or more device ids, such as 0,1 (0)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=integer(0, 65535), default=8000, help="port of the first device (%(default)s)")
    text = f"images at a time, more get status 503 (default: {BATCHES_AT_A_TIME} times the largest batch, at least 32)"
    parser.add_argument("--max_images", type=integer(1), help=text)
    parser.add_argument("--timeout", type=real(1, 3600), default=30.0, help="seconds for one request (%(default)g)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    if len(args.device) > 1:
        serve_devices(args, sys.argv[1:] if argv is None else argv)
    else:
        serve_device(args)


if __name__ == "__main__":
    sys.exit(main())
