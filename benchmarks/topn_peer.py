"""Compare the speed of postprocess.imagenet_acc_eval with the model zoo's script of the same name.

    python -m benchmarks.topn_peer --peer imagenet_acc_eval.py --images 10000

The peer's script is not part of this repository: give its path. Its arguments are `<outputs> <labels> <directory>
<name>`. It reads txt files; ours reads the same txt files, and the same values as bin and npy. All results must be
identical.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np

from benchmarks.turns import call, in_turn, report
from hrnet.cli import WorkFailed, command, integer
from hrnet.io import tensor_names, tensors

CLASSES = 1000


def write_outputs(root: Path, images: int) -> None:
    """Write random logits of `images` images as txt, bin and npy, with six decimals so that all are equal, and labels.
    About half of the predictions are correct."""
    random = np.random.default_rng(0)
    for suffix in tensor_names.OUTPUT_FORMATS:
        (root / suffix.lower()).mkdir()
    lines = []
    for i in range(images):
        logits = np.round(random.standard_normal(CLASSES), 6).astype(np.float32)
        label = int(logits.argmax()) if random.random() < 0.5 else int(random.integers(CLASSES))
        lines.append(f"image{i}.JPEG {label}\n")
        text = tensors.format_txt(logits[None])
        (root / f"txt/image{i}_0.txt").write_text(text, encoding="utf-8")
        exact = np.array(text.split(), dtype=np.float32)
        for suffix in ("bin", "npy"):
            tensors.write_output(root / suffix / f"image{i}_0.{suffix}", exact)
    (root / "val_label.txt").write_text("".join(lines), encoding="utf-8")


def run(peer: Path, images: int, rounds: int) -> None:
    """Print images/s of each candidate and the ratios. Raises WorkFailed if results differ."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_outputs(root, images)

        def candidate(kind: str) -> None:
            script = [peer] if kind.startswith("peer") else ["-m", "postprocess.imagenet_acc_eval"]
            call([], *script, root / kind.split()[-1], root / "val_label.txt", root, f"{kind.replace(' ', '-')}.json")

        kinds = ("peer from txt", "from txt", "from npy", "from bin")
        candidates = {kind: partial(candidate, kind) for kind in kinds}
        seconds = in_turn(candidates, rounds)
        results = {(root / f"{kind.replace(' ', '-')}.json").read_bytes() for kind in candidates}
        if len(results) != 1:
            raise WorkFailed("results differ", found=results)
        print(f"{images} outputs of {CLASSES} classes, {rounds} rounds, medians; results are identical")
        report(seconds, images, "peer from txt")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topn_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="the model zoo's imagenet_acc_eval.py")
    parser.add_argument("--images", type=integer(1), default=10000, help="number of outputs (%(default)s)")
    parser.add_argument("--rounds", type=integer(1), default=3, help="runs of each candidate (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.peer, args.images, args.rounds)


if __name__ == "__main__":
    sys.exit(main())
