"""A training run, from the command line to the result, for both tasks.

Source: https://gitee.com/ascend/ModelZoo-PyTorch, PyTorch/contrib/cv/classification/HRNet_ID1780_for_PyTorch,
tools/train.py and test/*.sh; docs/decisions/0018-training.md lists what differs and why.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from yacs.config import CfgNode

from hrnet.cli import UserError, cores, integer, plural, real
from hrnet.config import add_cfg_argument, load_config
from hrnet.io.files import locked, make_folder, write_text
from hrnet.nets import checkpoint
from hrnet.nets.trunk import count_parameters
from hrnet.schemas import POSE
from train import distributed, loop, meters, recipe, state
from train.batches import SEED, Samples, training_batches, worker_deaths
from train.distributed import Log
from train.meters import mean
from train.recipe import Outcome, Task, Trainer

PORT = 29988  # the model zoo's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both tasks, with the model zoo's names as aliases."""
    parser.add_argument("positional", nargs="?", type=Path, metavar="dataset", help="the same as --dataset")
    parser.add_argument("--dataset", "--data_path", type=Path, help="the data set's directory")
    add_cfg_argument(parser)
    parser.add_argument("--output", type=Path, help="output directory (default: build/<config>/train)")
    parser.add_argument("--lr", type=real(above=0), help="learning rate (default: TRAIN.LR)")
    parser.add_argument(
        "--batch_size", "--bs", type=integer(1), help="batch size of each process (default: from TRAIN in the config)"
    )
    parser.add_argument("--train_epochs", type=integer(1), help="epochs (default: TRAIN.END_EPOCH)")
    parser.add_argument("--stop_step", type=integer(0), default=0, help="only time N steps; 0: train (%(default)s)")
    parser.add_argument(
        "--workers", type=integer(0), help="processes that read images (default: WORKERS, at most the cores / --nproc)"
    )
    parser.add_argument("--threads", type=integer(1), help="CPU threads of each process (default: automatic; pose: 1)")
    text = "mixed: 16 bits by torch.autocast; auto: mixed, but fp32 on a CPU without bfloat16 "
    text += "(pose: mixed if FP16.ENABLED is true) (%(default)s)"
    parser.add_argument("--precision", choices=recipe.PRECISIONS, default="auto", help=text)
    parser.add_argument("--weights", type=Path, help="a checkpoint to start from")
    number: dict[str, Any] = {"type": integer(0), "default": 0}
    parser.add_argument("--device", "--device_id", **number, help="device of the first process (%(default)s)")
    count: dict[str, Any] = {"type": integer(1), "default": 1}
    parser.add_argument("--nproc", **count, help="processes on this machine (%(default)s)")
    parser.add_argument("--nodes", **count, help="machines, each with --nproc processes (%(default)s)")
    parser.add_argument("--dn", **number, help="number of this machine, from 0 (%(default)s)")
    parser.add_argument("--addr", default="127.0.0.1", help="address of the first machine (%(default)s)")
    parser.add_argument("--port", type=integer(1), default=PORT, help="a free port of the first machine (%(default)s)")
    parser.set_defaults(eval=False)


def finish_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.Namespace:
    """Check what argparse cannot, and set the defaults that depend on other arguments."""
    if (args.dataset is None) == (args.positional is None):
        parser.error("give the data set once: --dataset DIR")
    args.dataset = args.dataset or args.positional
    args.output = args.output or Path("build", args.cfg.stem, "train")
    return args


def main(module: str, task: type[Task], args: argparse.Namespace, argv: Sequence[str]) -> None:
    """Start the processes of `python -m module argv`, or run as one of them."""
    distributed.check_torch()
    if distributed.must_launch(args.nproc * args.nodes):
        if args.dn >= args.nodes:
            raise UserError("--dn is too large", expected=f"below --nodes, {args.nodes}", found=args.dn)
        distributed.launch(module, argv, args.nproc, args.nodes, args.dn, args.addr, args.port)
    else:
        run(task, args)


def run(task_type: type[Task], args: argparse.Namespace) -> None:
    """Run one process; the first process writes and prints the result."""
    started = time.monotonic()
    task = task_type(effective_config(task_type, args))
    task.check(args.cfg)
    state.check_output(args.output, args.cfg.stem)
    case = "eval" if args.eval else "perf" if args.stop_step else "acc"
    samples = task.samples(args.dataset, training=not args.eval)
    folder = make_folder(args.output / "output" / str(args.device))  # where the model zoo writes logs and results
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(distributed.init_distributed(args.device))
        if context.first and not args.eval:
            stack.enter_context(locked(f"{args.output}_lock"))
        name = f"{'eval' if args.eval else 'train'}_{context.rank}.log"
        log = stack.enter_context(distributed.log_file(folder / name, context))
        if warning := distributed.unused_npu(context.device.type):
            log(warning)
        stack.enter_context(worker_deaths())
        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(SEED)
        net = task.build()
        if not args.eval:
            load_initial_weights(net, args, task.config, log)
        trainer = recipe.make_trainer(task, net, "fp32" if args.eval else args.precision, context)
        batch = task.batch(training=not args.eval)
        how = f"{context.device.type}, {trainer.precision}, {context.processes} x batch size {batch}"
        log(f"{args.cfg.stem}, {count_parameters(net) / 1e6:.2f} M parameters, {plural(len(samples), 'image')}: {how}")
        for line in samples.notes():
            log(line)
        if args.eval:
            outcome = task.evaluate(trainer, args.dataset, args.weights or args.output / state.BEST, folder, log)
        else:
            outcome = (measure if args.stop_step else train)(args, trainer, samples, log)
        if context.first:
            seconds = time.monotonic() - started
            result = meters.Result(args.cfg.stem, context.processes, batch, case, outcome, seconds)
            write_text(folder / f"{result.case_name}.log", result.text())
            for line in result.block():
                log(line)
            if outcome.weights:
                log(f"wrote {outcome.weights}")
                log(f"next: {state.evaluation(args, task.config, outcome.weights)}")


