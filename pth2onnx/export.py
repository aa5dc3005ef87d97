"""Library of the exporters: write a net as ONNX or TorchScript, prove that the file computes what torch computes, then
put the file and its record in place.

ONNX is written by torch.onnx's tracer: its newer exporter writes opset 18 whatever opset is asked for.
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
from pth2onnx.parity import prove

BYTES_OF_PARAMETER = 4  # float32
TOOLS = {
    "ONNX": f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}",
    "TorchScript": f"torch {torch.__version__}",
}
OPSETS = (11, 18)  # the range that ATC documents: 11 on every CANN, up to 18 from CANN 7.0 on

Net = torch.nn.Module
Writer = Callable[[Net, np.ndarray, Mapping[str, str], Path], None]  # net, image to trace on, metadata, file


@dataclass(frozen=True)
class Interface:
    """Inputs, outputs and operators of an exported file."""

    input: str
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]  # the dynamic ones: {tensor: {axis: name}}
    # All that such a net needs. Any other would compute shapes, which ATC does not support, or come from a changed
    # exporter.
    operators: frozenset[str]


@dataclass(frozen=True)
class Task:
    """What differs between classification and pose."""

    name: str  # MODEL.NAME of its configs
    build: Callable[[CfgNode], Net]
    interface: Callable[[CfgNode], Interface]
    images: Callable[[CfgNode], list[np.ndarray]]  # compared with torch: float32 [N, 3, H, W] each
    fold: Callable[[Net], Net]  # a net with the batch norms folded that torch's exporters leave in


def older_exporter() -> dict[str, Any]:
    """The argument of torch.onnx.export for the exporter that traces; torch 2.1 has no other one."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def trace_onnx(net: Net, interface: Interface, image: np.ndarray, opset: int, file: Path) -> onnx.ModelProto:
    """Write `net` (in evaluation mode) as ONNX to `file`, traced on `image`, float32 [N, 3, H, W], and read it back."""
    with warnings.catch_warnings():
        # That the tracer is the older exporter: one warning names the caller, one torch's own module.
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
            **older_exporter(),
        )
    model = onnx.load(str(file))
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in interface.axes.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = name  # the tracer uses one name for several sizes
    return model


def check_graph(model: onnx.ModelProto, interface: Interface, opset: int) -> None:
    """Raise WorkFailed unless the model has the opset, names and operators that ATC needs."""
    onnx.checker.check_model(model)
    graph = model.graph
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": opset}:
        raise WorkFailed("torch wrote another opset", expected=opset, found=opsets)
    names, expected = [value.name for value in (*graph.input, *graph.output)], [interface.input, *interface.outputs]
    if names != expected:
        raise WorkFailed("inputs and outputs of the graph", expected=expected, found=names)
    unknown = sorted({node.op_type for node in graph.node} - interface.operators)
    if unknown:
        raise WorkFailed("the graph has operators that such a net does not need", found=first_few(unknown))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    resizes = [(node.name, name) for node in graph.node if node.op_type == "Resize" for name in node.input[1:] if name]
    computed = [node for node, name in resizes if name not in constants]
    if computed:
        raise WorkFailed("a Resize has no constant scales", found=first_few(computed))
    # ATC may round by other rules than torch; for whole factors all rules give the same pixels.
    broken = [node for node, name in resizes if (constants[name] % 1).any()]
    if broken:
        raise WorkFailed("the scale of a Resize is not a whole number", found=first_few(broken))


def onnx_writer(interface: Interface, opset: int) -> Writer:
    """Writes a net as `trace_onnx` does, checks the graph, and adds the metadata."""

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
    """Write `output` (a file of `kind`, a key of parity.KINDS) by `write`, prove it, then put it and its record in
    place. `settings` are part of the metadata; `script` is the module name of the caller."""
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
        parity = prove(net, temporary, images, kind)
        record = {"model_sha256": sha256_file(temporary), **asdict(parity), "metadata": metadata, "tool": TOOLS[kind]}
        write_record(f"{output}.json", "export", record)
    write_stamp(output, stamp, records)
    details = [f"{name} {value}" for name, value in settings.items()]
    details += [f"{count_parameters(net) / 1e6:.1f} M parameters"]
    details += [f"max |difference| {parity.max_abs_difference:.0e}, cosine {parity.cosine:.6f}"]
    return print(f"wrote {output} ({', '.join(details)})")


def export_onnx(task: Task, script: str, args: Namespace) -> None:
    """Export to ONNX; `args` of `parser`."""
    write = onnx_writer(task.interface(load_config(args.cfg, task.name)), args.opset)
    export(task, args.cfg, args.weights, args.output, "ONNX", script, write, {"opset": str(args.opset)})


def parser(script: str, kind: str, *, weights: str = "", output: str = "", cfg: Optional[str] = None) -> Parser:
    """The arguments of an exporter to `kind`. `weights`, `output`: the model zoo's names of these flags; `cfg`: the
    default."""
    found = Parser(prog=f"python -m {script}", description=f"Export a checkpoint to {kind}.")
    add_cfg_argument(found, cfg)
    for name, alias, text in (
        ("--weights", weights, "checkpoint (.pth, .pth.tar, .safetensors)"),
        ("--output", output, f"{kind} file to write"),
    ):
        found.add_argument(*filter(None, (name, alias)), dest=name[2:], type=Path, required=True, help=text)
    if kind == "ONNX":
        found.add_argument("--opset", type=integer(*OPSETS), default=11, help="ONNX operator set (%(default)s)")
    return found
