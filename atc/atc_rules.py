"""ATC's argument rules: parameters, their values, which of them exclude each other, and ATC's error texts.

`parse` reads a command line as atc does, `check_arguments` checks the arguments, `check_model` compares them with the
model. Pure functions that need neither files nor onnx. Errors are AtcErrors with ATC's code and text, in the newer form
without brackets.

Source: CANN's GE: the flags and checks in api/atc/main_impl.cc, atc_ir_common.cc and omg.cc, and the error table. Some
texts and codes are our own, in the same form, because ATC's were not found: the reasons for --soc_version, for AIPP on
a chip without AIPP (E10055), for a --framework other than 5 and for an illegal path; E10006 for --enable_small_channel.
Two errors differ from atc's: an error of the flag parser is `E19999: <text>` here, but atc prints the text and then
`E19999: Inner Error!`; an illegal --log has the code of ATC's table, E10010, but atc prints E19999. ATC lists the legal
precision modes in varying order. Any name with the form of a chip's name is accepted; atc checks it against the list of
its release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atc.shapes import AtcError, gears, input_shapes, invalid
from hrnet import cann

# what atc prints to stdout
START = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"

ONNX = "5"
PRECISION_MODES = (
    "force_fp16",  # the default
    "force_fp32",
    "cube_fp16in_fp32out",
    "allow_mix_precision",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "allow_fp32_to_bf16",
)
PRECISION_MODES_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16")
OUTPUT_TYPES = ("FP32", "FP16", "UINT8", "INT8")


@dataclass(frozen=True)
class Parameter:
    """The legal values of a parameter (empty: any text), and the error code and reason for other values."""

    values: tuple[str, ...] = ()
    code: str = "E10001"
    reason: str = ""


@dataclass(frozen=True)
class Model:
    """The facts about a model that the rules need."""

    inputs: Mapping[str, Sequence[int]]  # name -> shape, -1 for a dynamic axis
    outputs: Sequence[str]
    nodes: Mapping[str, int] = field(default_factory=dict)  # name -> number of its outputs


def _one_of(values: Sequence[str]) -> Parameter:
    listed = ", ".join(values)
    reason = f"The current value is not within the valid range. Valid values are: {{{listed}}}."
    return Parameter(tuple(values), reason=reason)


_ZERO_OR_ONE = Parameter(("0", "1"), "E10006", " The value must be either 1 or 0.")
_TRUE_OR_FALSE = Parameter(("true", "false"), "E10005", " The value must be either true or false.")

# fmt: off
_FREE_TEXT = (
    "model", "output", "weight", "input_shape", "input_shape_range", "soc_version", "out_nodes", "output_type",
    "insert_op_conf", "om", "json", "dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "keep_dtype",
    "modify_mixlist", "auto_tune_mode", "customize_dtypes", "op_precision_mode", "optypelist_for_implmode",
    "input_fp16_nodes", "is_input_adjust_hw_layout", "is_output_adjust_hw_layout", "fusion_switch_file",
    "compression_optimize_conf", "core_type", "aicore_num", "check_report", "debug_dir", "op_debug_level",
    "op_compiler_cache_mode", "op_compiler_cache_dir", "mdl_bank_path", "op_bank_path", "external_weight",
    "deterministic", "deterministic_level", "virtual_type", "display_model_info", "dump_mode", "host_env_os",
    "host_env_cpu", "input_hint_shape", "op_debug_config", "status_check", "shape_generalized_build_mode", "sparsity",
    "oo_level", "optimization_switch", "singleop", "build_config", "cluster_config", "allow_hf32", "jit_compile",
)
# fmt: on

PARAMETERS: dict[str, Parameter] = {
    "mode": Parameter(
        ("0", "1", "3", "6"),
        reason="The value must be selected from the following: 0(model to framework model), "
        "1(framework model to json), 3(only pre-check), 6(display model info).",
    ),
    "framework": Parameter((ONNX,), reason="The model is an ONNX model: the value must be 5(Onnx)."),
    "input_format": Parameter(("NCHW", "ND", "NCDHW"), reason="The value must be NCHW, ND or NCDHW in ONNX model."),
    "precision_mode": _one_of(PRECISION_MODES),
    "precision_mode_v2": _one_of(PRECISION_MODES_V2),
    "op_select_implmode": Parameter(
        ("high_performance", "high_precision", "high_precision_for_all", "high_performance_for_all"),
        reason="The value must be high_performance, high_precision, high_precision_for_all, high_performance_for_all.",
    ),
    "buffer_optimize": Parameter(
        ("l2_optimize", "l1_optimize", "off_optimize", "l1_and_l2_optimize"),
        reason="The value must be l2_optimize or off_optimize.",
    ),
    "log": Parameter(("debug", "info", "warning", "error", "null"), "E10010"),
    "enable_small_channel": _ZERO_OR_ONE,
    "disable_reuse_memory": _ZERO_OR_ONE,
    "enable_single_stream": _TRUE_OR_FALSE,
    "save_original_model": _TRUE_OR_FALSE,
    **dict.fromkeys(_FREE_TEXT, Parameter()),
}


def parse(argv: Sequence[str]) -> dict[str, str]:
    """Read `--name=value` and `--name value` (also `-name`, and `-` for `_` inside a name). If a parameter is given
    twice, the second value is used; an empty value removes the parameter.

    Raises AtcError for an unknown parameter and for a missing or illegal value.
    """
    arguments: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        match = re.fullmatch(r"--?([A-Za-z][^=]*)(?:=(.*))?", word, re.DOTALL)
        if not match:
            raise AtcError("E19999", f"Non-option parameter: {word}")
        name, value = match[1].replace("-", "_"), match[2]
        if name not in PARAMETERS:
            raise AtcError("E19999", f"unknown command line flag '{name}'")
        if value is None:
            value = next(words, None)
        if value is None:
            raise AtcError("E19999", f"flag '--{name}' is missing its argument")
        arguments.pop(name, None)
        if value:
            _check_value(name, value)
            arguments[name] = value
    return arguments


def _check_value(name: str, value: str) -> None:
    parameter = PARAMETERS[name]
    if not parameter.values or value in parameter.values:
        return
    if parameter.code == "E10001":
        raise invalid(name, value, parameter.reason)
    raise AtcError(parameter.code, f"Value {value} for parameter --{name} is invalid.{parameter.reason}")


def check(arguments: Mapping[str, str], model: Model) -> None:
    """Check all rules in ATC's order: first the arguments, then the arguments against the model."""
    check_arguments(arguments)
    check_model(arguments, model)


