"""A fake of ais_bench 0.0.2: `python -m ais_bench` if this package's directory is on PYTHONPATH.

It accepts the tool's command line, rejects what the tool rejects, writes what it writes, and runs the .om of the fake
atc (fake_atc.py), which contains its ONNX file, so that outputs are real numbers. It shares no code with
`infer`, so that it is an independent check. It is as careless as the tool: it does not check the dtype or the shape of
an input, only that its number of bytes divides that of a batch; outputs of inputs with equal names up to the first dot
overwrite each other; and several devices each infer all inputs. For a model with gears the shape is set by each npy
(--auto_set_dymdims_mode) or once (--dymDims); a shape that is not a gear is rejected with the message of aclruntime.

Without --input it runs the model `--loop` times on one batch of zeros or of random bytes, and writes each output of the
whole batch to one file.

FAKE_AIS_BENCH selects an error: `device1` fails on device 1 (the others continue), `killed` is killed by SIGKILL in the
middle of the second batch, `silent` succeeds without a summary, `undivided` ignores --divide_input, `halved` computes
the throughput with half of the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
from fake_om import Om

ERROR = os.environ.get("FAKE_AIS_BENCH", "")
MAX_MODEL_BYTES = 10 * 2**30
MAX_FILES = 100_000
PURE = "pure_infer_data"
SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")  # other files in the directory of inputs are ignored


def info(text: str) -> None:
    print(f"[INFO] {text}", flush=True)


def illegal(path: str, wide: int) -> str:
    """Why the tool rejects a path; `wide` are the mode bits that it must not have. Empty if it accepts the path. It
    checks the absolute path, and the file must belong to the user or to one of the user's groups, also for root."""
    if re.search(r"[^A-Za-z0-9_\-/.]", os.path.abspath(path)) or not path:
        return "contains invalid characters"
    if len(os.path.abspath(path)) > 4096 or max(map(len, path.split("/"))) > 255:
        return "is too long"
    if os.path.islink(path):
        return "is a symbolic link, considering security, not supported"
    if os.path.exists(path):
        owned = os.stat(path)
        if owned.st_uid != os.geteuid() and owned.st_gid not in os.getgroups():
            return "current user isn't its owner or ownergroup"
    if os.path.exists(path) and os.stat(path).st_mode & wide:
        return f"has mode {stat.S_IMODE(os.stat(path).st_mode):04o}"
    return ""


def readable(path: str) -> str:
    return illegal(path, stat.S_IWGRP | stat.S_IWOTH) or ("" if os.path.exists(path) else "not exist")


def model_path(value: str) -> str:
    error = readable(value) or ("" if value.endswith(".om") else "not an .om file")
    if error or os.path.getsize(value) > MAX_MODEL_BYTES:
        raise argparse.ArgumentTypeError(f"om path:{value} is illegal. Please check. {error or 'is too large'}")
    return value


def input_paths(value: str) -> str:
    for path in value.split(","):
        if error := readable(path):
            raise argparse.ArgumentTypeError(f"input path:{path} is illegal. Please check. {error}")
    return value


def output_path(value: str) -> str:
    if error := illegal(value, stat.S_IWGRP | stat.S_IRWXO):
        raise argparse.ArgumentTypeError(f"output path:{value} is illegal. Please check. {error}")
    return value


def devices(value: str) -> list[int]:
    found = [int(part) for part in value.split(",")]
    for device in found:
        if not 0 <= device <= 255:
            raise argparse.ArgumentTypeError(f"{device} of device:{value} is invalid. valid value range is [0, 255]")
    return found


def boolean(value: str) -> bool:
    if value.lower() not in ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"):
        raise argparse.ArgumentTypeError("Boolean value expected true, 1, false, 0 with case insensitive.")
    return value.lower() in ("yes", "true", "t", "y", "1")


def whole(value: str) -> int:
    if int(value) <= 0:
        raise argparse.ArgumentTypeError(f"{value} is an invalid positive int value")
    return int(value)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ais_bench")
    parser.add_argument("--model", type=model_path, required=True)
    parser.add_argument("--input", type=input_paths)
    parser.add_argument("--pure_data_type", choices=["zero", "random"], default="zero")
    parser.add_argument("--loop", type=whole, default=1)
    parser.add_argument("--output", type=output_path, required=True)
    parser.add_argument("--output_dirname", required=True)
    parser.add_argument("--outfmt", choices=["NPY", "BIN", "TXT"], default="BIN")
    parser.add_argument("--batchsize", type=whole)
    parser.add_argument("--warmup_count", type=int, default=1)
    parser.add_argument("--device", type=devices, default=[0])
    parser.add_argument("--divide_input", type=boolean, default=False)
    parser.add_argument("--display_all_summary", type=boolean, default=False)
    parser.add_argument("--auto_set_dymdims_mode", type=boolean, default=False)
    parser.add_argument("--dymDims")
    return parser.parse_args()


def natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", name)]


def list_files(paths: str) -> list[str]:
    """The files of --input: those of a directory, each entry checked, or the given files."""
    first = paths.split(",")[0]
    if os.path.isfile(first):
        return paths.split(",")
    names = os.listdir(first)
    if len(names) > MAX_FILES:
        raise RuntimeError(f"The number of files in {first} is larger than {MAX_FILES}")
    for name in names:
        if error := readable(os.path.join(first, name)):
            raise RuntimeError(f"input path:{os.path.join(first, name)} is illegal. Please check. {error}")
    return [os.path.join(first, name) for name in sorted(names, key=natural) if name.endswith(SUFFIXES)]


def payload(path: str) -> bytes:
    return np.load(path).tobytes() if path.lower().endswith(".npy") else Path(path).read_bytes()


