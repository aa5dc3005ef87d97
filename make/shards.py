"""Process a data set in parts: preprocess, infer and postprocess each part, then remove its inputs and outputs.

    python -m make.shards --cfg hrnet_w18 --dataset data/imagenet --model build/hrnet_w18/om/bs16-float32-fp32.onnx \\
        --parts build/hrnet_w18/eval/imagenet-float32/onnxruntime-bs16-fp32/parts --shards 16 --device 0,1 \\
        --preprocess 'python -m preprocess.classification … --output {work}/prep --shard {shard}' \\
        --infer 'python -m infer.run … --inputs {work}/prep --output {work}/out/run --device {device}' \\
        --evaluate 'python -m postprocess.classification … --run {work}/out/run_run.json --part {part}'

Called by `make eval SHARDS=16`, and for one part (--shard 3/16) by `make part`; the Makefile provides the commands. One
part is preprocessed while others are inferred, and a free device takes the next part. So the disk contains the inputs
of at most one part per device, plus one part.

Reads    the compiled model with its record, and the files that the commands read
Writes   <parts>/<k>-of-<n>.json with the files beside it, by --evaluate and --reference; data.json, the state of the
         data set, which make compares; inputs and outputs of a part below <parts>/<k>-of-<n>/, removed unless --keep
Locks    <parts>/<k>-of-<n>_lock, until the last command of the part has ended
Resumes  finished parts of the same images, model, config and code are kept; an interrupted part continues
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import queue
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional, Union

from yacs.config import CfgNode

from hrnet.cli import UserError, command, integer
from hrnet.code import code_sha256, stages_sha256
from hrnet.config import add_cfg_argument, config_sha256, load_config
from hrnet.datasets import CocoSet, Dataset, find_coco, find_images
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import locked, make_folder, sha256_file
from hrnet.io.parts import Part, reference_path
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.stamp import data_state
from hrnet.schemas import CLASSIFIERS, POSE
from hrnet.shards import Shard, select_part, shard
from make.part_stages import Stages, Stopped


@dataclasses.dataclass(frozen=True)
class Run:
    """The data that all parts of a run share."""

    args: argparse.Namespace
    config: CfgNode
    compiled: CompiledModel
    stages: Stages
    state: dict[str, Optional[list[int]]] = dataclasses.field(default_factory=dict)  # of the data set

    @property
    def task(self) -> str:
        return "pose" if self.compiled.gears else "classification"

    def path(self, part: Shard) -> Path:
        path: Path = self.args.parts / f"{part.name}.json"
        return path

    def work(self, part: Shard) -> Path:
        path: Path = self.args.parts / part.name
        return path

    def prepare(self, part: Shard, lock: int) -> None:
        make_folder(self.work(part))
        self.stages.run("preprocess", lock, shard=part, work=self.work(part))
        self.state.update(read_record(self.work(part) / "prep/settings.json", "settings")["data"])

    def finish(self, part: Shard, names: list[str], lock: int, device: str) -> None:
        path = self.path(part)
        values = {"shard": part, "work": self.work(part), "device": device, "part": path}
        values["reference"] = reference_path(path).with_suffix("")
        for name in names:
            self.stages.run(name, lock, **values)
        self.remove(part)

    def remove(self, part: Shard) -> None:
        if not self.args.keep:
            shutil.rmtree(self.work(part), ignore_errors=True)


def find(dataset: Path, task: str, config: CfgNode) -> Union[Dataset, CocoSet]:
    if task == "pose":
        return find_coco(dataset, config.DATASET.TEST)
    return find_images(dataset, config.MODEL.NUM_CLASSES)


def identity(run: Run, part: Shard, listed: Any, code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that the record of a part must have, and the part's images. `listed`: the data set, from `find`;
    `code`: the hash of the stages."""
    args, name = run.args, "images" if run.task == "pose" else "labels"
    ends = () if run.task == "pose" else listed.ends
    images, listing = select_part(getattr(listed, name), part, args.limit, ends, args.dataset)
    total = len(getattr(listed, name)) + len(listed.absent)
    fields = {
        "part": part,
        "list_sha256": listing.sha256,
        "available": total if listing.images < total else None,  # with LIMIT: changes if images are added
        "index_sha256": dataclasses.replace(listed, **{name: images}).sha256(),
        "config_sha256": config_sha256(run.config),
        "model_sha256": run.compiled.model_sha256,
        "flip": args.flip,
        "code_sha256": code,
    }
    return fields, images


def needed(run: Run, shards: list[Shard]) -> dict[Shard, list[str]]:
    """The stages after preprocessing that each part needs; none if its records are up to date."""
    args, stages, code = run.args, {}, stages_sha256(run.task)
    everything = [stage for stage in ("infer", "evaluate", "reference") if run.stages.templates[stage]]
    listed: Any = None
    for part in shards:
        stages[part] = everything
        try:
            record = Part.read(run.path(part))
        except FormatError:  # missing, or its run was killed
            continue
        listed = listed or find(args.dataset, run.task, run.config)
        expected, images = identity(run, part, listed, code)
        if all(getattr(record, key) == value for key, value in expected.items()):
            run.state.update(data_state(listed.root, listed.lists(), images))
            stages[part] = [] if has_reference(run, part) else ["reference"]
    return stages


