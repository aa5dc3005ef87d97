"""Bounded disk: a prep folder is inferred K images at a time; a command turns a chunk's outputs into a small result,
and the outputs are deleted before the next chunk.

    python -m infer.chunks --model build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx --chunk 500
        --input build/higher_hrnet_w32_512/prep/coco-float32 --flip
        --output build/higher_hrnet_w32_512/out/coco-float32 --output_dirname onnxruntime-bs1-fp32
        --parts build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/parts
        -- python -m postprocess.decode --cfg configs/higher_hrnet_w32_512.yaml

A chunk is a prep folder of its own, of hard links to K inputs and a manifest of these images; `infer.run` infers it,
and the images mirrored too (--flip: by the twin; --input_flip: from a folder of mirrored inputs, for ais_bench).

Reads    as infer.run
Writes   <parts>/<i>.json and the record beside it, by the command behind `--`, which gets `--manifest --dump_dir
         [--dump_dir_flip] --output` added
Resumes  results of the same images, model and command are kept, if its config and --code, the files that they depend
         on, hold the same bytes
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import UserError, WorkFailed, command, integer
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import locked, make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.runs import DecodeRecord
from infer import run as infer_run
from infer import run_ais_bench
from infer.output_dir import OutputDir, link_chunk


class Pass(NamedTuple):
    """One of the runs of each chunk: the images as they are, or mirrored."""

    inputs: Path
    manifest: Manifest
    place: OutputDir
    flip: bool  # by the twin


def chunks(manifest: Manifest, size: int) -> Iterator[Manifest]:
    """Manifests of `size` images each, the last one of what is left."""
    for start in range(0, len(manifest.images), size):
        yield dataclasses.replace(manifest, images=manifest.images[start : start + size])


def is_decoded(part: Path, manifest: Manifest, model_sha256: str, flip: bool) -> bool:
    """Whether `part` was made from these images by this model."""
    try:
        record = DecodeRecord.read(part)
    except (FormatError, FileNotFoundError):
        return False
    return (record.manifest_sha256, record.model_sha256, record.flip) == (manifest.sha256(), model_sha256, flip)


def start_parts(parts: Path, words: Sequence[str], code: Sequence[Path]) -> None:
    """Make the folder of results ready: what another command, or one of another config or code, had made is removed."""
    files = [*(word for word in words if Path(word).suffix == ".yaml"), *map(str, code)]
    settings = {"command": list(words), "files": {file: sha256_file(file) for file in files}}
    path = parts.with_name(f"{parts.name}_settings.json")
    try:
        equal = read_record(path, "settings").get("settings") == settings
    except FormatError:
        equal = False
    if parts.exists() and not equal:
        shutil.rmtree(parts)
    make_folder(parts)
    write_record(path, "settings", {"settings": settings})


def infer_chunk(each: Pass, chunk: Manifest, model: Path, devices: list[str], start: list[str]) -> Path:
    """Infer one chunk; returns the folder that stands for it."""
    folder = link_chunk(
        each.place.beside("inputs"), each.inputs, [f"{image.stem}.{chunk.suffix}" for image in chunk.images]
    )
    chunk.write(folder / "manifest.json")
    infer_run.run(model, folder, each.place, devices, start, each.flip)
    return folder


def decode_chunk(words: Sequence[str], manifest: Path, passes: Sequence[Pass], part: Path, lock: int) -> None:
    """Call the command on a chunk's outputs; it holds the lock as we do. Raises WorkFailed where it fails."""
    folders = [f"--dump_dir={passes[0].place.folder}", *(f"--dump_dir_flip={each.place.folder}" for each in passes[1:])]
    called = [*words, f"--manifest={manifest}", *folders, f"--output={part}"]
    print(shlex.join(called), flush=True)
    code = subprocess.run(called, pass_fds=[lock]).returncode
    if code:
        raise WorkFailed(f"{shlex.join(words[:3])} exited with {code}, see above; finished chunks are kept for a rerun")


def run(args: argparse.Namespace) -> None:
    """Infer and decode all chunks that have no result yet."""
    model_sha256 = CompiledModel.read(args.model).model_sha256
    manifest = Manifest.read(args.input / "manifest.json")
    passes = [Pass(args.input, manifest, OutputDir(args.output, f"{args.output_dirname}-part", ""), False)]
    if args.flip or args.input_flip:
        folder = args.input_flip or args.input
        mirrored = Manifest.read(folder / "manifest.json")
        if args.input_flip and mirrored != manifest.mirrored():
            raise UserError("is no mirror of --input", where=folder, hint="run make preprocess")
        place = OutputDir(args.output.with_name(f"{args.output.name}-flip"), f"{args.output_dirname}-part", "")
        passes.append(Pass(folder, mirrored, place, args.flip))
    start = run_ais_bench.tool(args.backend, args.ais_python, args.devices)
    make_folder(args.parts.parent)
    with locked(f"{args.parts}_lock") as lock:
        start_parts(args.parts, args.words, args.code)
        count = kept = 0
        for count, parts_of in enumerate(zip(*(chunks(each.manifest, args.chunk) for each in passes)), 1):
            part = args.parts / f"{count - 1}.json"
            if is_decoded(part, parts_of[0], model_sha256, len(passes) > 1):
                kept += 1
                continue
            folders = [infer_chunk(each, own, args.model, args.devices, start) for each, own in zip(passes, parts_of)]
            decode_chunk(args.words, folders[0] / "manifest.json", passes, part, lock)
        for each in passes:  # each chunk removes the one before it: left is the last, or one of a killed run
            each.place.clear()
            shutil.rmtree(each.place.beside("inputs"), ignore_errors=True)
        for path in args.parts.glob("[0-9]*.json"):
            if int(path.name.split(".")[0]) >= count:
                path.unlink()
    told = f", {kept} were finished before" if kept else ""
    print(f"inferred and decoded {len(manifest.images)} images in {count} chunks into {args.parts}{told}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m infer.chunks", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="as atc.convert left it")
    parser.add_argument("--input", type=Path, required=True, help="prep folder with its manifest.json")
    flip = parser.add_mutually_exclusive_group()
    flip.add_argument("--flip", action="store_true", help="infer the images mirrored too, by the twin")
    flip.add_argument("--input_flip", type=Path, help="prep folder of the mirrored images, for ais_bench")
    parser.add_argument("--output", type=Path, required=True, help="parent of the outputs' folder")
    parser.add_argument("--output_dirname", required=True)
    parser.add_argument("--chunk", type=integer(1), required=True, help="images whose outputs are on disk at a time")
    parser.add_argument("--parts", type=Path, required=True, help="where the results of the chunks go")
    parser.add_argument("--code", type=Path, nargs="*", default=[], help="files whose change makes all results anew")
    run_ais_bench.add_arguments(parser)
    args = parser.parse_args(words[:end])
    args.words = words[end + 1 :]
    if not args.words:
        parser.error("expected -- and the command that decodes a chunk")
    return args


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
