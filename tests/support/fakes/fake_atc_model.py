"""What the fake atc checks in the ONNX file: names, operators, sizes at each gear, and the AIPP file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import onnx
from fake_atc_rules import Gears, Rejected, Shapes, invalid

NEWEST_OPSET = 18  # the newest one that CANN documents
OF_AMCT = ("AscendQuant", "AscendDequant", "AscendWeightQuant")  # operators of amct_onnx, for which atc has parsers
AIPP = {"mean": 0.0, "min": 0.0, "var_reci": 1.0}  # default values of the fields for each channel


def load(path: str) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except Exception:  # protobuf's, the system's: no common base class
        model = onnx.ModelProto()
    if not (model.graph.node and model.graph.output and model.opset_import):
        raise Rejected("E10041", f"Failed to load the model from {path}.")
    return model


def check_model(
    model: onnx.ModelProto, flags: dict[str, str], shapes: Shapes, gears: Gears
) -> Optional[dict[str, list[float]]]:
    """Apply the rules that need the model; returns the values of the AIPP file, if there is one."""
    check_operators(model)
    check_quantized(model, flags)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in stored}
    for name, shape in shapes.items():
        if name not in inputs:
            raise not_found(name, "input_shape")
        rank = len(inputs[name].type.tensor_type.shape.dim)
        if len(shape) != rank:
            text = f"Dimension count {len(shape)} configured in --input_shape does not match dimension count {rank}"
            raise Rejected("E10049", f"{text} of the node.")
    check_out_nodes(model, flags.get("out_nodes", ""))
    for gear in gears or [[]]:
        check_shapes(model, at_gear(shapes, gear))
    return read_aipp(flags["insert_op_conf"], shapes) if "insert_op_conf" in flags else None


def at_gear(shapes: Shapes, gear: list[int]) -> Shapes:
    """`shapes` with the values of a gear in place of their -1s."""
    values = iter(gear)
    return {name: [next(values, -1) if size == -1 else size for size in shape] for name, shape in shapes.items()}


def not_found(name: str, flag: str) -> Rejected:
    return Rejected("E10016", f"Op name {name} specified in --{flag} is not found in the model.")


def check_operators(model: onnx.ModelProto) -> None:
    """Each operator is one of ONNX at a known opset; Resize is nearest or linear, by constant scales or sizes."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    constant = {tensor.name for tensor in model.graph.initializer}
    constant |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"} | {""}
    for node in model.graph.node:
        version = versions.get(node.domain, 0)
        if node.op_type in OF_AMCT and not node.domain:
            continue
        known = (
            not node.domain and version <= NEWEST_OPSET and onnx.defs.has(node.op_type, max_inclusive_version=version)
        )
        if not known:
            kind = f"{node.domain or 'ai.onnx'}::{version}::{node.op_type}"
            raise Rejected("E19010", f"No parser is registered for Op [{node.name}, optype [{kind}]].")
        if node.op_type == "Resize":
            mode = next((each.s.decode() for each in node.attribute if each.name == "mode"), "nearest")
            if mode not in ("nearest", "linear") or not set(node.input[1:]) <= constant:
                raise Rejected("E19999", f"Inner Error! Resize {node.name}: mode {mode}, or sizes that are computed")


def check_quantized(model: onnx.ModelProto, flags: dict[str, str]) -> None:
    """A model of amct_onnx allows no gears and not force_fp32."""
    if any(node.op_type in OF_AMCT for node in model.graph.node):
        gears = [name for name in flags if name.startswith("dynamic_")]
        if gears or flags.get("precision_mode") == "force_fp32":
            raise Rejected("E10055", f"The operation is not supported. Reason: {gears} for a quantized model.")


def check_out_nodes(model: onnx.ModelProto, text: str) -> None:
    """Names of outputs of the graph, or nodes with the index of an output; not both."""
    nodes = {node.name: len(node.output) for node in model.graph.node}
    outputs = {value.name for value in model.graph.output}
    entries = text.split(";") if text else []
    if len({":" in entry for entry in entries}) > 1:
        raise invalid("out_nodes", text, "Only one of index, top_name and output_name can be used.")
    for entry in entries:
        name, colon, index = entry.rpartition(":")
        if not colon and entry not in outputs:
            raise not_found(entry, "out_nodes")
        if colon and not (index.isdigit() and int(index) < nodes.get(name, 0)):
            raise not_found(name, "out_nodes")


def check_shapes(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Raise Rejected if the layers do not fit these sizes of the inputs."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, [])):
            dim.Clear()
            if size != -1:
                dim.dim_value = size
    try:
        onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise Rejected("E19999", f"Inner Error! [Infer][Shape] failed: {' '.join(str(error).split())}") from None


def read_aipp(path: str, shapes: Shapes) -> dict[str, list[float]]:
    """mean, min and var_reci of the three channels of a static AIPP file, for images of the input's size."""
    fields = dict(re.findall(r"(\w+) *: *([\w.-]+)", Path(path).read_text()))
    if (fields.get("aipp_mode"), fields.get("input_format")) != ("static", "RGB888_U8"):
        raise Rejected("E10052", "AIPP configuration is invalid. Reason: the fake only knows static RGB888_U8.")
    ((*_, height, width),) = shapes.values()
    if (fields.get("src_image_size_h"), fields.get("src_image_size_w")) != (str(height), str(width)):
        raise Rejected(
            "E10052", f"AIPP configuration is invalid. Reason: the image of the model is {width} x {height}."
        )
    on = [name for name in ("crop", "csc_switch", "rbuv_swap_switch") if fields.get(name, "false") != "false"]
    if on:
        raise Rejected("E10052", f"AIPP configuration is invalid. Reason: the fake does not know {', '.join(on)}.")
    return {name: [float(fields.get(f"{name}_chn_{i}", default)) for i in range(3)] for name, default in AIPP.items()}