def check_arguments(arguments: Mapping[str, str]) -> None:
    """Check the rules that need no model. Raises AtcError for the first violation."""
    if "auto_tune_mode" in arguments:
        deprecated = "The Auto Tune function has been deprecated. Please use the AOE tool for tuning."
        raise invalid("auto_tune_mode", arguments["auto_tune_mode"], deprecated)
    mode = arguments.get("mode", "0")
    if mode in ("1", "6"):
        for name in ("om", "json") if mode == "1" else ("om",):
            if name not in arguments:
                raise AtcError("E10004", f"Value for --{name} is empty.")
        return
    if "framework" not in arguments:
        frameworks = "0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)"
        raise AtcError("E10007", f"--framework is required. The value must be {frameworks}.")
    _check_paths_and_chip(arguments, mode)
    if "precision_mode" in arguments and "precision_mode_v2" in arguments:
        both = "--precision_mode and --precision_mode_v2"
        raise AtcError("E10056", f"Cannot configure both parameters {both} simultaneously.")
    gears(arguments)
    if "dynamic_dims" in arguments and "insert_op_conf" in arguments:
        raise invalid("insert_op_conf", arguments["insert_op_conf"], "The dynamic dims function does not support AIPP.")
    out_nodes(arguments)
    _check_output_type(arguments)