def dims_of(path: str, name: str) -> str:
    """The shape that auto_set_dymdims_mode sets: that of a .npy file's array; for a .bin file, its number of bytes."""
    array = np.load(path) if path.lower().endswith(".npy") else np.fromfile(path, np.int8)
    return f"{name}:{','.join(map(str, array.shape))}"


def write(path: Path, tensor: np.ndarray, outfmt: str) -> None:
    if outfmt == "BIN":
        tensor.tofile(path)
    elif outfmt == "NPY":
        np.save(path, tensor)
    else:
        pattern = "%d " if tensor.dtype.kind in "iu" else "%f "
        lines = tensor.reshape(-1, tensor.shape[-1])
        path.write_text("".join("".join(pattern % value for value in line) + "\n" for line in lines))


def statistics(times: list[float]) -> dict[str, float]:
    values = (min(times), max(times), float(np.mean(times)), float(np.median(times)), float(np.percentile(times, 99)))
    return {**dict(zip(("min", "max", "mean", "median", "percentile(99%)"), values)), "count": len(times)}


def infer(args: argparse.Namespace, device: int, files: Optional[list[str]], prefix: Path) -> float:
    """One device: its inputs through the model, outputs under `prefix`, a summary beside it; returns throughput."""
    om = Om(args.model)
    prefix.mkdir(parents=True, exist_ok=True)
    info(f"output path:{prefix}")
    if files == []:
        raise RuntimeError("error  not file or dir")
    if args.auto_set_dymdims_mode and files:
        om.set_dims(dims_of(files[0], om.input.name))
    elif args.dymDims:
        om.set_dims(args.dymDims)
    elif om.gears:
        raise RuntimeError("the model has gears of dims, and none is set")
    size = len(payload(files[0])) if files else om.bytes
    if size == 0 or om.bytes % size:
        raise RuntimeError(f"arg0 tensorsize: {om.bytes} filesize: {size} not match")
    group = 1 if args.auto_set_dymdims_mode else om.bytes // size
    zeros = args.pure_data_type == "zero"
    made = bytes(om.bytes) if zeros else np.random.default_rng().integers(0, 256, om.bytes, np.uint8).tobytes()
    files = [PURE] if files is None else files
    if ERROR == "device1" and device == 1:
        raise RuntimeError("acl init failed, device 1")
    for _ in range(args.warmup_count):
        om.run(bytes(om.bytes))
    times, listed = [], {}
    for start in range(0, len(files), group):
        batch = files[start : start + group]
        padded = batch + [batch[0]] * (group - len(batch))
        data = made if batch == [PURE] else b"".join(payload(path) for path in padded)
        if args.auto_set_dymdims_mode and batch != [PURE]:
            om.set_dims(dims_of(batch[0], om.input.name))
        for _ in range(args.loop):
            begun = time.perf_counter()
            outputs = om.run(data)
            times.append((time.perf_counter() - begun) * 1000)
        parts = [np.array_split(output, group) for output in outputs]
        for row, path in enumerate(batch):
            stem = os.path.basename(path).split(".")[0]
            names = [prefix / f"{stem}_{k}.{args.outfmt.lower()}" for k in range(len(outputs))]
            for name, part in zip(names, parts):
                write(name, part[row], args.outfmt)
                if ERROR == "killed" and start:
                    os.truncate(name, 3)
                    os.kill(os.getpid(), 9)
            listed[str(len(listed))] = {"infiles": [path], "outfiles": [str(name) for name in names]}
    compute, batchsize = statistics(times), args.batchsize or om.shape[0]
    batchsize = batchsize / 2 if ERROR == "halved" else batchsize
    throughput = 1000 * batchsize / compute["mean"]
    transfer = statistics([0.0] * len(times))
    info("-----------------Performance Summary------------------")
    for name, figures in (("H2D_latency", transfer), ("NPU_compute_time", compute), ("D2H_latency", transfer)):
        if name == "NPU_compute_time" or args.display_all_summary:
            words = ", ".join(f"{key} = {value}" for key, value in figures.items() if key != "count")
            info(f"{name} (ms): {words}")
    info(f"throughput 1000*batchsize.mean({batchsize})/NPU_compute_time.mean({compute['mean']}): {throughput}")
    info("------------------------------------------------------")
    summary = {
        "filesinfo": listed,
        "args": sys.argv,
        "NPU_compute_time": compute,
        "H2D_latency": transfer,
        "D2H_latency": transfer,
        "npu_compute_time_list": times,
        "throughput": throughput,
        "pid": os.getpid(),
    }
    if ERROR != "silent":
        Path(f"{prefix}_summary.json").write_text(json.dumps(summary))
    return throughput


def main() -> int:
    args = parse_args()
    prefix = Path(args.output, args.output_dirname)
    files = None if args.input is None else list_files(args.input)
    if len(args.device) == 1:
        infer(args, args.device[0], files, prefix)
        return 0
    info(f"multidevice:{args.device} run begin")
    rates = []
    divided = args.divide_input and ERROR != "undivided"
    least, more = divmod(len(files or []), len(args.device))
    for i, device in enumerate(args.device):
        share = slice(i * least + min(i, more), (i + 1) * least + min(i + 1, more))
        try:
            rates.append(
                infer(args, device, files[share] if divided and files else files, prefix / f"device{device}_{i}")
            )
        except RuntimeError as error:  # the tool continues too: it has one process for each device
            print(f"[ERROR] subprocess run failed error_callback:{error}", flush=True)
    code = 0 if len(rates) == len(args.device) else 1
    info(f"multidevice run end qsize:{2 * len(rates)} result:{code}")
    info(f"summary throughput:{sum(rates)}")
    return code
