"""Train a HigherHRNet on pictures of people in COCO's layout; a killed run resumes.

    python -m data.people --output data/demo_people --split train2017 --images 8000 --scenes plain --size 128 --seed 2
    python -m train.pose --dataset data/demo_people --cfg configs/demo_pose.yaml --output weights/demo_pose.pth

These two made weights/demo_pose.pth, the second one in 785 s with one thread.

Reads    annotations/person_keypoints_<split>.json and images/<split>; DATASET.TRAIN says the split
Writes   a bare float32 state dict; beside it <output>.jsonl, the losses of each epoch, a line for each
Locks    <output>_lock
Resumes  from <output>.state, written after each epoch and removed at the end; where the config or the annotations are
         others, the training starts afresh

Source: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/trainer.py and tools/dist_train.py: Adam (Kingma, Ba,
https://arxiv.org/abs/1412.6980) without weight decay, its rate times LR_FACTOR at each epoch of LR_STEP; where LR_STEP
is empty it warms up and falls to 0 in one cycle. FP16.ENABLED computes in bfloat16, which needs no loss scale.
What is random comes from SEED, the epoch and the picture: one machine gives the same weights again with the same number
of threads, resumed or not; another processor may round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from torch import nn
from yacs.config import CfgNode

from hrnet.cli import UserError, command, integer, progress
from hrnet.config import load_config
from hrnet.io.coco import annotation_path
from hrnet.io.files import locked, make_folder, replacing, sha256_file, write_text
from hrnet.nets import checkpoint, pose
from hrnet.nets.trunk import count_parameters, initialise
from hrnet.pose.joints import COUNT
from hrnet.schemas import POSE
from train.pose_data import Picture, batches, read_pictures
from train.pose_loss import losses

SEED = 0
WARM_UP = 0.1  # part of the one cycle


class State(NamedTuple):
    """A training under way."""

    net: pose.PoseNet
    optimiser: torch.optim.Optimizer
    log: list[dict[str, Any]]  # a record for each finished epoch


def learning_rate(epochs: float, settings: CfgNode) -> float:
    """The rate after so many epochs, fractions too."""
    if settings.LR_STEP:
        passed = sum(epochs >= step for step in settings.LR_STEP)
        return float(settings.LR * settings.LR_FACTOR**passed)
    share = epochs / settings.END_EPOCH
    if share < WARM_UP:
        return float(settings.LR * share / WARM_UP)
    return float(settings.LR * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2)


def train_epoch(state: State, pictures: list[Picture], config: CfgNode) -> dict[str, Any]:
    """One epoch; returns its record: the mean of each term of the loss, the last rate, images a second."""
    epoch, steps = len(state.log), len(pictures) // config.TRAIN.IMAGES_PER_GPU
    sums: Counter[str] = Counter()
    rate, started = 0.0, time.monotonic()
    state.net.train()
    for step, (inputs, targets) in enumerate(progress(batches(pictures, SEED, epoch, config), steps, unit="batch")):
        rate = learning_rate(epoch + step / steps, config.TRAIN)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=config.FP16.ENABLED):
            outputs = state.net(inputs.to(memory_format=torch.channels_last))
        terms = losses([output.float() for output in outputs], targets, config)
        state.optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        state.optimiser.step()
        sums.update({name: term.item() for name, term in terms.items()})
    speed = steps * config.TRAIN.IMAGES_PER_GPU / (time.monotonic() - started)
    means = {name: total / steps for name, total in sums.items()}
    return {"epoch": epoch + 1, **means, "learning_rate": rate, "images_per_second": speed}


def start(config: CfgNode, weights: Optional[Path]) -> State:
    """A net of random weights, or of a checkpoint's, and its optimiser."""
    torch.manual_seed(SEED)
    net = pose.build(config)
    initialise(net)
    for layer in net.final_layers:
        nn.init.normal_(layer.weight, std=pose.START_STD)  # type: ignore[arg-type]
    if weights is not None:
        checkpoint.load(net, weights)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return State(net, torch.optim.Adam(net.parameters(), config.TRAIN.LR), [])


def resume(fresh: State, path: Path, settings: str) -> State:
    """The state that a killed run of the same settings left in `path`, else `fresh`."""
    if not path.exists():
        return fresh
    try:
        left = torch.load(path, weights_only=True)
        told = left["settings"]
    except OSError:
        raise
    except Exception:  # a damaged pickle makes torch raise about any type
        raise UserError("is no state of a training", where=path, hint=f"rm {path} to start afresh") from None
    if told != settings:
        print(f"{path}: of another config or of other annotations; the training starts afresh")
        return fresh
    fresh.net.load_state_dict(left["net"])
    fresh.optimiser.load_state_dict(left["optimiser"])
    print(f"{path}: resumes after epoch {len(left['log'])}")
    return fresh._replace(log=left["log"])


