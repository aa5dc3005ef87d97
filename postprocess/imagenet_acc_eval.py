"""Compute the model zoo's result.json from a directory of outputs and a label file.

    python -m postprocess.imagenet_acc_eval result/dumpOutput_device0/ val_label.txt ./ result.json

The arguments are those of the model zoo's imagenet_acc_eval.py. Outputs of benchmark.x86_64 and ais_bench are
supported: .txt, .bin (float32) or .npy. The part of an output's name before the last `_` is the image; each label needs
exactly one output.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Optional

from hrnet.cli import UserError, command, first_few, plural
from hrnet.label_files import read_labels
from postprocess.topn import TOP, cumulative_accuracies, rank_files, write_result

SUFFIXES = (".txt", ".bin", ".npy")


def join_by_name(files: list[str], labels: dict[str, int], where: object) -> list[int]:
    """The label of each output file `<image name up to its first dot>_<k>.<suffix>`. Raises UserError unless there is
    exactly one output for each label."""
    by_stem = {os.path.basename(name).split(".")[0]: label for name, label in labels.items()}
    stems = [file.split(".")[0].rpartition("_")[0] for file in files]
    unlabelled, missing = set(stems) - set(by_stem), set(by_stem) - set(stems)
    if unlabelled or missing or not len(stems) == len(by_stem) == len(labels):
        counts = f"{len(files)} outputs of {len(set(stems))} images, {len(labels)} labels of {len(by_stem)} images"
        names = first_few(sorted(unlabelled | missing))
        found = f"{counts}, {len(unlabelled)} without a label, {len(missing)} without an output: {names or 'none'}"
        raise UserError("outputs do not match the labels", where=where, expected="one for each label", found=found)
    return [by_stem[stem] for stem in stems]


def run(folder: Path, label_file: Path, result: Path) -> None:
    """Write result.json for the outputs in `folder`."""
    if not folder.is_dir():
        raise UserError("no such directory", where=folder, hint="give a directory of outputs")
    if not label_file.is_file():
        raise UserError("no such label file", where=label_file, expected="lines `name index`")
    if not result.parent.is_dir():
        raise UserError("no such directory", where=result.parent, hint=f"mkdir -p {result.parent}")
    files = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[1] in SUFFIXES)
    endings = sorted({os.path.splitext(name)[1] for name in files})
    if len(endings) != 1:
        what = "outputs in several formats" if endings else "no outputs"
        expected = f"only one of {', '.join(SUFFIXES)}" if endings else f"files {', '.join(SUFFIXES)}"
        raise UserError(what, where=folder, expected=expected, found=", ".join(endings) or None)
    labels = join_by_name(files, read_labels(label_file), folder)
    ranks, outputs, _ = rank_files([os.path.join(folder, name) for name in files], labels, classes=0)
    accuracies = cumulative_accuracies(ranks, min(TOP, outputs))
    write_result(result, accuracies, len(files), outputs)
    figures = ", ".join(f"Top{n} {100 * accuracy:.2f}%" for n, accuracy in enumerate(accuracies, 1))
    print(f"evaluated {plural(len(files), 'image')} into {result}: {figures}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m postprocess.imagenet_acc_eval", description=__doc__.splitlines()[0]
    )
    parser.add_argument("outputs", type=Path, help="directory with one output per image")
    parser.add_argument("labels", type=Path, help="label file with lines `name index`, such as val_label.txt")
    parser.add_argument("folder", type=Path, help="directory for the result")
    parser.add_argument("name", help="file name of the result, such as result.json")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    run(args.outputs, args.labels, args.folder / args.name)


if __name__ == "__main__":
    sys.exit(main())