def _check_paths_and_chip(arguments: Mapping[str, str], mode: str) -> None:
    required = ("soc_version", "output", "model") if mode == "0" else ("soc_version", "model")
    for name in required:
        if name not in arguments:
            raise AtcError(
                "E10054",
                f"The required parameter --{name} for ATC is empty. Another possible reason is that the values of "
                'some parameters are not enclosed by quotation marks ("").',
            )
    chip = arguments["soc_version"]
    if f"Ascend{chip}" == cann.chip_name(chip):
        raise invalid("soc_version", chip, f"Ascend is missing before it: use --soc_version=Ascend{chip}.")
    if not re.fullmatch(cann.CHIP, chip):
        nearest = cann.nearest_chip(chip)
        reason = f"The value must be Ascend and the name that npu-smi info prints; did you mean {nearest}?"
        raise invalid("soc_version", chip, reason)
    if "insert_op_conf" in arguments and cann.is_950(chip):
        raise AtcError("E10055", f"The operation is not supported. Reason: {chip} has no AIPP (--insert_op_conf).")
    if arguments.get("output", "").endswith("/"):
        raise AtcError("E10022", f"Path {arguments['output']} for parameter --output does not include the file name.")
    for name in ("model", "output", "insert_op_conf", "keep_dtype"):
        # ATC also accepts Chinese characters
        if not re.fullmatch(r"[A-Za-z0-9_./+\-\u4e00-\u9fa5]+", arguments.get(name, ".")):
            raise invalid(name, arguments[name], "A path can only contain letters, digits and the characters _-.+/.")


def _check_output_type(arguments: Mapping[str, str]) -> None:
    given = arguments.get("output_type", "FP32")
    for entry in given.split(";") if given not in OUTPUT_TYPES else ():
        if not re.fullmatch(rf".+:[0-9]+:({'|'.join(OUTPUT_TYPES)})", entry):
            reason = f"The current value is not within the valid range. Only support {', '.join(OUTPUT_TYPES)}."
            raise invalid("output_type", given, reason)


def out_nodes(arguments: Mapping[str, str]) -> list[tuple[str, int]]:
    """--out_nodes as [(node name, index of its output)] or [(name of a graph output, -1)]; [] without it."""
    found = []
    given = arguments.get("out_nodes", "")
    for entry in given.split(";") if given else []:
        parts = entry.split(":")
        if len(parts) > 2:
            example = '"node_name1:0;node_name1:1;node_name2:0"'
            raise invalid("out_nodes", entry, f"The parameter format is invalid. Valid format: {example}.")
        if len(parts) == 2 and not re.fullmatch("[0-9]+", parts[1].strip()):
            raise invalid("out_nodes", given, "The index is not a positive integer.")
        found.append((parts[0], int(parts[1]) if len(parts) == 2 else -1))
    if len({index < 0 for _, index in found}) > 1:
        raise invalid("out_nodes", given, "Only one of index, top_name and output_name can be used.")
    return found


def check_model(arguments: Mapping[str, str], model: Model) -> None:
    """Check names and ranks against the model. Raises AtcError E10016 or E10049."""
    for name, shape in input_shapes(arguments).items():
        if name not in model.inputs:
            raise _not_found(name, "input_shape")
        rank = len(model.inputs[name])
        if len(shape) != rank:
            raise AtcError(
                "E10049",
                f"Dimension count {len(shape)} configured in --input_shape does not match dimension count {rank} of "
                "the node.",
            )
    for name, index in out_nodes(arguments):
        if name not in model.outputs if index < 0 else index >= model.nodes.get(name, 0):
            raise _not_found(name, "out_nodes")


def _not_found(name: str, parameter: str) -> AtcError:
    return AtcError(
        "E10016",
        f"Opname {name} specified in --{parameter} is not found in the model. Confirm whether this node name exists, "
        "or the node is not split with the specified delimiter ';'.",
    )