def initial_weights(args: argparse.Namespace, config: CfgNode) -> Optional[Path]:
    """--weights, else MODEL.PRETRAINED, relative to the working directory as upstream; else None."""
    return args.weights or (Path(config.MODEL.PRETRAINED) if config.MODEL.PRETRAINED else None)


def load_initial_weights(net: torch.nn.Module, args: argparse.Namespace, config: CfgNode, log: Log) -> None:
    """Load --weights completely, or the matching weights of MODEL.PRETRAINED, as upstream's init_weights does. For pose
    only the modules in PRETRAINED_LAYERS are loaded."""
    model = config.MODEL
    if args.weights:
        checkpoint.load(net, args.weights, log)
        if model.PRETRAINED:
            log(f"MODEL.PRETRAINED of {args.cfg} is ignored because --weights is given")
    elif model.PRETRAINED:
        layers = model.EXTRA.PRETRAINED_LAYERS if model.NAME == POSE else ["*"]
        if not Path(model.PRETRAINED).exists():
            hint = "put the file there, give --weights, or remove MODEL.PRETRAINED to start from random weights"
            raise UserError("file of MODEL.PRETRAINED is missing", where=args.cfg, found=model.PRETRAINED, hint=hint)
        checkpoint.load_matching(net, model.PRETRAINED, layers, log)


def effective_config(task: type[Task], args: argparse.Namespace) -> CfgNode:
    """The config, overridden by the arguments."""
    config = load_config(args.cfg, task.kind)
    config.defrost()
    if args.batch_size:
        config.TRAIN[task.batch_key] = config.TEST[task.batch_key] = args.batch_size
    config.TRAIN.LR = args.lr or config.TRAIN.LR
    config.TRAIN.END_EPOCH = args.train_epochs or config.TRAIN.END_EPOCH
    config.WORKERS = min(config.WORKERS, max(1, cores() // args.nproc)) if args.workers is None else args.workers
    config.freeze()
    return config


def train(args: argparse.Namespace, trainer: Trainer, samples: Samples, log: Log) -> Outcome:
    """Train from the last finished epoch to the end. A task without validation writes the weights of the last epoch."""
    task, config = trainer.task, trainer.task.config
    validate = task.validation(args.dataset, trainer.context, log)
    batches = training_batches(samples, task.batch(), config.WORKERS, trainer.context)
    finished = state.RunState(
        args.output,
        state.run_settings(args.cfg.stem, trainer, samples, initial_weights(args, config), args.threads),
    )
    finished.resume(trainer)
    before, end, began = len(finished.epochs), config.TRAIN.END_EPOCH, time.monotonic()
    if before:
        log(f"{before} of {end} epochs are finished in {args.output}")
    for number in range(before, end):
        meter = loop.train_epoch(trainer, batches, number, 0, config.PRINT_FREQ, log)
        figures = {"epoch": number + 1, "lr": trainer.learning_rate, **loop.averages(trainer, meter)}
        finished.add(trainer, {**figures, **(validate(trainer) if validate else {})})
        left = (time.monotonic() - began) / (number + 1 - before) * (end - number - 1)
        log(f"epoch {number + 1} of {end}: {summary(finished, meter)}, {left / 60:.0f} min left")
    path = args.output / (f"{args.cfg.stem}.pth" if validate is None else state.BEST)
    if validate is None and trainer.context.first:
        checkpoint.save(trainer.net, path)
    last = finished.epochs[-1]
    return Outcome(last["images_per_second"], last.get("top1"), last["last_loss"], path)


def summary(finished: state.RunState, meter: meters.Meter) -> str:
    """The last epoch in one line: loss, accuracy or terms of the loss, throughput."""
    last, parts = finished.epochs[-1], [f"loss {mean(meter.figures['loss']):.4f}"]
    if "top1" in last:
        parts += [f"Top-1 {last['top1']:.2f}% of {last['images']} images", f"best {finished.best:.2f}%"]
    else:
        parts += [f"{name} {mean(values):.4g}" for name, values in meter.figures.items() if name != "loss"]
    return ", ".join([*parts, f"{meter.images_per_second():.1f} images/s"])


def measure(args: argparse.Namespace, trainer: Trainer, samples: Samples, log: Log) -> Outcome:
    """Time --stop_step steps."""
    config = trainer.task.config
    batches = training_batches(samples, trainer.task.batch(), config.WORKERS, trainer.context)
    meter = loop.train_epoch(trainer, batches, 0, args.stop_step, config.PRINT_FREQ, log)
    accuracy = mean(meter.figures["top1"]) if "top1" in meter.figures else None
    return Outcome(meter.images_per_second(), accuracy, meter.figures["loss"][-1])