def has_reference(run: Run, part: Shard) -> bool:
    """Whether the reference of a part exists, or is not needed."""
    words = shlex.split(run.stages.templates["reference"])
    if not words:
        return True
    try:
        record = read_record(reference_path(run.path(part)), "metrics")
    except FormatError:
        return False
    weights: Path = run.args.weights
    hashes = {weights.with_name(name): known for name, known in record.get("external_data", {}).items()}
    hashes[weights] = record.get("weights_sha256")
    code = code_sha256(words[words.index("-m") + 1])
    return record.get("code_sha256") == code and all(known == sha256_file(path) for path, known in hashes.items())


def compute(run: Run, todo: dict[Shard, list[str]], devices: list[str], total: int) -> None:
    """Compute the parts: one thread preprocesses, and one thread for each device runs the other stages. `total`: number
    of parts, with those that were finished before. Raises the first error of a thread."""
    slots = threading.Semaphore(len(devices) + 1)  # number of parts whose inputs may be on disk
    ready: queue.Queue[Optional[tuple[Shard, contextlib.ExitStack, int]]] = queue.Queue()
    errors: list[BaseException] = []
    started, done = time.perf_counter(), 0

    def preprocess() -> None:
        for part in todo:
            slots.acquire()
            held = contextlib.ExitStack()
            lock = held.enter_context(locked(run.args.parts / f"{part.name}_lock"))
            run.prepare(part, lock)
            ready.put((part, held, lock))

    def infer(device: str) -> None:
        nonlocal done
        while (item := ready.get()) is not None:
            part, held, lock = item
            with held:
                run.finish(part, todo[part], lock, device)
            slots.release()
            done += 1
            left = (time.perf_counter() - started) / done * (len(todo) - done)
            print(f"part {part} is done: {total - len(todo) + done} of {total}, {left:.0f} s left", flush=True)

    def thread(work: Callable[..., None], *arguments: str) -> None:
        try:
            work(*arguments)
        except Stopped:
            pass
        except Exception as error:
            errors.append(error)
            run.stages.stop()
        if run.stages.stopped or work is preprocess:
            slots.release()  # wake up the other threads, so that they end
            for _ in devices:
                ready.put(None)

    threads = [threading.Thread(target=thread, args=(preprocess,))]
    threads += [threading.Thread(target=thread, args=(infer, device)) for device in devices]
    for each in threads:
        each.start()
    try:
        for each in threads:
            each.join()
    except KeyboardInterrupt:
        run.stages.stop()
        for each in threads:
            each.join()
        raise
    if errors:
        raise errors[0]


def remove_others(parts: Path, count: int) -> None:
    """Remove the inputs and outputs of earlier runs with another number of parts, which were killed or had --keep."""
    for folder in parts.glob("*-of-*"):
        if folder.is_dir() and not folder.name.endswith(f"-of-{count}"):
            with contextlib.suppress(UserError), locked(parts / f"{folder.name}_lock"):  # skip a part that is running
                shutil.rmtree(folder)


def load_model(args: argparse.Namespace) -> tuple[CfgNode, CompiledModel]:
    """The config and the record of the compiled model. Raises UserError if the model is missing."""
    if not args.model.is_file():
        raise UserError("no compiled model", where=args.model, hint="run make om with the same options first")
    compiled = CompiledModel.read(args.model)
    return load_config(args.cfg, *([POSE] if compiled.gears else CLASSIFIERS)), compiled


def open_run(args: argparse.Namespace) -> Run:
    """The data that all parts of these arguments share. Creates the parts' directory."""
    templates = {name: getattr(args, name) for name in ("preprocess", "infer", "evaluate", "reference")}
    run = Run(args, *load_model(args), Stages(templates))
    make_folder(args.parts)
    return run


def run(args: argparse.Namespace) -> None:
    """Compute all parts that are not finished, or only --shard."""
    whole = open_run(args)
    shards = [args.shard] if args.shard else [Shard(number, args.shards) for number in range(1, args.shards + 1)]
    if not args.shard and not args.keep:
        remove_others(args.parts, args.shards)
    todo = {part: stages for part, stages in needed(whole, shards).items() if stages}
    kept = [part for part in shards if part not in todo]
    for part in kept:
        whole.remove(part)
    if kept:
        print(f"{len(kept)} of {len(shards)} parts were finished before and are kept")
    compute(whole, todo, args.devices, len(shards))
    if not args.shard:
        write_record(args.parts / "data.json", "data", {"data": whole.state})  # make/changed.py reads it


def devices(text: str) -> list[str]:
    return text.split(",")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that make.cluster shares."""
    add_cfg_argument(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--limit", type=integer(0), default=0, help="only the first N images; 0: all")
    parser.add_argument("--model", type=Path, required=True, help="compiled model, with its record beside it")
    parser.add_argument("--weights", type=Path, help="the checkpoint or ONNX file that --reference measures")
    parser.add_argument("--flip", action="store_true", help="pose: with the flip test")
    parser.add_argument("--parts", type=Path, required=True, help="directory of the parts' records")
    parser.add_argument("--device", dest="devices", type=devices, default=["0"], help="one id, or several: 0,1")
    parser.add_argument("--keep", action="store_true", help="keep the inputs and outputs")
    parser.add_argument("--preprocess", required=True, help="command; may contain {work} and {shard}")
    more = "command; may contain {work}, {shard}, {device}, {part} and {reference}"
    for name in ("infer", "evaluate"):
        parser.add_argument(f"--{name}", required=True, help=more)
    parser.add_argument("--reference", default="", help=f"{more}; it computes the reference of a part")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.shards", description=__doc__.splitlines()[0])
    add_arguments(parser)
    number = parser.add_mutually_exclusive_group(required=True)
    number.add_argument("--shards", type=integer(1), help="number of parts")
    number.add_argument("--shard", type=shard, help="compute only this part, such as 3/16")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
