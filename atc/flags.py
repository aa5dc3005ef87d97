"""The flags in ATC_FLAGS, which are passed to atc, such as `--op_select_implmode=high_precision`.

Flags that this project sets itself are rejected (OWN), with these exceptions: --log is accepted and replaces the value
of atc.convert's --log; --precision_mode and --precision_mode_v2 are accepted unless PRECISION is given too, and
--keep_dtype is accepted unless KEEP_FLOAT is given too. Flags that change the model's inputs or the files that atc
writes are rejected, because they would make the model's record wrong. Paths are relative to the current directory;
since atc runs in another directory, they are converted. Everything else is passed unchanged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import onnx

from atc.shapes import GEAR_PARAMETERS
from hrnet.cli import UserError
from hrnet.io.compiled import TensorInfo

# fmt: off
OWN = {  # flags that this project sets: hint
    "model": "give ONNX=", "output": "give BUILD=", "framework": "remove it: the value is always 5 (ONNX)",
    "input_format": "remove it: the format is that of the model", "input_shape": "give BATCH=",
    "soc_version": "give SOC=", "out_nodes": "give an ONNX file with other outputs: ONNX=",
    **dict.fromkeys((*GEAR_PARAMETERS, "input_shape_range"), "give INPUT.GEARS in the config"),
    "insert_op_conf": "give INPUT=uint8",
}
UNSUPPORTED = (  # flags for another mode of atc, other inputs, or weights in a separate file
    "mode", "om", "json", "weight", "singleop", "external_weight", "input_fp16_nodes", "is_input_adjust_hw_layout",
    "is_output_adjust_hw_layout", "display_model_info", "dump_mode", "save_original_model",
)
FILES = (  # flags with a file that atc reads
    "keep_dtype", "modify_mixlist", "op_precision_mode", "customize_dtypes", "fusion_switch_file", "op_debug_config",
    "compression_optimize_conf", "cluster_config", "build_config",
)
FOLDERS = (  # flags with a path that atc writes to
    "debug_dir", "op_compiler_cache_dir", "mdl_bank_path", "op_bank_path", "check_report",
)
# fmt: on
PRECISION_FLAGS = ("precision_mode", "precision_mode_v2")
NUMPY = {"FP32": "float32", "FP16": "float16", "UINT8": "uint8", "INT8": "int8"}


def parse(text: str) -> list[str]:
    """Split `text` into flags `--name=value`, separated by spaces. Raises UserError for invalid and rejected flags."""
    words = text.split()
    for word in words:
        match = re.fullmatch(r"--([A-Za-z_][A-Za-z0-9_-]*)=(.+)", word)
        if not match:
            raise UserError("invalid ATC_FLAGS", expected="--name=value, separated by spaces", found=word)
        name = match[1].replace("-", "_")
        if name in OWN:
            raise UserError(f"--{name} is not allowed in ATC_FLAGS", hint=OWN[name])
        if name in UNSUPPORTED:
            raise UserError(f"--{name} is not supported in ATC_FLAGS", hint="run atc yourself, then give OM=")
        if name in FILES and not Path(match[2]).is_file():
            raise UserError(f"no such file (--{name} in ATC_FLAGS)", where=match[2])
    return words


def check_precision(words: Sequence[str], precision: str) -> None:
    """Raise UserError if both PRECISION and ATC_FLAGS set the precision."""
    given = [word for word in words if _name(word) in PRECISION_FLAGS]
    if given and precision != "default":
        hint = "remove the flag from ATC_FLAGS, or (only with BACKEND=ascend) give PRECISION=default"
        raise UserError(f"both {given[0]} in ATC_FLAGS and PRECISION={precision} are given", hint=hint)


def precision_mode(words: Sequence[str]) -> str:
    """The precision mode in ATC_FLAGS, such as `force_fp16`; empty if there is none. atc uses the last one."""
    return next((word.partition("=")[2] for word in reversed(words) if _name(word) in PRECISION_FLAGS), "")


def _name(word: str) -> str:
    return word[2:].partition("=")[0].replace("-", "_")


def files(words: Sequence[str]) -> dict[str, Path]:
    """{flag: file} for the files that atc reads; their content changes the compiled model."""
    return {_name(word): Path(word.partition("=")[2]) for word in words if _name(word) in FILES}


def relative_to(words: Sequence[str], folder: Path) -> list[str]:
    """Make the paths in `words` relative to `folder`, where atc runs."""
    changed = []
    for word in words:
        flag, _, value = word.partition("=")
        if _name(word) in FILES + FOLDERS and not os.path.isabs(value):
            value = os.path.relpath(Path(value).resolve(), folder)
        changed.append(f"{flag}={value}")
    return changed


def output_dtypes(words: Sequence[str], outputs: Sequence[TensorInfo], model: onnx.ModelProto) -> list[TensorInfo]:
    """Set the output dtypes from --output_type, as ATC does: one type for all outputs, or `node:index:type` for each.
    Raises UserError for a node that computes no output of the model."""
    text = next((word.partition("=")[2] for word in reversed(words) if _name(word) == "output_type"), "")
    changed = {output.name: NUMPY[text] for output in outputs if text in NUMPY}
    nodes = {node.name: list(node.output) for node in model.graph.node}
    for node, index, kind in (entry.rsplit(":", 2) for entry in text.split(";") if entry.count(":") > 1):
        results = dict(enumerate(nodes.get(node, [])))
        name = results.get(int(index)) if index.isdigit() else None
        if name not in {output.name for output in outputs}:
            expected = "a node that computes an output, its index and a type"
            found = f"{node}:{index}:{kind}"
            what, hint = "invalid --output_type in ATC_FLAGS", "give --output_type=FP16, one type for all outputs"
            raise UserError(what, expected=expected, found=found, hint=hint)
        changed[name] = NUMPY.get(kind, "float32")  # other types are rejected later, by atc_rules or by atc
    return [TensorInfo(each.name, changed.get(each.name, each.dtype), each.shape) for each in outputs]
