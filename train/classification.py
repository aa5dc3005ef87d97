"""Train a classification net on ImageNet's layout, or validate a checkpoint: the model zoo's trainer minus its faults.

    python -m train.classification data/imagenet --cfg configs/hrnet_w18.yaml
    python -m train.classification data/imagenet --cfg configs/hrnet_w18.yaml --nproc 8 --bs 256 --lr 0.1

Reads    train/<class>/*, val/ in any layout of `hrnet.datasets`, the config's MODEL, INPUT, TRAIN and TEST
Writes   checkpoint.pth.tar, model_best.pth.tar and metrics.jsonl after each epoch (train/state.py),
         output/<device_id>/train_<rank>.log, or eval_<rank>.log and eval_<rank>.txt with the class that each image was
         given; last <network>_bs<batch>_<processes>p_<acc|perf|eval>.log beside it
Locks    <output>_lock
Resumes  the same call goes on behind the last finished epoch, with the losses of a run that was never stopped
Times    with --stop_step a performance run: so many steps, no validation, no checkpoint

Source: https://github.com/Ascend/ModelZoo-PyTorch, PyTorch/contrib/cv/classification/HRNet_ID1780_for_PyTorch,
tools/train.py, tools/valid.py and test/*.sh; docs/decisions/0018-training.md says what is done otherwise and why.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Optional

import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, command, cores, first_few, integer
from hrnet.config import config_path, load_config
from hrnet.io.files import locked, make_folder, write_text
from hrnet.nets import checkpoint, classification
from hrnet.nets.trunk import count_parameters
from hrnet.schemas import CLASSIFICATION
from train import distributed, epochs, meters, recipe, samples
from train.distributed import Say
from train.meters import mean
from train.state import BEST, Run, decisive

PORT = 29988  # the model zoo's


def configured(args: argparse.Namespace) -> CfgNode:
    """The config, with what the call says otherwise."""
    config = load_config(args.cfg, CLASSIFICATION)
    config.defrost()
    if args.bs:
        config.TRAIN.BATCH_SIZE_PER_GPU = config.TEST.BATCH_SIZE_PER_GPU = args.bs
    config.TRAIN.LR = args.lr or config.TRAIN.LR
    config.TRAIN.END_EPOCH = args.train_epochs or config.TRAIN.END_EPOCH
    config.WORKERS = min(config.WORKERS, max(1, cores() // args.nproc)) if args.workers is None else args.workers
    config.freeze()
    return config


def train(
    args: argparse.Namespace, config: CfgNode, learner: recipe.Learner, split: samples.Split, say: Say
) -> meters.Outcome:
    """Train behind the last finished epoch, to the end."""
    held_out = samples.read_held_out(args.data_path, config)
    tell_left_out(held_out, say)
    training = samples.training(split, config, learner.place)
    validating = samples.held_out(held_out, config, learner.place)
    finished = Run(args.output, decisive(args.cfg.stem, config, split, learner))
    finished.resume(learner)
    before, end, began = len(finished.epochs), config.TRAIN.END_EPOCH, time.monotonic()
    if before:
        say(f"{before} of {end} epochs are finished in {args.output}")
    for number in range(before, end):
        rate = recipe.rate(config, number)
        learner.set_rate(rate)
        meter = epochs.learn(learner, training, number, 0, config.PRINT_FREQ, say)
        found, _ = epochs.validate(learner, validating, say)
        finished.add(learner, {"epoch": number + 1, "lr": rate, **epochs.averages(learner, meter), **found._asdict()})
        left = (time.monotonic() - began) / (number + 1 - before) * (end - number - 1)
        told = f"Top-1 {found.top1:.2f}% of {found.images} images, best {finished.best:.2f}%"
        speed = f"{meter.images_per_second():.1f} images/s, {left / 60:.0f} min left"
        say(f"epoch {number + 1} of {end}: loss {mean(meter.losses):.4f}, {told}, {speed}")
    last = finished.epochs[-1]
    return meters.Outcome(last["images_per_second"], last["top1"], last["last_loss"])


def measure(
    args: argparse.Namespace, config: CfgNode, learner: recipe.Learner, split: samples.Split, say: Say
) -> meters.Outcome:
    """Time some steps."""
    batches = samples.training(split, config, learner.place)
    meter = epochs.learn(learner, batches, 0, args.stop_step, config.PRINT_FREQ, say)
    return meters.Outcome(meter.images_per_second(), mean(meter.top1), meter.losses[-1])


def validate(
    args: argparse.Namespace, config: CfgNode, learner: recipe.Learner, split: samples.Split, say: Say
) -> meters.Outcome:
    """Validate a checkpoint, and write down the class that each image was given."""
    checkpoint.load(learner.net, args.weights or args.output / BEST)
    batches = samples.held_out(split, config, learner.place)
    found, answers = epochs.validate(learner, batches, say)
    files = split.files[learner.place.rank :: learner.place.processes]
    lines = (f"{os.path.relpath(file, args.data_path)} {answer}\n" for file, answer in zip(files, answers))
    write_text(run_folder(args) / f"eval_{learner.place.rank}.txt", "".join(lines))
    return meters.Outcome(None, found.top1, found.loss)


def run_folder(args: argparse.Namespace) -> Path:
    """Where logs and results go, as in the model zoo's scripts."""
    return make_folder(args.output / "output" / str(args.device_id))


