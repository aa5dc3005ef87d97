"""Infer prepared inputs with a compiled model by ais_bench or its emulator, and write a run record.

    python -m infer.run --model build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --inputs build/hrnet_w18/prep/imagenet-float32 \\
        --output build/hrnet_w18/out/imagenet-float32/onnxruntime-bs16-fp32

Reads    the model and its record (`<model>.json`), the inputs and their manifest.json
Writes   <output>/<stem>_<k>.<bin|npy|txt> and <output>_summary.json (written by the tool), then <output>_run.json
Flip     --output_flip adds a second pass over the flipped images, for the flip test of pose models. The emulator loads
         the model once for both passes and flips in memory. ais_bench runs twice and needs flipped inputs
         (--inputs_flip).
Gears    for a model with gears each .npy sets the shape (--auto_set_dymdims_mode 1), and outputs are .npy
Resumes  the complete outputs of an interrupted run with the same model, inputs and code are kept; the tool gets a
         directory of hard links to the remaining inputs. An up-to-date pass is only touched (hrnet/io/stamp.py)
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Optional

from hrnet.cli import UserError, WorkFailed, command, plural
from hrnet.code import code_sha256
from hrnet.io import stamp
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import check_free_disk, locked, make_folder, sha256_file
from hrnet.io.runs import RunRecord
from hrnet.io.tensor_names import OUTPUT_FORMATS
from infer import run_ais_bench
from infer.output_dir import OutputDir, keep_finished, link_inputs
from infer.passes import PassPlan, check_inputs, check_outputs, plan_passes
from infer.run_ais_bench import Tool, device_id


class Job(NamedTuple):
    """A pass to run."""

    plan: PassPlan
    stamp: stamp.Stamp
    kept: list[str]  # stems of the inputs that an interrupted run has finished
    source: Path  # directory of all inputs, or of links to the remaining inputs


def make_stamp(plan: PassPlan, model: Path, compiled: CompiledModel, tool: Tool, device: str) -> stamp.Stamp:
    """The stamp of a pass. It includes `device`, because the measured times depend on it."""
    settings = {"outfmt": plan.output.outfmt, "tool": tool.settings, "flip": plan.flip, "device": device}
    settings["inputs_state"] = stamp.tensors_state(plan.inputs)
    record, manifest = CompiledModel.record_path(model), plan.inputs / "manifest.json"
    files = {"model": compiled.model_sha256, "record": sha256_file(record), "manifest": sha256_file(manifest)}
    return stamp.Stamp(settings, files, code_sha256("infer.run", *tool.modules))


def prepare(plan: PassPlan, made_from: stamp.Stamp, compiled: CompiledModel, tool: Tool) -> Job:
    """Prepare the output directory of a pass and keep the complete outputs of an interrupted run."""
    settings = {
        "model_sha256": made_from.files["model"],
        "manifest_sha256": made_from.files["manifest"],
        "outfmt": plan.output.outfmt,
        "tool": tool.start[1:],
        "flip": plan.flip,
        "code_sha256": made_from.code_sha256,
        "inputs_state": made_from.settings["inputs_state"],
    }
    kept = keep_finished(plan.output, plan.manifest, compiled, settings)
    done = set(kept)
    left = [f"{image.stem}.{plan.manifest.suffix}" for image in plan.manifest.images if image.stem not in done]
    source = plan.inputs
    if kept:
        count = len(plan.manifest.images)
        print(f"{plan.output.folder}: {len(kept)} of {count} inputs were finished before and are kept")
        source = link_inputs(plan.output.beside("chunk"), plan.inputs, left)
    return Job(plan, made_from, kept, source)


def check_disk(jobs: list[Job], compiled: CompiledModel) -> None:
    """Raise UserError if the disks do not have enough free space for the remaining outputs of all passes."""
    needs: Counter[int] = Counter()
    for plan, _, kept, _ in jobs:
        done, disk = set(kept), os.stat(plan.output.folder).st_dev
        needs[disk] += sum(sum(compiled.output_bytes(i.shape)) for i in plan.manifest.images if i.stem not in done)
        check_free_disk(plan.output.folder, needs[disk])


def write_run_record(job: Job, model: Path, compiled: CompiledModel, command_line: list[str], seconds: float) -> None:
    """Check the outputs of a finished pass and write its record. `seconds`: run time of the tool, used if its summary
    contains no total."""
    output, manifest = job.plan.output, job.plan.manifest
    result = run_ais_bench.collect(output)
    files = {**{stem: output.output_names(stem, len(compiled.outputs)) for stem in job.kept}, **result.files}
    check_outputs(output, manifest, files, compiled)
    path = job.plan.inputs / "manifest.json"  # preprocessing may have run again: the locks do not cover the inputs
    unchanged = path.exists() and sha256_file(path) == job.stamp.files["manifest"]
    if not unchanged or stamp.tensors_state(job.plan.inputs) != job.stamp.settings["inputs_state"]:
        raise WorkFailed("inputs changed while they were inferred", where=path, hint="rerun make infer")
    if job.kept:
        shutil.rmtree(job.source)
    total = result.host.get("total", seconds)
    host = {"read": result.host.get("read"), "infer": result.infer, "write": result.host.get("write"), "total": total}
    rate = len(result.files) / total
    RunRecord(
        model=str(model),
        model_sha256=compiled.model_sha256,
        manifest_sha256=job.stamp.files["manifest"],
        metadata=compiled.metadata,
        tool=result.tool,
        command=command_line,
        outputs=compiled.outputs,
        batch=compiled.inputs[0].shape[0],
        images=len(manifest.images),
        flipped=job.plan.flip or manifest.flipped,
        kept=len(job.kept),
        seconds=host,
        images_per_second=rate,
        device=result.device,
        files={image.stem: files[image.stem] for image in manifest.images},  # in the manifest's order
    ).write(output.record)
    stamp.write_stamp(output.folder, job.stamp, [output.record])
    device = result.device["throughput"]
    count = plural(len(result.files), "image")
    print(f"inferred {count} into {output.folder} ({rate:.1f} images/s, device alone {device:.1f})")


def run_jobs(jobs: list[Job], model: Path, compiled: CompiledModel, tool: Tool, device: str, locks: list[int]) -> None:
    """Run the tool once, for one pass or, with the emulator, for two; then write their records. Raises WorkFailed if it
    fails, but UserError if it fails and there is no output at all, neither a new one nor one of an interrupted run."""
    first = jobs[0]
    batch, gears = compiled.inputs[0].shape[0], bool(compiled.gears)
    command_line = run_ais_bench.build_command(
        tool.start, model, first.source, first.plan.output, batch, device, gears=gears
    )
    if gears and tool.modules:  # warming up one gear does not help the others
        command_line += ["--warmup_count", "0"]
    if first.plan.flip:
        command_line += ["--flip", "1"]
    for second in jobs[1:]:
        command_line += ["--input_flip", str(second.source), "--output_flip", str(second.plan.output.folder)]
    try:
        seconds = run_ais_bench.execute([command_line], locks, "rerun the same command: finished outputs are kept")
    except WorkFailed as error:
        if any(job.plan.output.listing() for job in jobs):
            raise
        # Exit code 2: make then forgets the values of this call, such as a wrong model, device or AIS_PYTHON.
        what = f"{error.what}; it wrote no output"
        raise UserError(what, found=error.found) from None
    for job in jobs:
        write_run_record(job, model, compiled, command_line, seconds)


def run(model: Path, passes: list[PassPlan], tool: Tool, device: str) -> None:
    """Run the passes that are not up to date and write their run records."""
    compiled = CompiledModel.read(model)
    for plan in passes:
        check_inputs(plan.inputs, plan.manifest, model, compiled)
    outfmt = passes[0].output.outfmt or ("NPY" if compiled.gears else "BIN")
    if compiled.gears and outfmt != "NPY":
        raise UserError("wrong --outfmt for a model with gears", expected="NPY", found=outfmt)
    passes = [plan._replace(output=OutputDir(plan.output.folder, outfmt)) for plan in passes]
    with ExitStack() as stack:
        for plan in passes:
            make_folder(plan.output.folder.parent)
        locks = [stack.enter_context(locked(plan.output.beside("lock"))) for plan in passes]
        jobs = []
        for plan in passes:
            made_from, output = make_stamp(plan, model, compiled, tool, device), plan.output
            current = stamp.is_current(output.folder, made_from, [output.record])
            if current and output.is_complete(plan.manifest, compiled):
                stamp.touch(output.folder, [output.record])
            else:
                jobs.append(prepare(plan, made_from, compiled, tool))
        check_disk(jobs, compiled)
        together = len(jobs) == 2 and jobs[1].plan.flip  # only the emulator flips
        for group in [jobs] if together else [[job] for job in jobs]:
            run_jobs(group, model, compiled, tool, device, locks)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infer.run", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="compiled model with its record beside it")
    parser.add_argument("--inputs", type=Path, required=True, help="directory of inputs with its manifest.json")
    parser.add_argument("--output", type=Path, required=True, help="output directory; records are written beside it")
    parser.add_argument("--output_flip", type=Path, help="output directory of a second pass over the flipped images")
    parser.add_argument("--inputs_flip", type=Path, help="directory of flipped inputs, which ais_bench needs")
    parser.add_argument("--outfmt", choices=OUTPUT_FORMATS, default="", help="default: BIN; with gears NPY")
    parser.add_argument("--device", type=device_id, default="0", help="device id (%(default)s)")
    run_ais_bench.add_arguments(parser)
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    tool = run_ais_bench.find_tool(args.backend, args.ais_python, [args.device])
    passes = plan_passes(args.inputs, args.output, args.output_flip, args.inputs_flip, args.outfmt, tool)
    run(args.model, passes, tool, args.device)


if __name__ == "__main__":
    sys.exit(main())
