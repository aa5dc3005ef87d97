"""Shared by the exporters: write a network as ONNX or TorchScript, compare its outputs with PyTorch's, then move the
file and its record to their final names.

The ONNX file is written by torch.onnx's tracing exporter: if opset 11 is requested, the newer exporter fails to convert
these networks and writes opset 18.
"""

from __future__ import annotations

import inspect
import warnings
from argparse import ArgumentParser as Parser
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import onnx
import onnxruntime
import torch
from yacs.config import CfgNode

from hrnet.cli import WorkFailed, first_few, integer
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.io.files import check_free_disk, make_folder, replacing, sha256_file
from hrnet.io.records import write_record
from hrnet.io.stamp import Stamp, is_current, touch, write_stamp
from hrnet.nets import checkpoint
from hrnet.nets.trunk import count_parameters
from pth2onnx.parity import check_parity

BYTES_OF_PARAMETER = 4  # float32
TOOLS = {
    "ONNX": f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}",
    "TorchScript": f"torch {torch.__version__}",
}
OPSETS = (11, 18)  # documented for ATC: 11 for every CANN version, up to 18 since CANN 7.0

Net = torch.nn.Module
Writer = Callable[[Net, np.ndarray, Mapping[str, str], Path], None]  # network, image to trace with, metadata, file


@dataclass(frozen=True)
class Interface:
    """Inputs, outputs and operators of an exported file."""

    input: str
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]  # dynamic axes: {tensor: {axis: name}}
    # All that these networks need. Any other operator would compute shapes, which ATC does not support, or show that
    # torch's exporter has changed.
    operators: frozenset[str]


@dataclass(frozen=True)
class Task:
    """What differs between classification and pose."""

    name: str  # MODEL.NAME in the configs
    build: Callable[[CfgNode], Net]
    interface: Callable[[CfgNode], Interface]
    images: Callable[[CfgNode], list[np.ndarray]]  # batches to compare, float32 [N, 3, H, W]
    fold: Callable[[Net], Net]  # folds batch norms that PyTorch's exporters leave in the graph


