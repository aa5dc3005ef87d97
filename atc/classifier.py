"""Complete the config of an ONNX classifier: add the image size and the number of classes that the file contains.

    python -m atc.classifier --cfg mine.yaml --model mine.onnx --output build/mine/mine.yaml

Reads    a config with `MODEL: {NAME: onnx}`, and the ONNX file with its external data
Writes   --output, the same config with MODEL.IMAGE_SIZE (width, height) and MODEL.NUM_CLASSES of the file, and
         INPUT.RESIZE (the short side / 0.875 if the config has none)

The file must have one input float32 [N, 3, H, W] and one output [N, classes] or [N, classes, 1, 1]. N may be dynamic,
and so may H and W if the config has MODEL.IMAGE_SIZE. The output may be logits or probabilities, and its declared shape
may be unknown: then the model is run once on zeros.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import onnx
from yacs.config import CfgNode

from atc import graph
from atc.shapes import DYNAMIC, AtcError
from hrnet.cli import UserError, command, plural
from hrnet.config import add_cfg_argument, load_config
from hrnet.config_checks import check_class_names, too_small, usual_resize
from hrnet.io.compiled import TensorInfo
from hrnet.io.files import AnyPath, make_folder, write_text
from hrnet.schemas import ONNX

CHANNELS = 3  # R, G, B
PROBE_BATCH = 2  # batch size for a test run of a model with a dynamic batch size
SCORE_DTYPES = ("float16", "float32")
LAYOUT = "one input float32 [N, 3, H, W]"


class Classifier(NamedTuple):
    """What an ONNX file contains."""

    input: str  # name
    batch: int  # -1 if it is dynamic
    size: list[int]  # width, height, pixels
    output: str
    outputs: int  # number of classes, including a background class if the model has one

    def __str__(self) -> str:
        batch = "any batch" if self.batch == DYNAMIC else f"batch {self.batch}"
        width, height = self.size
        classes = plural(self.outputs, "class", "classes")
        return f"input {self.input}, {width} x {height} pixels, {batch}; output {self.output}, {classes}"


def read(path: Path) -> onnx.ModelProto:
    """Read the file. Raises UserError if it is missing, of another kind, or damaged, or if its weights are missing."""
    if not path.exists():
        raise UserError("no such ONNX file", where=path, hint=graph.GIVE)
    graph.external_data(path)
    try:
        return graph.read(path)
    except AtcError as error:
        raise graph.unreadable(path, error, "not an ONNX file that can be read") from None


def listing(tensors: Sequence[TensorInfo]) -> str:
    """Name, dtype and shape of each tensor, for an error."""
    return ", ".join(f"{each.name} {each.dtype}{each.shape}" for each in tensors)


def check_input(model: onnx.ModelProto, path: Path, size: Sequence[int]) -> tuple[TensorInfo, list[int]]:
    """The only input, and [width, height]: those of the file, or `size` (empty: not given) for dynamic axes. Raises
    UserError unless the input is as in LAYOUT."""
    inputs = graph.inputs(model)
    if len(inputs) != 1:
        hint = "export the network with the image as its only input"
        what = "the model has several inputs" if inputs else "the model has no input"
        raise UserError(what, where=path, expected=LAYOUT, found=listing(inputs) or None, hint=hint)
    (image,) = inputs
    if image.dtype != "float32":
        hint = "export it in float32, without its preprocessing; then compile it with INPUT=uint8 or PRECISION=fp16"
        raise UserError(
            f"input {image.name} is {image.dtype}",
            where=path,
            expected=LAYOUT,
            found=listing(inputs),
            hint=hint,
        )
    if len(image.shape) == 4 and image.shape[1] != CHANNELS and image.shape[3] == CHANNELS:
        hint = f"export it as NCHW: python -m tf2onnx.convert … --inputs-as-nchw {image.name}"
        what = f"input {image.name} is NHWC, the layout of TensorFlow"
        raise UserError(what, where=path, expected=LAYOUT, found=listing(inputs), hint=hint)
    if len(image.shape) != 4 or image.shape[1] != CHANNELS:
        raise UserError(f"input {image.name} is not an image", where=path, expected=LAYOUT, found=listing(inputs))
    height, width = image.shape[2:]
    if not size and DYNAMIC in (height, width):
        hint = "add MODEL.IMAGE_SIZE: [<width>, <height>] to the config"
        raise UserError(f"height and width of {image.name} are dynamic", where=path, found=listing(inputs), hint=hint)
    own = [width, height]
    for known, given in zip(own, size):
        if known not in (DYNAMIC, given):
            what = "MODEL.IMAGE_SIZE (width, height) differs from the ONNX file's"
            raise UserError(what, where=path, expected=own, found=list(size), hint="leave it out of the config")
    return image, list(size) or own


def check_output(model: onnx.ModelProto, path: Path, shape: list[int], name: str) -> TensorInfo:
    """The only output, for an input `name` of this shape. Raises UserError unless it is [N, classes] or
    [N, classes, 1, 1]."""
    outputs = graph.outputs(model)
    if len(outputs) != 1:
        keep = f'onnx.utils.extract_model("{path}", "one.onnx", ["{name}"], ["{outputs[0].name}"])'
        hint = f"keep one, in Python: {keep}"
        what = "the model has several outputs"
        raise UserError(what, where=path, expected="the scores of the classes", found=listing(outputs), hint=hint)
    try:
        (scores,) = graph.output_shapes(model, {name: shape})
    except AtcError as error:
        raise UserError(f"does not run with input {shape}: {error.text}", where=path) from None
    expected, found = (
        f"{' or '.join(SCORE_DTYPES)} [{shape[0]}, classes] for a batch of {shape[0]}",
        listing([scores]),
    )
    if scores.dtype not in SCORE_DTYPES:
        hint = "export the scores of all classes, without ArgMax or TopK"
        raise UserError(
            f"output {scores.name} is {scores.dtype}", where=path, expected=expected, found=found, hint=hint
        )
    if len(scores.shape) not in (2, 4) or scores.shape[2:] not in ([], [1, 1]):
        hint = "pose models and detectors are not classifiers; "
        hint += "if the output contains features, export the network with its last layer"
        raise UserError(
            f"output {scores.name} has no scores of classes", where=path, expected=expected, found=found, hint=hint
        )
    if scores.shape[0] != shape[0] or scores.shape[1] < 2:
        raise UserError(f"output {scores.name} has no scores of classes", where=path, expected=expected, found=found)
    return scores


def inspect(model: onnx.ModelProto, path: Path, size: Sequence[int]) -> Classifier:
    """What the file `path` contains. `size`: width and height of the images; empty: as in the file. Raises UserError
    for a file that is not such a classifier."""
    image, size = check_input(model, path, size)
    batch = image.shape[0]
    scores = check_output(model, path, [batch if batch > 0 else PROBE_BATCH, CHANNELS, *reversed(size)], image.name)
    return Classifier(image.name, batch, list(size), scores.name, scores.shape[1])


def complete(config: CfgNode, cfg: AnyPath, path: Path) -> tuple[CfgNode, Classifier]:
    """`config`, completed from the ONNX file `path`, and what the file contains. Raises UserError if config and file
    contradict each other. `cfg`: the path of the config, for errors."""
    model = read(path)
    exported = graph.metadata_of(model)
    if "config_sha256" in exported:
        hint = f"give MODEL={exported.get('model', '<its config>')} and ONNX={path}, without CFG"
        raise UserError("exported by make onnx from another config", where=path, hint=hint)
    found = inspect(model, path, config.MODEL.IMAGE_SIZE)
    classes = config.MODEL.NUM_CLASSES or found.outputs
    if classes not in (found.outputs, found.outputs - 1):
        expected = f"{found.outputs} as the file's outputs, or {found.outputs - 1} if the first is a background class"
        hint = f"write NUM_CLASSES: {found.outputs} or {found.outputs - 1}, leave it out, or give another ONNX file"
        raise UserError(
            "MODEL.NUM_CLASSES does not fit the ONNX file", where=cfg, expected=expected, found=classes, hint=hint
        )
    resize = config.INPUT.RESIZE or usual_resize(min(found.size))
    if resize < max(found.size):
        raise too_small(resize, found.size, cfg, given=bool(config.INPUT.RESIZE))
    config = config.clone()
    config.defrost()
    config.MODEL.IMAGE_SIZE, config.MODEL.NUM_CLASSES, config.INPUT.RESIZE = found.size, classes, resize
    config.freeze()
    check_class_names(config, cfg)
    return config, found


def run(cfg: Path, model: Path, output: Path) -> None:
    """Write the completed config."""
    config, found = complete(load_config(cfg, ONNX, complete=False), cfg, model)
    make_folder(output.parent)
    write_text(output, f"# Written by atc.classifier from {cfg} and {model}: {found}\n{config.dump()}")
    pixels = f"MEAN {list(config.INPUT.MEAN)}, STD {list(config.INPUT.STD)}"
    print(f"wrote {output} ({found}; images resized to {config.INPUT.RESIZE}, {pixels})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atc.classifier", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--output", type=Path, required=True, help="the config to write (.yaml)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