def keep(state: State, path: Path, settings: str) -> None:
    """Write what `resume` reads."""
    parts = {"net": state.net.state_dict(), "optimiser": state.optimiser.state_dict(), "log": state.log}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save({"settings": settings, **parts}, file)


def settings_sha256(config: CfgNode, pictures: list[Picture], weights: Optional[Path], threads: int) -> str:
    """Hash of all that the weights depend on, but for pixels and versions."""
    digest = hashlib.sha256(f"{config.dump()}\n{weights and sha256_file(weights)}\n{threads}\n".encode())
    for picture in pictures:
        digest.update(f"{picture.path.name} {json.dumps(picture.annotations)}\n".encode())
    return digest.hexdigest()


def check_config(config: CfgNode, cfg: Path) -> None:
    """Raises UserError where the config asks for what is not done here."""
    for name, legal, found in (
        ("MODEL.NUM_JOINTS", (COUNT,), config.MODEL.NUM_JOINTS),
        ("LOSS.AE_LOSS_TYPE", ("exp", "max"), config.LOSS.AE_LOSS_TYPE),
        ("DATASET.SCALE_TYPE", ("short", "long"), config.DATASET.SCALE_TYPE),
        ("TRAIN.OPTIMIZER", ("adam",), config.TRAIN.OPTIMIZER),
    ):
        if found not in legal:
            raise UserError(name, where=cfg, expected=" or ".join(map(str, legal)), found=found)
    outputs = len(config.LOSS.WITH_AE_LOSS)
    for name in ("WITH_HEATMAPS_LOSS", "HEATMAPS_LOSS_FACTOR", "PUSH_LOSS_FACTOR", "PULL_LOSS_FACTOR"):
        if len(config.LOSS[name]) != outputs:
            raise UserError(f"LOSS.{name}", where=cfg, expected=f"{outputs} values", found=list(config.LOSS[name]))


def train(state: State, pictures: list[Picture], config: CfgNode, output: Path, settings: str) -> None:
    """All epochs that are left; `settings` is the hash of what the weights depend on."""
    state_path, log_path = (output.with_name(f"{output.name}.{ending}") for ending in ("state", "jsonl"))
    state = resume(state, state_path, settings)
    started, before = time.monotonic(), len(state.log)
    while len(state.log) < config.TRAIN.END_EPOCH:
        record = train_epoch(state, pictures, config)
        state.log.append(record)
        write_text(log_path, "".join(json.dumps(each) + "\n" for each in state.log))
        keep(state, state_path, settings)
        told = ", ".join(f"{name} {value:.4g}" for name, value in list(record.items())[1:])
        print(f"epoch {record['epoch']} of {config.TRAIN.END_EPOCH}: {told}", flush=True)
    checkpoint.save(state.net, output)
    state_path.unlink(missing_ok=True)
    told = f"{count_parameters(state.net) / 1e6:.2f} M parameters, {len(state.log) - before} epochs of"
    print(f"wrote {output} ({told} {len(pictures)} images in {time.monotonic() - started:.0f} s)")


def run(dataset: Path, cfg: Path, output: Path, weights: Optional[Path], threads: int) -> None:
    """Train, write the checkpoint, tell what it took."""
    torch.set_num_threads(threads)
    config = load_config(cfg, POSE)
    check_config(config, cfg)
    split, batch = config.DATASET.TRAIN, config.TRAIN.IMAGES_PER_GPU
    pictures = read_pictures(dataset, split)
    if len(pictures) < batch:
        expected = f"a batch (TRAIN.IMAGES_PER_GPU: {batch}) of images with annotations"
        hint = f"python -m data.people --output {dataset} --split {split} --images 1000"
        where = annotation_path(dataset, split)
        raise UserError("too few images with people", where=where, expected=expected, found=len(pictures), hint=hint)
    state = start(config, weights)
    make_folder(output.parent)
    with locked(f"{output}_lock"):
        train(state, pictures, config, output, settings_sha256(config, pictures, weights, threads))


def parse_args(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.pose", description="Train a HigherHRNet.")
    parser.add_argument("--dataset", type=Path, default=Path("data/demo_people"), help="a COCO folder (%(default)s)")
    parser.add_argument("--cfg", type=Path, default=Path("configs/demo_pose.yaml"), help="the model (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write (.pth)")
    parser.add_argument("--weights", type=Path, help="a checkpoint of the model to start from")
    parser.add_argument("--threads", type=integer(1), default=1, help="that torch computes with (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.dataset, args.cfg, args.output, args.weights, args.threads)


if __name__ == "__main__":
    raise SystemExit(main())
