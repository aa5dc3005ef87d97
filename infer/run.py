"""A compiled model and a prep folder -> the outputs of ais_bench (or of its twin) and a run record.

    python -m infer.run --model build/hrnet_w18/om/bs16-float32-fp32.onnx --input build/hrnet_w18/prep/imagenet-float32
        --output build/hrnet_w18/out/imagenet-float32 --output_dirname onnxruntime-bs16-fp32

Reads    the model and the record beside it (`<model>.json`), the inputs and their manifest.json
Writes   <output>/<output_dirname>/<stem>_<k>.<bin|npy|txt> and <output_dirname>_summary.json, both by the tool, and
         last <output_dirname>_run.json; with several devices a summary for each, <output_dirname>_device<id>_<i>_…
Gears    of a model with gears each .npy sets the shape (--auto_set_dymdims_mode 1), and the outputs are .npy too
Resumes  outputs that an earlier run of the same model on the same inputs finished are kept: the tool gets a folder of
         hard links to the inputs that are left

One command is spelled, printed, run and checked; which of the two tools it was makes no difference here.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, WorkFailed, command, first_few
from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import check_free_disk, locked, make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.runs import RunRecord
from infer import run_ais_bench
from infer.output_dir import OutputDir, keep_finished, link_chunk


def check_inputs(inputs: Path, manifest: Manifest, model: Path, compiled: CompiledModel) -> None:
    """The prep folder must hold what its manifest lists, and that must be what the model takes."""
    dtype = compiled.inputs[0].dtype
    images = manifest.images if compiled.gears else manifest.images[:1]
    strangers = [image.shape for image in images if manifest.dtype != dtype or not compiled.takes(image.shape)]
    if strangers:
        hint = "give make om and make preprocess the same MODEL and INPUT"
        expected = f"{dtype}{compiled.inputs[0].shape[1:]}{' at a gear' if compiled.gears else ''}"
        found = f"{manifest.dtype}{strangers[0]}"
        raise UserError(f"inputs do not fit {model}", where=inputs, expected=expected, found=found, hint=hint)
    if compiled.gears and manifest.suffix != "npy":
        hint = "run make preprocess"
        raise UserError("inputs hold no shape", where=inputs, expected=".npy", found=f".{manifest.suffix}", hint=hint)
    listed = {f"{image.stem}.{manifest.suffix}" for image in manifest.images}
    there = {entry.name for entry in inputs.iterdir() if entry.suffix.lower() in (".bin", ".npy")}
    if there != listed:
        hint = f"rm {inputs}/manifest.json; make preprocess"
        amiss = f"{len(listed - there)} missing, {len(there - listed)} foreign: {first_few(sorted(there ^ listed))}"
        raise UserError("inputs are not those of the manifest", where=inputs, found=amiss, hint=hint)


def check_outputs(place: OutputDir, manifest: Manifest, files: dict[str, list[str]], compiled: CompiledModel) -> None:
    """N inputs, N times the model's outputs, all there, whole, and nothing else."""
    there, outputs = place.listing(), compiled.outputs
    sizes = {image.stem: compiled.output_bytes(image.shape) for image in manifest.images}
    stems = list(sizes)
    named = {stem: place.output_names(stem, len(outputs)) for stem in stems}
    lost = [stem for stem in stems if files.get(stem) != named[stem] or not place.is_whole(stem, there, sizes[stem])]
    foreign = there.keys() - {name for names in named.values() for name in names}
    if lost or foreign:
        expected = f"{len(outputs)} outputs for each of {len(stems)} inputs and nothing else"
        found = (
            f"{len(lost)} inputs without theirs, {len(foreign)} foreign files: {first_few([*lost, *sorted(foreign)])}"
        )
        raise WorkFailed(f"{place.folder}: expected {expected}, found {found}; rerun make infer")


def check_unchanged(manifest: Path, sha256: str) -> None:
    """The lock of the outputs does not hold the inputs: preprocessing may have come in between."""
    if not manifest.exists() or sha256_file(manifest) != sha256:
        raise WorkFailed(f"{manifest}: changed while its inputs were inferred; rerun make infer")