def tracing_exporter_option() -> dict[str, Any]:
    """The argument of torch.onnx.export that selects the tracing exporter; torch 2.1 has only this exporter."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def trace_onnx(net: Net, interface: Interface, image: np.ndarray, opset: int, file: Path) -> onnx.ModelProto:
    """Trace `net` (in evaluation mode) with `image`, float32 [N, 3, H, W], write it as ONNX to `file` and read the
    file."""
    with warnings.catch_warnings():
        # Two warnings that the tracing exporter is deprecated, with different modules as their origin.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx\.")
        torch.onnx.export(
            net,
            (torch.from_numpy(image),),
            str(file),
            input_names=[interface.input],
            output_names=list(interface.outputs),
            dynamic_axes={name: dict(axes) for name, axes in interface.axes.items()},
            opset_version=opset,
            **tracing_exporter_option(),
        )
    model = onnx.load(str(file))
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in interface.axes.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = name  # the exporter uses one name for several axes
    return model


def check_graph(model: onnx.ModelProto, interface: Interface, opset: int) -> None:
    """Raise WorkFailed if the opset, the names or the operators of the model are not as required for ATC."""
    onnx.checker.check_model(model)
    graph = model.graph
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": opset}:
        raise WorkFailed("wrong opset in the ONNX file that torch wrote", expected=opset, found=opsets)
    names, expected = [value.name for value in (*graph.input, *graph.output)], [interface.input, *interface.outputs]
    if names != expected:
        raise WorkFailed("wrong inputs or outputs in the ONNX file that torch wrote", expected=expected, found=names)
    unknown = sorted({node.op_type for node in graph.node} - interface.operators)
    if unknown:
        raise WorkFailed("unexpected operators in the ONNX file that torch wrote", found=first_few(unknown))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    resizes = [(node.name, name) for node in graph.node if node.op_type == "Resize" for name in node.input[1:] if name]
    computed = [node for node, name in resizes if name not in constants]
    if computed:
        raise WorkFailed("the scale of a Resize is not a constant", found=first_few(computed))
    # ATC may round differently from PyTorch; with integer scales the result is always the same.
    broken = [node for node, name in resizes if (constants[name] % 1).any()]
    if broken:
        raise WorkFailed("the scale of a Resize is not an integer", found=first_few(broken))


def onnx_writer(interface: Interface, opset: int) -> Writer:
    """A Writer for ONNX: calls `trace_onnx`, checks the graph and adds the metadata."""

    def write(net: Net, image: np.ndarray, metadata: Mapping[str, str], file: Path) -> None:
        model = trace_onnx(net, interface, image, opset, file)
        check_graph(model, interface, opset)
        onnx.helper.set_model_props(model, dict(metadata))
        file.write_bytes(model.SerializeToString())

    return write


def export(
    task: Task,
    cfg: Path,
    weights: Path,
    output: Path,
    kind: str,
    script: str,
    write: Writer,
    settings: Mapping[str, str],
) -> None:
    """Write `output` by `write`, compare it with PyTorch, then write its record. `kind`: the file format, a key of
    parity.KINDS; `settings`: added to the metadata; `script`: the caller's module name. Raises WorkFailed if the
    outputs differ; then no file is written."""
    config = load_config(cfg, task.name)
    checkpoint.check_exists(weights)
    metadata = {"model": cfg.stem, "config_sha256": config_sha256(config)}
    stamp = Stamp.compute([script], {**metadata, **settings, "tool": TOOLS[kind]}, {"weights": weights})
    records = [Path(f"{output}.json"), output]
    if is_current(output, stamp, records):
        return touch(output, records)
    net, images = task.build(config).eval(), task.images(config)
    metadata |= {"weights_sha256": checkpoint.load(net, weights), "torch_version": torch.__version__, **settings}
    make_folder(output.parent)
    check_free_disk(output.parent, BYTES_OF_PARAMETER * count_parameters(net))
    with replacing(output) as temporary:
        write(task.fold(net), images[0], metadata, temporary)
        parity = check_parity(net, temporary, images, kind)
        record = {"model_sha256": sha256_file(temporary), **asdict(parity), "metadata": metadata, "tool": TOOLS[kind]}
        write_record(f"{output}.json", "export", record)
    write_stamp(output, stamp, records)
    details = [f"{name} {value}" for name, value in settings.items()]
    details += [f"{count_parameters(net) / 1e6:.1f} M parameters"]
    details += [
        f"difference {parity.max_abs_difference:.0e} of {parity.tolerance:.0e} allowed, cosine {parity.cosine:.6f}"
    ]
    return print(f"wrote {output} ({', '.join(details)})")


def export_onnx(task: Task, script: str, args: Namespace) -> None:
    """Export to ONNX with the arguments of `parser`."""
    write = onnx_writer(task.interface(load_config(args.cfg, task.name)), args.opset)
    export(task, args.cfg, args.weights, args.output, "ONNX", script, write, {"opset": str(args.opset)})


def parser(script: str, kind: str, *, weights: str = "", output: str = "", cfg: Optional[str] = None) -> Parser:
    """The argument parser of an exporter. `weights`, `output`: the model zoo's aliases of these flags; `cfg`: the
    default config."""
    result = Parser(prog=f"python -m {script}", description=f"Export a checkpoint to {kind}.")
    add_cfg_argument(result, cfg)
    for name, alias, text in (
        ("--weights", weights, "checkpoint (.pth, .pth.tar, .safetensors, .pdparams)"),
        ("--output", output, f"{kind} file to write"),
    ):
        result.add_argument(*filter(None, (name, alias)), dest=name[2:], type=Path, required=True, help=text)
    if kind == "ONNX":
        result.add_argument("--opset", type=integer(*OPSETS), default=11, help="ONNX operator set (%(default)s)")
    return result