def tell_left_out(split: samples.Split, say: Say) -> None:
    """Which files and labels are passed over."""
    if split.left_out:
        say(f"{len(split.left_out)} files without a class are left out: {first_few(split.left_out)}")
    if split.absent:
        say(f"{len(split.absent)} labels have no image (a subset): {first_few(split.absent)}")


CASES = {"acc": train, "perf": measure, "eval": validate}  # by the model zoo's names of a run's kind


def run(args: argparse.Namespace) -> None:
    """One process of a run; the first one writes and tells the result."""
    started = time.monotonic()
    config = configured(args)
    case = "eval" if args.eval else "perf" if args.stop_step else "acc"
    read = samples.read_held_out if args.eval else samples.read_training
    split = read(args.data_path, config)
    folder = run_folder(args)
    with contextlib.ExitStack() as held:
        place = held.enter_context(distributed.init_distributed(args.device_id))
        if place.first and not args.eval:
            held.enter_context(locked(f"{args.output}_lock"))
        log = folder / f"{'eval' if args.eval else 'train'}_{place.rank}.log"
        say = held.enter_context(distributed.log_file(log, place))
        held.enter_context(samples.deaths_told())
        torch.manual_seed(samples.SEED)
        learner = recipe.learner(classification.build(config), config, "fp32" if args.eval else args.precision, place)
        batch = (config.TEST if args.eval else config.TRAIN).BATCH_SIZE_PER_GPU
        told = f"{place.processes} times {batch} images at once on {place.device.type}, {learner.precision}"
        size = f"{count_parameters(learner.net) / 1e6:.2f} M parameters"
        say(f"{args.cfg.stem}, {size}: {told}; {len(split.files)} images")
        tell_left_out(split, say)
        outcome = CASES[case](args, config, learner, split, say)
        if place.first:
            result = meters.Result(args.cfg.stem, place.processes, batch, case, outcome, time.monotonic() - started)
            write_text(folder / f"{result.case_name}.log", result.text())
            for line in result.block():
                say(line)


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.classification", description=__doc__.splitlines()[0])
    parser.add_argument("data_path", type=Path, help="the data set: train/<class>/* and val/")
    parser.add_argument("--cfg", type=config_path, required=True, help="a name in configs/, or the path of a YAML")
    parser.add_argument("--output", type=Path, help="folder of the run (default: build/<config>/train)")
    parser.add_argument("--lr", type=positive, help="learning rate; N processes take N times it (default: TRAIN.LR)")
    parser.add_argument("--bs", type=integer(1), help="images at once in each process (default: TRAIN, TEST)")
    parser.add_argument("--train_epochs", type=integer(1), help="epochs (default: TRAIN.END_EPOCH)")
    parser.add_argument("--stop_step", type=integer(0), default=0, help="time so many steps; 0: train (%(default)s)")
    parser.add_argument("--workers", type=integer(0), help="processes that read images (default: WORKERS, by cores)")
    parser.add_argument("--precision", choices=recipe.PRECISIONS, default="auto", help=recipe.dtype_of.__doc__)
    parser.add_argument("--device_id", type=integer(0), default=0, help="device of the first process (%(default)s)")
    parser.add_argument("--nproc", type=integer(1), default=1, help="processes on this machine (%(default)s)")
    parser.add_argument(
        "--nodes", type=integer(1), default=1, help="machines, each with --nproc processes (%(default)s)"
    )
    parser.add_argument("--dn", type=integer(0), default=0, help="which of them this one is, from 0 (%(default)s)")
    parser.add_argument("--addr", default="127.0.0.1", help="address of the first machine (%(default)s)")
    parser.add_argument("--port", type=integer(1), default=PORT, help="a free port there (%(default)s)")
    parser.add_argument("--eval", action="store_true", help="validate --weights, train nothing")
    parser.add_argument("--weights", type=Path, help=f"checkpoint to validate (default: {BEST} of --output)")
    args = parser.parse_args(argv)
    args.output = args.output or Path("build", args.cfg.stem, "train")
    return args


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


@command
def main(argv: Optional[list[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    if args.nproc * args.nodes > 1 and not distributed.is_launched():
        if args.dn >= args.nodes:
            raise UserError("--dn", expected=f"below --nodes, {args.nodes}", found=args.dn)
        distributed.launch("train.classification", argv, args.nproc, args.nodes, args.dn, args.addr, args.port)
    else:
        run(args)


if __name__ == "__main__":
    sys.exit(main())
