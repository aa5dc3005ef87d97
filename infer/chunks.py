"""Inference with bounded disk: K images at a time are inferred and passed to a command, then their outputs are removed.

    python -m infer.chunks --model build/higher_hrnet_w32_512/om/bs1-float32-fp32.onnx --chunk 500
        --inputs build/higher_hrnet_w32_512/prep/coco-float32
        --output build/higher_hrnet_w32_512/out/coco-float32/onnxruntime-bs1-fp32
        --output_flip build/higher_hrnet_w32_512/out/coco-float32-flip/onnxruntime-bs1-fp32
        --parts build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/parts
        -- python -m postprocess.decode --cfg configs/higher_hrnet_w32_512.yaml

A chunk is a directory of hard links to K inputs, with a manifest of these images; `infer.run` infers it.

Reads    as infer.run, with the same arguments; output directories get `-part` added to their names
Writes   <parts>/<i>.json and its record, by the command after `--`, which is called with
         `--manifest --dump_dir [--dump_dir_flip] --output` added
Resumes  results of the same images, model, command, config and code are kept
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from hrnet.cli import WorkFailed, command, integer
from hrnet.code import code_sha256
from hrnet.config import config_path
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import locked, make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, write_record
from hrnet.io.runs import DecodeRecord
from infer import run as infer_run
from infer import run_ais_bench
from infer.output_dir import link_inputs, read_settings
from infer.passes import Pass, plan_passes


def chunk_manifest(manifest: Manifest, start: int, size: int) -> Manifest:
    return dataclasses.replace(manifest, images=manifest.images[start : start + size])


def is_decoded(part: Path, manifest: Manifest, model_sha256: str, flip: bool) -> bool:
    """Whether `part` was made from these images by this model."""
    try:
        record = DecodeRecord.read(part)
    except (FormatError, FileNotFoundError):
        return False
    return (record.manifest_sha256, record.model_sha256, record.flip) == (manifest.sha256(), model_sha256, flip)


def start_parts(parts: Path, words: Sequence[str], modules: Sequence[str]) -> None:
    """Make the directory of results; remove results of another command, config or code. `modules`: of inference."""
    following = list(zip(words, words[1:]))
    configs = {str(config_path(value)) for flag, value in following if flag == "--cfg"}
    decoders = [name for flag, name in following if flag == "-m"]
    settings = {
        "command": list(words),
        "files": {file: sha256_file(file) for file in sorted(configs)},
        "code_sha256": code_sha256("infer.run", *modules, *decoders),
    }
    path = parts.with_name(f"{parts.name}_settings.json")
    if parts.exists() and read_settings(path).get("settings") != settings:
        shutil.rmtree(parts)
    make_folder(parts)
    write_record(path, "settings", {"settings": settings})


def make_chunk(each: Pass, start: int, size: int) -> Pass:
    """The pass over one chunk, whose inputs are linked into a directory beside the outputs."""
    manifest = chunk_manifest(each.manifest, start, size)
    names = [f"{image.stem}.{manifest.suffix}" for image in manifest.images]
    inputs = link_inputs(each.output.beside("inputs"), each.inputs, names)
    manifest.write(inputs / "manifest.json")
    return each._replace(inputs=inputs, manifest=manifest)


def decode_chunk(words: Sequence[str], passes: Sequence[Pass], part: Path, lock: int) -> None:
    """Call the command, which inherits our lock, on the outputs of a chunk. Raises WorkFailed if it fails."""
    flags = [f"--manifest={passes[0].inputs / 'manifest.json'}"]
    flags += [f"--{name}={each.output.folder}" for name, each in zip(("dump_dir", "dump_dir_flip"), passes)]
    command_line = [*words, *flags, f"--output={part}"]
    print(shlex.join(command_line), flush=True)
    code = subprocess.run(command_line, pass_fds=[lock]).returncode
    if code:
        hint = "finished chunks are kept for a rerun"
        raise WorkFailed(f"{shlex.join(words[:3])} failed, see above", found=f"exit {code}", hint=hint)


def run(args: argparse.Namespace) -> None:
    """Infer and decode all chunks that have no result yet."""
    model_sha256 = CompiledModel.read(args.model).model_sha256
    tool = run_ais_bench.find_tool(args.backend, args.ais_python, args.devices)
    output, output_flip = (
        folder and folder.with_name(f"{folder.name}-part") for folder in (args.output, args.output_flip)
    )
    passes = plan_passes(args.inputs, output, output_flip, args.inputs_flip, "", tool)
    manifest = passes[0].manifest
    make_folder(args.parts.parent)
    with locked(f"{args.parts}_lock") as lock:
        start_parts(args.parts, args.words, tool.modules)
        starts = range(0, len(manifest.images), args.chunk)
        kept = 0
        for number, start in enumerate(starts):
            part = args.parts / f"{number}.json"
            if is_decoded(part, chunk_manifest(manifest, start, args.chunk), model_sha256, len(passes) > 1):
                kept += 1
                continue
            chunk = [make_chunk(each, start, args.chunk) for each in passes]
            infer_run.run(args.model, chunk, tool)
            decode_chunk(args.words, chunk, part, lock)
        for each in passes:  # the files of the last chunk, or of a killed run
            each.output.clear()
            shutil.rmtree(each.output.beside("inputs"), ignore_errors=True)
        for path in args.parts.glob("[0-9]*.json"):
            if int(path.name.split(".")[0]) >= len(starts):
                path.unlink()
    before = f", {kept} were finished before" if kept else ""
    print(f"inferred and decoded {len(manifest.images)} images in {len(starts)} chunks into {args.parts}{before}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m infer.chunks", description=__doc__.splitlines()[0])
    infer_run.add_arguments(parser)
    parser.add_argument("--chunk", type=integer(1), required=True, help="images whose outputs are on disk at a time")
    parser.add_argument("--parts", type=Path, required=True, help="directory of the chunks' results")
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
