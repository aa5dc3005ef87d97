"""What the exporters of this folder share: a net is written as ONNX, whose graph is checked, or as TorchScript; the
file is proven equal to torch; then it and its record take their names. `pth2onnx.classification` shows its use.

ONNX is exported by torch.onnx's tracer, since its newer exporter writes opset 18 whatever opset is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, WorkFailed, first_few
from hrnet.config import config_sha256
from hrnet.io.files import check_free_disk, make_folder, replacing, sha256_file
from hrnet.io.records import write_record
from hrnet.nets.trunk import count_parameters
from pth2onnx.parity import prove

BYTES_OF_PARAMETER = 4  # float32
TOOLS = (f"onnx {onnx.__version__}", f"onnxruntime {onnxruntime.__version__}")  # of an ONNX file, besides torch
OPSETS = range(11, 19)  # what ATC documents: 11 on every CANN, up to 18 from CANN 7.0 on


@dataclass(frozen=True)
class Interface:
    """What a kind of file looks like from outside, and of which operators it is made."""

    input: str
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]  # the dynamic ones: {tensor: {axis: name}}
    # All that such a net needs; others would compute shapes, which ATC cannot take, or come from a changed exporter.
    operators: frozenset[str]


def check_opset(opset: int) -> None:
    if opset not in OPSETS:
        raise UserError("--opset", expected=f"{OPSETS[0]} to {OPSETS[-1]}", found=opset)


def export(net: torch.nn.Module, interface: Interface, image: np.ndarray, opset: int, file: Path) -> onnx.ModelProto:
    """Write `net` (in evaluation mode) as ONNX to `file`, traced on `image`, float32 [N, 3, H, W], and read it back."""
    with warnings.catch_warnings():
        # That the tracer is the older exporter, told once in the caller's name and once in torch's own.
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
            dynamo=False,
        )
    model = onnx.load(str(file))
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in interface.axes.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = name  # the tracer lets one name stand for several sizes
    return model


def check_graph(model: onnx.ModelProto, interface: Interface, opset: int) -> None:
    """Raise WorkFailed unless the model has the opset, names and operators that ATC is to get."""
    onnx.checker.check_model(model)
    graph = model.graph
    found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    names = [value.name for value in (*graph.input, *graph.output)]
    expected = [interface.input, *interface.outputs]
    strangers = sorted({node.op_type for node in graph.node} - interface.operators)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    resizes = [(node.name, name) for node in graph.node if node.op_type == "Resize" for name in node.input[1:] if name]
    open_ones = [node for node, name in resizes if name not in constants]
    if found != {"ai.onnx": opset}:
        raise WorkFailed(f"torch wrote opset {found} where {opset} was asked for")
    if names != expected:
        raise WorkFailed(f"the graph's inputs and outputs are {names}, not {expected}")
    if strangers:
        raise WorkFailed(f"the graph has operators that such a net does not need: {first_few(strangers)}")
    if open_ones:
        raise WorkFailed(f"a Resize has no constant scales: {first_few(open_ones)}")
    # ATC may round by other rules than torch's; by whole factors these give the same pixels.
    broken = [node for node, name in resizes if (constants[name] % 1).any()]
    if broken:
        raise WorkFailed(f"a Resize is not by a whole factor: {first_few(broken)}")


def describe(name: str, config: CfgNode, weights_sha256: str) -> dict[str, str]:
    """What a file tells about itself, as metadata of its own kind."""
    return {
        "model": name,
        "config_sha256": config_sha256(config),
        "weights_sha256": weights_sha256,
        "torch_version": torch.__version__,
    }


def write_onnx(
    traced: torch.nn.Module, interface: Interface, image: np.ndarray, metadata: Mapping[str, str], file: Path
) -> None:
    """Write the net as `export` does, with `metadata` (and in it the opset), once its graph is checked."""
    opset = int(metadata["opset"])
    model = export(traced, interface, image, opset, file)
    check_graph(model, interface, opset)
    onnx.helper.set_model_props(model, dict(metadata))
    file.write_bytes(model.SerializeToString())


def write(
    net: torch.nn.Module,
    images: Sequence[np.ndarray],
    metadata: Mapping[str, str],
    output: Path,
    kind: str,
    make: Callable[[Path], None],
) -> None:
    """Let `make` write the net as a file of `kind` (parity.KINDS), prove it against `net` on `images`, then put it and
    its record in place. `metadata` as `describe` gives it, of ONNX with the opset."""
    make_folder(output.parent)
    check_free_disk(output.parent, BYTES_OF_PARAMETER * count_parameters(net))
    with replacing(output) as temporary:
        make(temporary)
        parity = prove(net, temporary, images, kind)
        record = {
            "model_sha256": sha256_file(temporary),
            **asdict(parity),
            "metadata": dict(metadata),
            "tool": ", ".join([f"torch {torch.__version__}", *(TOOLS if kind == "ONNX" else [])]),
        }
        write_record(f"{output}.json", "export", record)
    opset = f"opset {metadata['opset']}, " if "opset" in metadata else ""
    told = f"{opset}{count_parameters(net) / 1e6:.1f} M parameters"
    proof = f"max |difference| {parity.max_abs_difference:.0e}, cosine {parity.cosine:.6f}"
    print(f"wrote {output} ({told}, {proof})")
