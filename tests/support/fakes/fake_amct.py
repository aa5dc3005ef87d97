"""A fake `amct_onnx` on PATH, written from its help text and CANN's documentation. It shares no code with this project,
so that it is an independent check of the arguments and files that amct_onnx is given.

It only inserts an AscendQuant and an AscendDequant before the first operator of the model (the real tool quantizes
each layer), and leaves a log in the working directory. FAKE_AMCT changes what it does: `nothing` writes no result,
`crash` fails, `float` quantizes nothing, `renamed` renames the output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx

MODE = os.environ.get("FAKE_AMCT", "")
FLAGS = ("model", "save_path", "input_shape", "data_dir", "data_types", "evaluator", "calibration_config", "batch_num")
NEEDED = FLAGS[:5]
BYTES = {"float32": 4, "float64": 8}


def read_flags(words: list[str]) -> dict[str, str]:
    """`--name value` or `--name=value`; the value of `--name= value` is empty, and the word after it is unknown."""
    if not words or words[0] != "calibration":
        sys.exit(f"usage: amct_onnx [-h] command ...: invalid command {words[:1]}")
    flags: dict[str, str] = {}
    rest = words[1:]
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or name[2:] not in FLAGS:
            sys.exit(f"amct_onnx: error: unrecognized arguments: {name}")
        flags[name[2:]] = value if equals or not rest else rest.pop(0)
    missing = [name for name in NEEDED if not flags.get(name)]
    if missing:
        sys.exit(f"amct_onnx: error: empty or missing: {missing}")
    return flags


def check_data(flags: dict[str, str]) -> None:
    """Each of the first files, in lexicographic order, is one whole batch of the input's shape."""
    size = BYTES[flags["data_types"]]
    for each in flags["input_shape"].rpartition(":")[2].split(","):
        size *= int(each)
    files = sorted(Path(flags["data_dir"]).iterdir())
    count = int(flags.get("batch_num", "1"))
    if len(files) < count or any(file.stat().st_size != size for file in files[:count]):
        sys.exit(f"[AMCT]: {len(files)} files for {count} batches of {size} bytes in {flags['data_dir']}")


def read_config(path: str, names: set[str]) -> list[str]:
    """The skip_layers of a file in protobuf's text format; each must be a node of the model."""
    skipped = []
    for line in Path(path).read_text().splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if (name, colon) != ("skip_layers", ":") or not (value.startswith('"') and value.endswith('"')):
            sys.exit(f"google.protobuf.text_format.ParseError: {line}")
        skipped.append(value[1:-1])
    unknown = [each for each in skipped if each not in names]
    if unknown:
        sys.exit(f"[AMCT]: skip_layers {unknown} not in the graph")
    return skipped


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["amct_float" if each == name else each for each in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("AscendDequant", ["amct_int8"], ["amct_float"], "dequant"))
    model.graph.node.insert(0, onnx.helper.make_node("AscendQuant", [name], ["amct_int8"], "quant"))
    if MODE == "renamed":
        model.graph.output[0].name += "_new"
    return model


def main() -> int:
    flags = read_flags(sys.argv[1:])
    Path("amct_log").mkdir()
    model = onnx.load(flags["model"])
    (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
    if not 8 <= opset <= 14:
        sys.exit(f"[AMCT]: opset {opset} is not supported")
    if flags["input_shape"].rpartition(":")[0] != model.graph.input[0].name:
        sys.exit(f"[AMCT]: no input {flags['input_shape']}")
    check_data(flags)
    skipped: list[str] = []
    if flags.get("calibration_config"):
        skipped = read_config(flags["calibration_config"], {node.name for node in model.graph.node})
    if MODE == "crash":
        print("[AMCT]: something is wrong")
        return 1
    if MODE != "nothing":
        onnx.save(model, f"{flags['save_path']}_fake_quant_model.onnx")
        result = model if MODE == "float" else quantize(model)
        onnx.helper.set_model_props(result, {"fake_amct.skipped": " ".join(skipped)})
        onnx.save(result, f"{flags['save_path']}_deploy_model.onnx")
        Path(f"{flags['save_path']}_quant.json").write_text(json.dumps(flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
