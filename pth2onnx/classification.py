"""Export a classification checkpoint to ONNX and prove that the file computes the same.

Reads a config and a checkpoint (hrnet/nets/checkpoint.py says which kinds); writes the ONNX file, input `image` float32
[batch, 3, H, W], output `class` float32 [batch, classes], and beside it `<output>.json` with the proof.

    python -m pth2onnx.classification --cfg configs/hrnet_w18.yaml --input weights/hrnet_w18.pth \\
        --output build/hrnet_w18/model.onnx --opset 11

Exported by torch.onnx's tracer, since its newer exporter writes opset 18 whatever opset is asked for.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional

import onnx
import onnxruntime
import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, WorkFailed, command, first_few
from hrnet.config import config_sha256, load_config
from hrnet.files import check_free_disk, make_folder, replacing, sha256_file
from hrnet.formats import write_record
from hrnet.nets import checkpoint, classification
from hrnet.nets.trunk import count_parameters
from pth2onnx.parity import BATCHES, SEED, images_like, prove

INPUT, OUTPUT = "image", "class"  # the names of the seed's ATC command and outputs
BYTES_OF_PARAMETER = 4  # float32
OPSETS = range(11, 19)  # what ATC documents: 11 on every CANN, up to 18 from CANN 7.0 on

# All that such a net needs; others would compute shapes, which ATC cannot take, or come from a changed exporter.
OPERATORS = frozenset(
    ("Conv", "Relu", "Add", "Resize", "GlobalAveragePool", "Flatten", "Gemm", "Sigmoid", "Mul", "Constant", "Identity")
)


def export(net: torch.nn.Module, size: Sequence[int], opset: int, file: Path) -> onnx.ModelProto:
    """Write `net` (in evaluation mode) as ONNX to `file` and read it back; only the batch is dynamic.

    `size`: width and height of the input in pixels.
    """
    width, height = size
    with warnings.catch_warnings():
        # That the tracer is the older exporter, told once in the caller's name and once in torch's own.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx\.")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, height, width),),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load(str(file))


def check_graph(model: onnx.ModelProto, opset: int) -> None:
    """Raise WorkFailed unless the model has the opset, names and operators that ATC is to get."""
    onnx.checker.check_model(model)
    graph = model.graph
    found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    names = [value.name for value in (*graph.input, *graph.output)]
    strangers = sorted({node.op_type for node in graph.node} - OPERATORS)
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    open_resizes = [
        node.name
        for node in graph.node
        if node.op_type == "Resize" and any(name and name not in constants for name in node.input[1:])
    ]
    if found != {"ai.onnx": opset}:
        raise WorkFailed(f"torch wrote opset {found} where {opset} was asked for")
    if names != [INPUT, OUTPUT]:
        raise WorkFailed(f"the graph's inputs and outputs are {names}, not {[INPUT, OUTPUT]}")
    if strangers:
        raise WorkFailed(f"the graph has operators that such a net does not need: {first_few(strangers)}")
    if open_resizes:
        raise WorkFailed(f"a Resize has no constant scales: {first_few(open_resizes)}")


def describe(name: str, config: CfgNode, weights_sha256: str, opset: int) -> dict[str, str]:
    """What the file tells about itself in its metadata_props."""
    return {
        "model": name,
        "config_sha256": config_sha256(config),
        "weights_sha256": weights_sha256,
        "torch_version": torch.__version__,
        "opset": str(opset),
    }


def run(cfg: Path, weights: Path, output: Path, opset: int) -> None:
    """Export, check, prove, then put the file and its record in place."""
    if opset not in OPSETS:
        raise UserError("--opset", expected=f"{OPSETS[0]} to {OPSETS[-1]}", found=opset)
    config = load_config(cfg)
    net = classification.build(config).eval()
    metadata = describe(cfg.stem, config, checkpoint.load(net, weights), opset)
    size, mean, std = config.MODEL.IMAGE_SIZE, config.INPUT.MEAN, config.INPUT.STD
    make_folder(output.parent)
    check_free_disk(output.parent, BYTES_OF_PARAMETER * count_parameters(net))
    with replacing(output) as temporary:
        model = export(net, size, opset, temporary)
        check_graph(model, opset)
        onnx.helper.set_model_props(model, metadata)
        temporary.write_bytes(model.SerializeToString())
        parity = prove(net, temporary, [images_like(batch, size, mean, std, SEED + batch) for batch in BATCHES])
        record = {
            "model_sha256": sha256_file(temporary),
            **asdict(parity),
            "metadata": metadata,
            "tool": f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}",
        }
        write_record(f"{output}.json", "export", record)
    told = f"opset {opset}, {count_parameters(net) / 1e6:.1f} M parameters"
    proof = f"max |difference| {parity.max_abs_difference:.0e}, cosine {parity.cosine:.6f}"
    print(f"wrote {output} ({told}, {proof})")


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pth2onnx.classification", description="Checkpoint to ONNX.")
    parser.add_argument("--cfg", type=Path, required=True, help="the model's config, ours or upstream's (.yaml)")
    parser.add_argument("--input", type=Path, required=True, help="checkpoint (.pth, .pth.tar, .safetensors)")
    parser.add_argument("--output", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--opset", type=int, default=11, help="ONNX operator set (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.cfg, args.input, args.output, args.opset)


if __name__ == "__main__":
    raise SystemExit(main())
