"""A fake `msprobe` on PATH: `msprobe compare -m offline_model`, written from mindstudio-probe 26.2.0
(core/compare/compare_cli.py, infer/offline/compare/msquickcmp). It shares no code with this project.

The .om is that of the fake atc (`IMOD`, a line of JSON, the ONNX file). The fake runs the .om and the ONNX file of -gp
with all outputs, and rounds the outputs of the .om to float16. Like the real tool, it accepts options only as
`name value`, needs one file with a whole batch, and exits with 0 if -gp is missing. Its table also has a row that only
the NPU has, and one of the whole net without figures.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

MODE = os.environ.get("FAKE_MSPROBE", "")
ALLOWED = ("--mode", "-m", "--target_path", "-tp", "--golden_path", "-gp", "--output_path", "-o", "--rank")
ALLOWED += ("--input_data", "--input_shape", "--output_size", "--dym_shape_range", "-ofs", "--onnx_fusion_switch")
# fmt: off
HEADER = [
    "Index", "OpType", "NPUDump", "GroundTruth", "CosineSimilarity", "RelativeEuclideanDistance",
    "KullbackLeiblerDivergence", "RootMeanSquareError", "MeanRelativeError", "IsNpuOps", "IsOutputNode",
    "IsPrecisionError",
]
# fmt: on


def outputs(model: onnx.ModelProto, batch: np.ndarray) -> dict[str, np.ndarray]:
    """The float outputs of all nodes, by node."""
    known = {value.name for value in model.graph.output}
    names = {node.output[0]: node.name for node in model.graph.node if node.op_type != "Constant"}
    for name in names:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(names), {session.get_inputs()[0].name: batch})
    return {names[name]: value for name, value in zip(names, found) if value.dtype == np.float32}


def row(number: int, node: str, golden: np.ndarray, found: np.ndarray) -> list[object]:
    a, b = golden.ravel().astype(np.float64), found.ravel().astype(np.float64)
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    distance = np.linalg.norm(a - b) / np.linalg.norm(a)
    root = float(np.sqrt(((a - b) ** 2).mean()))
    bad = cosine < 0.99 or distance > 0.05 or root > 1
    figures = [f"{cosine:.6f}", f"{distance:.6f}", "0.000000", f"{root:.6f}", "0.000000"]
    return [number, "Op", node, node, *figures, "NO", "NO", "YES" if bad else "NO"]


def main() -> int:
    wrong = [word for word in sys.argv[2:] if word.startswith("-") and word not in ALLOWED]
    if sys.argv[1:2] != ["compare"] or wrong:
        print(f"[ERROR] Invalid argument '{(wrong or sys.argv[1:2])[0]}' for mode 'offline_model'")
        return 1
    parser = argparse.ArgumentParser(prog="msprobe")
    for names in (("-m", "--mode"), ("-tp", "--target_path"), ("-gp", "--golden_path"), ("-o", "--output_path")):
        parser.add_argument(*names, dest=names[1][2:])
    for name in ("--input_data", "--input_shape", "--rank"):
        parser.add_argument(name)
    args = parser.parse_args(sys.argv[2:])
    if args.mode != "offline_model" or not args.target_path.endswith(".om"):
        print("[ERROR] the target is not an offline model")
        return 1
    if not args.golden_path:
        print("[ERROR] The following args are required: -gp/--golden_path")
        return 0
    if MODE == "fails":
        print("[ERROR] aclInit failed")
        return 1
    if not Path(args.input_data).is_file() or not 0 <= int(args.rank) <= 255:
        print("[ERROR] The '--input_data' parameter only supports file paths, not folder paths.")
        return 1
    shape = [int(size) for size in args.input_shape.rpartition(":")[2].split(",")]
    values = np.fromfile(args.input_data, np.float32)
    if values.size != np.prod(shape):
        print(f"[ERROR] the size of the input is {values.size}, expected {shape}")
        return 1
    om = Path(args.target_path).read_bytes()
    compiled = onnx.load_from_string(om[om.index(b"\n") + 1 :])
    golden = outputs(onnx.load(args.golden_path), values.reshape(shape))
    found = outputs(compiled, values.reshape(shape))
    folder = Path(args.output_path) / time.strftime("%Y%m%d%H%M%S")
    folder.mkdir(parents=True)
    if MODE == "nothing":
        return 0
    with open(folder / f"result_{folder.name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerow([0, "TransData", "trans_0", "*", "NaN", "NaN", "NaN", "NaN", "NaN", "YES", "NO", "NO"])
        for number, (node, value) in enumerate(golden.items(), 1):
            with np.errstate(over="ignore"):
                rounded = found[node].astype(np.float16).astype(np.float32)
            writer.writerow(row(number, node, value, rounded))
        writer.writerow([len(golden) + 1, "NaN", "Node_Output", "Node_Output", *["NaN"] * 5, "NO", "NO", "NO"])
    return 0


sys.exit(main())
