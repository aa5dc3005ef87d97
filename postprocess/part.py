"""Write the record of a part from the records of its inputs and runs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from hrnet.code import PREDICTION_MODULES, stages_sha256
from hrnet.config import add_cfg_argument
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.parts import Part, keypoints_path, predictions_path
from hrnet.io.records import FormatError, read_record
from hrnet.io.runs import RunRecord, output_folder
from hrnet.io.stamp import Stamp, is_current, tensors_state, touch, write_stamp


@dataclass(frozen=True)
class Job:
    """The files of a part. `runs`: the run record and, for the flip test, the record of the run over flipped images."""

    cfg: Path
    manifest: Path
    runs: list[Path]
    part: Path  # the record to write
    output: Optional[Path] = None  # the metrics record, if this is the only part

    @staticmethod
    def from_args(args: argparse.Namespace) -> Job:
        runs = [args.run] + ([args.run_flip] if getattr(args, "run_flip", None) else [])
        return Job(args.cfg, args.manifest, runs, args.part or whole_part(args.output), args.output)


def make_part(task: str, job: Job, settings: dict[str, Any], predict: Callable[[Job], None]) -> None:
    """Call `predict` to write the part, or do nothing if it is up to date. `settings`: the config values that affect
    the predictions."""
    for path, what, stage in ((job.manifest, "manifest", "preprocess"), *((run, "run", "infer") for run in job.runs)):
        if not path.is_file():
            raise FormatError(f"no {what} record", where=path, hint=f"run make {stage}")
    files = {"manifest": job.manifest, **dict(zip(("run", "run_flip"), job.runs))}
    states = {"outputs_state": [tensors_state(output_folder(run)) for run in job.runs]}
    stamp = Stamp.compute([PREDICTION_MODULES[task]], {**settings, **states}, files)
    products = [predictions_path(job.part), *([keypoints_path(job.part)] if task == "pose" else []), job.part]
    if is_current(job.part, stamp, products):
        folder = job.output.with_suffix("") if job.output else None
        if folder:  # this is the only part: the message is about the evaluation, not about the part
            touch(folder / "predictions.jsonl", products, f"rm -r {folder} {job.output}")
        else:
            touch(job.part, products)
    else:
        make_folder(job.part.parent)
        predict(job)
        write_stamp(job.part, stamp, products)


def write_part(job: Job, task: str, classes: int, seconds: dict[str, float]) -> None:
    """Write the record of a part, after its predictions. `seconds`: of inference and of each step."""
    images, records = Manifest.read(job.manifest), [RunRecord.read(run) for run in job.runs]
    run, keypoints = records[0], keypoints_path(job.part) if task == "pose" else None
    hashes = dict(zip(("run_sha256", "run_flip_sha256"), map(sha256_file, job.runs)))
    reasons = read_record(job.manifest.with_name("rejected.json"), "rejected")["images"] if images.shard else {}
    Part(
        shard=images.shard or [1, 1],
        listed=images.listed or len(images.images),
        list_sha256=images.list_sha256 or "",
        index_sha256=images.index_sha256,
        config_sha256=images.config_sha256,
        weights_sha256=run.metadata.get("weights_sha256", ""),
        model=Path(run.model).name,
        model_sha256=run.model_sha256,
        dtype=images.dtype,
        flip=len(records) > 1,
        tool=run.tool,
        code_sha256=stages_sha256(task) if images.shard else "",
        metadata=run.metadata,
        batch=run.batch,
        classes=classes,
        images=len(images.images),
        inferred=min(record.images - record.kept for record in records),
        seconds=seconds,
        device_images_per_second=run.device.get("throughput") if len(records) == 1 else None,
        made_from={"manifest_sha256": sha256_file(job.manifest), **hashes},
        predictions_sha256=sha256_file(predictions_path(job.part)),
        keypoints_sha256=sha256_file(keypoints) if keypoints else None,
        available=images.available,
        rejected=images.rejected,
        reasons=reasons,
    ).write(job.part)


def whole_part(output: Path) -> Path:
    """The path of the only part of a run over a whole data set. `output`: the metrics record."""
    return output.with_suffix("") / "parts" / "1-of-1.json"


def run_beside(folder: str) -> Path:
    """The path of the run record beside a directory of outputs."""
    path = Path(folder)
    return path.with_name(f"{path.name}_run.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both tasks share."""
    add_cfg_argument(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the inputs")
    run = parser.add_mutually_exclusive_group(required=True)
    run.add_argument("--run", type=Path, help="run record of infer.run")
    text = "directory of outputs, instead of --run"
    run.add_argument("--dump_dir", dest="run", metavar="DIR", type=run_beside, help=text)
    product = parser.add_mutually_exclusive_group(required=True)
    product.add_argument("--output", type=Path, help="metrics record to write")
    product.add_argument("--part", type=Path, help="for a part of a data set: record to write")
