"""Plan the compilation of an ONNX file: the arguments of atc, the files that atc reads, and the properties of the
compiled model.

For uint8 pixels atc reads an additional file beside the compiled model: `….aipp.cfg`; or, with gears or for a chip
without AIPP, `….pixels.onnx`, which is the model with operators that normalise pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import onnx
from yacs.config import CfgNode

from atc import atc_command, atc_rules, flags, graph, pixels
from atc.shapes import at_gear
from hrnet import cann
from hrnet.cli import UserError
from hrnet.config import config_sha256
from hrnet.io.compiled import Gear, TensorInfo
from hrnet.io.files import AnyPath, replacing, write_text
from hrnet.schemas import CLASSIFICATION

AIPP_SUFFIX, PIXELS_SUFFIX = ".aipp.cfg", ".pixels.onnx"


class Plan(NamedTuple):
    """The tool's inputs, and the properties of the compiled model for its record."""

    model: AnyPath  # the ONNX file for the tool
    conf: Optional[AnyPath]  # the AIPP file
    shapes: dict[str, list[int]]  # for --input_shape
    flags: list[str]  # for the gears
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    gears: list[Gear]
    metadata: dict[str, str]

    def arguments(self, output: AnyPath, options: Sequence[str]) -> list[str]:
        nchw = self.conf is not None or all(tensor.dtype != "uint8" for tensor in self.inputs)
        return atc_command.build_command(self.model, output, self.shapes, self.conf, [*self.flags, *options], nchw)

    def relative_to(self, folder: Path) -> Plan:
        """The same plan with paths relative to `folder`, where the tool runs. The tool restricts the characters of
        paths, and a relative path contains fewer directories."""
        conf = self.conf and Path("..", Path(self.conf).name)
        # A symbolic link to an ONNX file is not resolved: files with its weights are searched for beside the link.
        model = Path(self.model).parent.resolve() / Path(self.model).name
        return self._replace(model=os.path.relpath(model, folder), conf=conf)


def uses_aipp(gears: Sequence[Sequence[int]], chip: str) -> bool:
    """Whether AIPP normalises uint8 pixels; if not, operators in the ONNX file do."""
    return not gears and not cann.is_950(chip)


def write_aipp(config: CfgNode, path: Path) -> None:
    """Write the AIPP file of a config."""
    width, height = config.MODEL.IMAGE_SIZE
    write_text(path, atc_command.render_aipp(width, height, config.INPUT.MEAN, config.INPUT.STD))


def accept_pixels(source: onnx.ModelProto, config: CfgNode, model: Path) -> None:
    """Change the input of `source`, read from `model`, to pixels. Raises UserError for an unsuitable input."""
    try:
        pixels.accept_pixels(source, config.INPUT.MEAN, config.INPUT.STD)
    except ValueError as error:
        raise UserError(f"--input_dtype uint8: {error}", where=model) from None


def write_pixels(config: CfgNode, model: Path, path: Path) -> None:
    """Change the input of `model` to pixels, and write it to `path`. It may contain operators of amct_onnx, which
    graph.read would reject."""
    source = onnx.load(model)
    accept_pixels(source, config, model)
    with replacing(path) as temporary:
        onnx.save(source, temporary)


def check_config(source: onnx.ModelProto, shapes: dict[str, list[int]], config: CfgNode, where: Path) -> None:
    """Raise UserError if an ONNX file is not a model of this config: if it was exported from another one, or if a
    classifier has another image size or number of classes. `shapes`: of the inputs, for one batch."""
    exported = graph.metadata_of(source)
    if exported.get("config_sha256", "") not in ("", config_sha256(config)):
        name = exported.get("model", "unknown")
        hint = f"give MODEL={name}, or export it again with this config"
        raise UserError("exported from another config", where=where, found=f"MODEL={name}", hint=hint)
    if config.MODEL.NAME != CLASSIFICATION:
        return  # gears are checked below, and ONNX classifiers by atc.classifier
    hint = "give the MODEL= or CFG= of this file; another network needs a config with MODEL: {NAME: onnx}"
    expected = [3, *config.MODEL.IMAGE_SIZE[::-1]]
    found = [shape[1:] for shape in shapes.values()]
    if found != [expected]:
        listed = ", ".join(map(str, found))
        raise UserError("the input does not match the config", where=where, expected=expected, found=listed, hint=hint)
    outputs = graph.output_shapes(source, shapes)
    if len(outputs) != 1 or outputs[0].shape[1:2] != [config.MODEL.NUM_CLASSES]:
        listed = ", ".join(f"{each.name} {each.shape[1:]}" for each in outputs)
        expected_classes = f"{config.MODEL.NUM_CLASSES} classes"
        raise UserError(
            "the output does not match the config", where=where, expected=expected_classes, found=listed, hint=hint
        )