def run(model: Path, inputs: Path, place: OutputDir, devices: list[str], start: list[str], flip: bool = False) -> None:
    """Infer the manifest's images with the tool that `start` calls on `devices`, and write the run record. `flip`: let
    the twin mirror each input, where ais_bench needs a folder of mirrored ones."""
    manifest = Manifest.read(inputs / "manifest.json")
    if flip and manifest.flipped:
        raise UserError("these inputs are mirrored already", where=inputs, hint="leave out --flip")
    compiled = CompiledModel.read(model)
    check_inputs(inputs, manifest, model, compiled)
    outfmt = place.outfmt or ("NPY" if compiled.gears else "BIN")
    if compiled.gears and outfmt != "NPY":
        raise UserError("--outfmt of a model with gears", expected="NPY, which holds a shape", found=outfmt)
    place = dataclasses.replace(place, outfmt=outfmt)
    hashes = {"model_sha256": compiled.model_sha256, "manifest_sha256": sha256_file(inputs / "manifest.json")}
    settings = {**hashes, "outfmt": place.outfmt, "tool": start[1:], "flip": flip}
    make_folder(place.parent)
    with locked(place.beside("lock")) as lock:
        kept = keep_finished(place, manifest, compiled, settings)
        finished = set(kept)
        images = [image for image in manifest.images if image.stem not in finished]
        left = [f"{image.stem}.{manifest.suffix}" for image in images]
        check_free_disk(place.folder, sum(sum(compiled.output_bytes(image.shape)) for image in images))
        if kept:
            print(f"{len(kept)} of {len(manifest.images)} inputs were finished before and are kept")
        source = link_chunk(place.beside("chunk"), inputs, left) if kept else inputs
        batch = compiled.inputs[0].shape[0]
        devices = devices[: len(left)]  # a device without an input fails
        spelled = run_ais_bench.build_command(
            start, model, source, place, batch, devices, gears=bool(compiled.gears), flip=flip
        )
        seconds = run_ais_bench.execute(spelled, lock)

        told = run_ais_bench.collect(place, devices)
        files = {**{stem: place.output_names(stem, len(compiled.outputs)) for stem in kept}, **told.files}
        check_outputs(place, manifest, files, compiled)
        check_unchanged(inputs / "manifest.json", hashes["manifest_sha256"])
        if kept:
            shutil.rmtree(source)
        total = told.host.get("total", seconds)
        rate = len(told.files) / total
        RunRecord(
            model=str(model),
            **hashes,
            metadata=compiled.metadata,
            tool=told.tool,
            command=spelled,
            outputs=compiled.outputs,
            batch=batch,
            images=len(manifest.images),
            flipped=flip or manifest.flipped,
            kept=len(kept),
            seconds={
                "read": told.host.get("read"),
                "infer": told.infer,
                "write": told.host.get("write"),
                "total": total,
            },
            images_per_second=rate,
            device=told.device,
            files={image.stem: files[image.stem] for image in manifest.images},  # in whatever order they were inferred
        ).write(place.beside("run.json"))
    print(
        f"inferred {len(told.files)} images into {place.folder} ({rate:.1f} img/s end to end, device alone "
        f"{told.device['throughput']:.1f} img/s)"
    )


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.run", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="as atc.convert left it")
    parser.add_argument("--input", type=Path, required=True, help="prep folder with its manifest.json")
    parser.add_argument("--output", type=Path, required=True, help="parent of the outputs' folder")
    parser.add_argument("--output_dirname", required=True)
    parser.add_argument("--outfmt", choices=tensors.OUTPUT_FORMATS, help="BIN; of a model with gears NPY alone")
    parser.add_argument(
        "--flip", action="store_true", help="the twin mirrors each input; ais_bench needs them mirrored"
    )
    run_ais_bench.add_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    place = OutputDir(args.output, args.output_dirname, args.outfmt or "")
    start = run_ais_bench.tool(args.backend, args.ais_python, args.devices)
    run(args.model, args.input, place, args.devices, start, args.flip)


if __name__ == "__main__":
    sys.exit(main())
