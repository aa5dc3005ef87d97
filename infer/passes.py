"""The passes of an inference run: one over the images and, for the flip test, one over the flipped images."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import UserError, WorkFailed, first_few, plural
from hrnet.io.compiled import CompiledModel
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError
from hrnet.io.tensor_names import DTYPES
from infer.output_dir import OutputDir
from infer.run_ais_bench import Tool


class PassPlan(NamedTuple):
    """One pass over all images or all flipped images."""

    inputs: Path
    manifest: Manifest
    output: OutputDir
    flip: bool  # whether the emulator flips each input when it reads it


def check_inputs(inputs: Path, manifest: Manifest, model: Path, compiled: CompiledModel) -> None:
    """Raise UserError unless the directory contains the files of its manifest, with the model's dtype and shape."""
    dtype = compiled.inputs[0].dtype
    images = manifest.images if compiled.gears else manifest.images[:1]
    wrong = [image.shape for image in images if manifest.dtype != dtype or not compiled.accepts(image.shape)]
    if wrong:
        hint = "give make om and make preprocess the same MODEL and INPUT"
        expected = f"{dtype}{compiled.inputs[0].shape[1:]}{' at a gear' if compiled.gears else ''}"
        found = f"{manifest.dtype}{wrong[0]}"
        raise UserError(f"the inputs do not match {model}", where=inputs, expected=expected, found=found, hint=hint)
    if compiled.gears and manifest.suffix != "npy":
        found, hint = f".{manifest.suffix}", "run make preprocess"
        raise UserError("wrong format for a model with gears", where=inputs, expected=".npy", found=found, hint=hint)
    listed = {f"{image.stem}.{manifest.suffix}": image.shape for image in manifest.images}
    with os.scandir(inputs) as entries:
        existing = {entry.name: entry for entry in entries if entry.name.lower().endswith((".bin", ".npy"))}
    hint = f"rm {inputs}/manifest.json; make preprocess"
    if existing.keys() != listed.keys():
        names = first_few(sorted(existing.keys() ^ listed.keys()))
        missing, unexpected = len(listed.keys() - existing.keys()), len(existing.keys() - listed.keys())
        found = f"{missing} missing, {unexpected} unexpected: {names}"
        raise UserError("the files differ from the manifest", where=inputs, found=found, hint=hint)
    for name, shape in listed.items():
        size, wanted = existing[name].stat().st_size, math.prod(shape) * DTYPES[dtype]
        if size != wanted and not (manifest.suffix == "npy" and size > wanted):  # a .npy file also has a header
            raise FormatError("wrong size", where=inputs / name, expected=f"{wanted} bytes", found=size, hint=hint)


def plan_passes(
    inputs: Path, output: Path, output_flip: Optional[Path], inputs_flip: Optional[Path], outfmt: str, tool: Tool
) -> list[PassPlan]:
    """Plan the pass over the images and, if `output_flip` is given, the pass over the flipped images."""
    manifest = Manifest.read(inputs / "manifest.json")
    passes = [PassPlan(inputs, manifest, OutputDir(output, outfmt), False)]
    if output_flip and inputs_flip:
        flipped = Manifest.read(inputs_flip / "manifest.json")
        if flipped != manifest.flip():
            raise UserError(f"not the flipped images of {inputs}", where=inputs_flip, hint="run make preprocess")
        passes.append(PassPlan(inputs_flip, flipped, OutputDir(output_flip, outfmt), False))
    elif output_flip:
        if not tool.modules:
            raise UserError("ais_bench needs a directory of flipped inputs", hint="give --inputs_flip")
        if manifest.flipped:
            raise UserError("these inputs are already flipped", where=inputs, hint="remove --output_flip")
        passes.append(PassPlan(inputs, manifest, OutputDir(output_flip, outfmt), True))
    elif inputs_flip:
        raise UserError("--inputs_flip needs --output_flip", where=inputs_flip)
    return passes


def check_outputs(output: OutputDir, manifest: Manifest, files: dict[str, list[str]], compiled: CompiledModel) -> None:
    """Raise WorkFailed unless the directory contains exactly the outputs of all inputs, complete and listed by the
    tool."""
    names = {image.stem: output.output_names(image.stem, len(compiled.outputs)) for image in manifest.images}
    finished = set(output.finished(manifest, compiled))
    missing = [stem for stem in names if stem not in finished or files.get(stem) != names[stem]]
    unexpected = sorted(output.listing().keys() - {name for each in names.values() for name in each})
    if missing or unexpected:
        expected = (
            f"{plural(len(compiled.outputs), 'output')} for each of {plural(len(names), 'input')}, no other files"
        )
        counts = f"{plural(len(missing), 'input')} without outputs, {plural(len(unexpected), 'unexpected file')}"
        found = f"{counts}: {first_few([*missing, *unexpected])}"
        raise WorkFailed("wrong outputs", where=output.folder, expected=expected, found=found, hint="rerun make infer")