def shapes_at_gears(
    source: onnx.ModelProto, shapes: dict[str, list[int]], gears: Sequence[Sequence[int]], where: Path
) -> list[Gear]:
    """Input and output shapes for each gear. Raises UserError for a gear that the model does not support."""
    found = []
    for gear in gears:
        fixed = at_gear(shapes, gear)
        try:
            outputs = graph.output_shapes(source, fixed, strict=True)
        except ValueError as error:
            raise UserError(f"does not support the gear {list(gear)}: {error}", where=where) from None
        found.append(Gear(next(iter(fixed.values())), [output.shape for output in outputs]))
    return found


def prepare(
    source: onnx.ModelProto,
    model: Path,
    output: Path,
    config: Optional[CfgNode],
    batch_size: int,
    input_dtype: str,
    gears: list[list[int]],
    chip: str,
    atc_flags: Sequence[str],
    quantized: Optional[Path] = None,
) -> tuple[Plan, atc_rules.Model]:
    """Plan the compilation of `source`, read from `model`, or of the int8 model `quantized` made from it. For uint8
    without AIPP also write the ONNX file with normalisation. Returns the plan and the facts for atc_rules. Raises
    UserError and AtcError."""
    given, conf = quantized or model, None
    size = config.MODEL.get("IMAGE_SIZE") if config else None
    if config:
        shapes = atc_command.shapes_for_batch(graph.inputs(source), batch_size, 2 if gears else 0, model, size)
        check_config(source, shapes, config, model)
    if config and input_dtype == "uint8" and not uses_aipp(gears, chip):
        given = output.with_suffix(PIXELS_SUFFIX)
        if not gears:
            planes = atc_command.shapes_for_batch(graph.inputs(source), batch_size, 0, model, config.MODEL.IMAGE_SIZE)
            atc_command.aipp_input(config, planes, batch_size, model)  # checks the image size
        accept_pixels(source, config, model)
        write_pixels(config, quantized or model, given)
    description, inputs = graph.describe(source), graph.inputs(source)
    shapes = atc_command.shapes_for_batch(inputs, batch_size, 2 if gears else 0, model, size)
    compiled = [TensorInfo(tensor.name, tensor.dtype, shapes[tensor.name]) for tensor in inputs]
    if config and input_dtype == "uint8" and uses_aipp(gears, chip):
        conf = output.with_suffix(AIPP_SUFFIX)
        compiled = [TensorInfo(inputs[0].name, "uint8", atc_command.aipp_input(config, shapes, batch_size, model))]
    outputs = flags.output_dtypes(atc_flags, graph.output_shapes(source, shapes), source)
    at_gears = shapes_at_gears(source, shapes, gears, model)
    own_flags, metadata = atc_command.gear_flags(gears, description.outputs), graph.metadata_of(source)
    return Plan(given, conf, shapes, own_flags, compiled, outputs, at_gears, metadata), description


def restore_tool_input(config: CfgNode, model: Path, output: Path, aipp: bool) -> None:
    """Write the additional file for uint8 again if it is missing: the printed command needs it."""
    path = output.with_suffix(AIPP_SUFFIX if aipp else PIXELS_SUFFIX)
    if aipp and not path.exists():
        write_aipp(config, path)
    elif not path.exists():
        write_pixels(config, model, path)
