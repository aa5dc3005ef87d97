"""Emulator of atc for machines without CANN: the same arguments, rules and messages; compiles for onnxruntime.

    python -m atc.emulator --framework=5 --model=hrnet_w18.onnx --input_format=NCHW \\
        --input_shape="image:16,3,224,224" --output=hrnet_bs16 --soc_version=Ascend310P3 --log=error

Reads --model and writes --output with suffix `.onnx` (atc: `.om`): an optimised graph with fixed input shapes. Its
metadata are those of the model and all arguments as `atc.<name>` (of a path only the last part, so that results in
different directories are equal). Exit code 0, or 255 with ATC's error message and no file.

- The default precision is float32 (ATC's force_fp32); the default of atc is force_fp16. With
  --precision_mode=force_fp16 or --precision_mode_v2=fp16 values inside the model are rounded to float16
  (atc.emulator.half), except in the operators that --keep_dtype lists.
- With --insert_op_conf the first input becomes uint8 NHWC, followed by the arithmetic of the AIPP file in float32
  (atc.emulator.aipp). With fp16 the result of this arithmetic is rounded too.
- A -1 in --input_shape remains a dynamic axis. The gears of --dynamic_dims are checked against the model and recorded;
  infer.emulator rejects other shapes, as the device does.
- For a model of amct.emulator, --precision_mode=force_fp32 is rejected, as atc rejects it for models of amct_onnx.
  Gears are rejected too, unless the model was quantized with -1 in --input_shape, which only amct.emulator supports.
- --out_nodes accepts only names of graph outputs.
- Any name with the form of a chip's name is accepted: the list of chips depends on the release of atc.
- Parameters without a meaning for onnxruntime (--buffer_optimize, --op_select_implmode, --log, --soc_version …) are
  checked and recorded. Other parameters that would change the result, such as --dynamic_batch_size, are rejected with
  E10055.

Some texts are our own, in ATC's form: the reasons of E10055, of E10001 for an invalid --keep_dtype and for a shape that
the model does not support, and of E10041 for a model that onnxruntime cannot load.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import onnxruntime

from atc import atc_rules, flags, graph
from atc.emulator import aipp, half
from atc.emulator.aipp import not_emulated
from atc.shapes import DYNAMIC, GEAR_PARAMETERS, AtcError, at_gear, invalid
from hrnet.cli import UserError, command
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import make_folder, replacing
from hrnet.keep_float import locate, read_list

FAILED = 255
SUFFIX = ".onnx"
METADATA_PREFIX = "atc."

# At higher levels, onnxruntime writes operators that work only on one kind of processor.
LEVEL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
FATAL_ONLY = 4  # onnxruntime's log severity; all errors are also raised as exceptions

# Parameters with any value; `log` and the following have no meaning for onnxruntime.
# fmt: off
_ANY_VALUE = (
    "framework", "model", "output", "input_format", "input_shape", "soc_version",
    "log", "check_report", "op_select_implmode", "optypelist_for_implmode", "buffer_optimize", "enable_small_channel",
    "disable_reuse_memory", "enable_single_stream", "core_type", "aicore_num", "debug_dir", "op_debug_level",
    "op_compiler_cache_mode", "op_compiler_cache_dir", "mdl_bank_path", "op_bank_path", "host_env_os", "host_env_cpu",
    "input_hint_shape", "op_debug_config", "deterministic", "deterministic_level", "status_check", "virtual_type",
    "shape_generalized_build_mode", "sparsity", "oo_level", "optimization_switch", "build_config", "cluster_config",
    "allow_hf32", "jit_compile", "fusion_switch_file",
)
# fmt: on
PATHS = ("model", "output", "insert_op_conf", *flags.FILES, *flags.FOLDERS)
FP16_INSIDE = (("precision_mode", "force_fp16"), ("precision_mode_v2", "fp16"))
USE_FP32 = "give --precision_mode=force_fp32 (PRECISION=fp32)"
INT8_KEY = "amct.input_shape"  # metadata key of a model that amct.emulator quantized; the value has -1 for gears
NOT_FOR_INT8 = (*GEAR_PARAMETERS, "input_shape_range")
EMULATED: dict[str, tuple[str, ...]] = {
    "mode": ("0",),
    "precision_mode": ("force_fp16", "force_fp32", "must_keep_origin_dtype"),
    "precision_mode_v2": ("fp16", "origin"),
    "output_type": ("FP32",),
    "insert_op_conf": (),
    "dynamic_dims": (),
    "out_nodes": (),
    "keep_dtype": (),
    **dict.fromkeys(_ANY_VALUE, ()),
}


def check_emulated(arguments: Mapping[str, str]) -> None:
    """Raise AtcError E10055 for arguments that are not emulated and would change the result."""
    for name, value in arguments.items():
        if name not in EMULATED or (EMULATED[name] and value not in EMULATED[name]):
            raise not_emulated(f"--{name}={value}")
    if any(index >= 0 for _, index in atc_rules.out_nodes(arguments)):
        raise not_emulated(f"--out_nodes={arguments['out_nodes']}, nodes instead of names of outputs")
    if any(isinstance(dim, tuple) for shape in atc_rules.input_shapes(arguments).values() for dim in shape):
        raise not_emulated("a shape range (n1~n2) in --input_shape")


def check_int8(arguments: Mapping[str, str], model: onnx.ModelProto) -> None:
    """Raise AtcError E10055 for arguments that atc does not allow for a model of amct_onnx. Gears are allowed for a
    model that was quantized for them, which only amct.emulator can."""
    shape = next((entry.value for entry in model.metadata_props if entry.key == INT8_KEY), None)
    if shape is None:
        return
    rejected = [name for name in NOT_FOR_INT8 if name in arguments and str(DYNAMIC) not in shape.rpartition(":")[2]]
    rejected += [name for name in ("precision_mode",) if arguments.get(name) == "force_fp32"]
    if rejected:
        reason = f"A quantized model does not support --{rejected[0]}={arguments[rejected[0]]}."
        raise AtcError("E10055", f"The operation is not supported. Reason: {reason}")


def read_conf(path: str) -> str:
    """The content of the --insert_op_conf file. Raises AtcError: E10001 for a missing file (ATC's text),
    E10052 for a file that is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise invalid("insert_op_conf", path, f"realpath error, errmsg:{os.strerror(errno.ENOENT)}") from None
    except UnicodeDecodeError:
        raise aipp.invalid(f"{path} is not UTF-8 text") from None


def read_kept(path: str, model: onnx.ModelProto) -> list[str]:
    """The nodes in the --keep_dtype file. Raises AtcError E10001 for a missing file and an unknown node."""
    try:
        return read_list(path, model.graph)
    except UserError as error:
        found = f": {error.found}" if error.found else ""
        raise invalid("keep_dtype", path, f"{error.what}{found}") from None


def metadata(arguments: Mapping[str, str]) -> dict[str, str]:
    """The metadata entries for the arguments."""
    recorded = {name: Path(value).name if name in PATHS else value for name, value in arguments.items()}
    return {METADATA_PREFIX + name: value for name, value in recorded.items()}


def _session(model: object, save_as: Optional[Path] = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVEL
    options.log_severity_level = FATAL_ONLY
    if save_as is not None:
        options.optimized_model_filepath = str(save_as)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _can_load(content: bytes) -> bool:
    try:
        _session(content)
    except Exception:
        return False
    return True


def _reason(error: Exception) -> str:
    """onnxruntime's error text in one line, without its prefix."""
    return " ".join(str(error).split(" : ", 3)[-1].split())


def optimise(model: onnx.ModelProto, path: object) -> onnx.ModelProto:
    """The graph after onnxruntime's basic optimisations. Raises AtcError E10041 if onnxruntime cannot load it."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.onnx"
        content = model.SerializeToString()
        try:
            session = _session(content, saved)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            if _can_load(content):  # then writing failed, for example on a full disk
                raise OSError(errno.EIO, f"cannot be written: {_reason(error)}", str(saved)) from None
            raise AtcError("E10041", f"Failed to load the model from {path}. onnxruntime: {_reason(error)}") from None
        compiled = onnx.load(saved)
    for value, found in zip(compiled.graph.output, session.get_outputs()):
        graph.set_shape(value, [size if isinstance(size, int) else DYNAMIC for size in found.shape])
    used = {node.domain for node in compiled.graph.node} | {""}
    kept = [entry for entry in compiled.opset_import if entry.domain in used]
    del compiled.opset_import[:]
    compiled.opset_import.extend(kept)
    return compiled


def with_half(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """`model` with values rounded to float16, except in the nodes `kept`. Raises AtcError E10055 if the model or
    onnxruntime is unsuitable."""
    try:
        # infer uses onnxruntime's default level, where version 1.16 removes the casts and silently computes float32.
        content = half.to_half(half.probe()).SerializeToString()
        probe = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        if np.isfinite(probe.run(None, {"x": np.array([300], np.float32)})[0]).any():
            raise ValueError(f"fp16 with onnxruntime {onnxruntime.__version__}, which removes the casts")
        return half.to_half(model, kept)
    except ValueError as error:
        raise not_emulated(str(error), USE_FP32) from None


def try_out(path: Path, inputs: Sequence[TensorInfo], argument: str, value: str) -> dict[str, list[int]]:
    """Load the compiled file and run it on zeros; returns {output: shape}, {} if an axis is dynamic.

    Raises AtcError E10001 if this fails; the error reports the input shape as the `value` of `argument`.
    """
    try:
        session = _session(str(path))
        if any(DYNAMIC in tensor.shape for tensor in inputs):
            return {}
        results = session.run(None, {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in inputs})
    except Exception as error:
        raise invalid(argument, value, f"The model does not run with this shape: {_reason(error)}") from None
    return {found.name: list(result.shape) for found, result in zip(session.get_outputs(), results)}


def check_gears(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], gears: Sequence[Sequence[int]]) -> None:
    """Raise AtcError E10001 for a gear that the model does not support."""
    for gear in gears:
        try:
            graph.output_shapes(model, at_gear(shapes, gear), strict=True)
        except ValueError as error:
            value = ",".join(map(str, gear))
            raise invalid("dynamic_dims", value, f"The model does not run with this shape: {error}") from None


def compile_model(arguments: Mapping[str, str]) -> Path:
    """Compile --model to --output and return the path of the written file. Raises AtcError."""
    atc_rules.check_arguments(arguments)
    check_emulated(arguments)
    conf = aipp.read(read_conf(arguments["insert_op_conf"])) if "insert_op_conf" in arguments else None
    model = graph.read(arguments["model"])
    check_int8(arguments, model)
    atc_rules.check_model(arguments, graph.describe(model))
    floats = read_kept(arguments["keep_dtype"], model) if "keep_dtype" in arguments else []
    shapes = atc_rules.input_shapes(arguments)
    fixed = {name: [dim for dim in shape if isinstance(dim, int)] for name, shape in shapes.items()}
    gears = atc_rules.gears(arguments)
    if "out_nodes" in arguments:
        values = {value.name: value for value in model.graph.output}
        kept_outputs = [values[name] for name, _ in atc_rules.out_nodes(arguments)]
        del model.graph.output[:]
        model.graph.output.extend(kept_outputs)
    check_gears(model, fixed, gears)
    graph.fix_inputs(model, fixed)
    compiled = optimise(model, arguments["model"])
    if any(arguments.get(name) == value for name, value in FP16_INSIDE):
        compiled = with_half(compiled, locate(floats, model.graph, compiled.graph))
    if conf:  # after with_half: AIPP computes in float32
        aipp.insert(compiled, conf, arguments.get("input_format", "NCHW"))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(compiled, {**kept, **metadata(arguments)})
    target = Path(arguments["output"] + SUFFIX)
    make_folder(target.parent)
    with replacing(target) as temporary:
        onnx.save(compiled, temporary)
        inputs = graph.inputs(compiled)
        if gears:
            smallest = min(gears, key=math.prod)
            shape = at_gear({tensor.name: tensor.shape for tensor in inputs}, smallest)
            tried = [TensorInfo(tensor.name, tensor.dtype, shape[tensor.name]) for tensor in inputs]
            try_out(temporary, tried, "dynamic_dims", ",".join(map(str, smallest)))
            return target
        found = try_out(temporary, inputs, "input_shape", arguments.get("input_shape", ""))
        if any(tensor.shape != found[tensor.name] for tensor in graph.outputs(compiled) if found):
            for value in compiled.graph.output:
                graph.set_shape(value, found[value.name])
            onnx.save(compiled, temporary)
    return target


@command
def main(argv: Optional[list[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    print(atc_rules.START, flush=True)
    if argv and argv[0] in ("-h", "--h", "-help", "--help"):
        print(__doc__)
        return 0
    error: Optional[AtcError] = None
    try:
        compile_model(atc_rules.parse(argv))
    except AtcError as atc_error:
        error = atc_error
    except OSError as problem:
        error = AtcError("E19999", f"Inner Error! {problem.filename}: {problem.strerror}")
    print("...")
    print(atc_rules.FAILURE if error else atc_rules.SUCCESS)
    if error:
        print(error)
    return FAILED if error else 0
