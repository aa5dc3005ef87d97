"""Combine the metrics of one model at several batch sizes into a table as in the model zoo's README; Markdown and JSON.

    python -m postprocess.qps_table --output build/hrnet_w18/eval/imagenet-float32/torchscript-fp32-qps.json \\
        --metrics build/hrnet_w18/eval/imagenet-float32/torchscript-bs1-fp32.json …

Reads    metrics records of postprocess.classification for one model and the same images
Writes   <name>.md, then <name>.json (kind `qps`)

Accuracy and rate of a row come from the same run. The rate is the device rate, `1000 * batch / mean` over all batches,
without warm-up and file I/O. The padded last batch is included in the rate, but the padding is not evaluated.

Source: the table in the model zoo's README and the output of its eval.py for Torch-AIE. The rate of eval.py counts one
batch more than it measures, and its accuracy is only for batch size 1.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, Optional

from hrnet import markdown
from hrnet.cli import UserError, command, plural
from hrnet.io.files import make_folder, write_text
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.machine import machine

HEAD = ("chip", "batch", "data set", "accuracy", "performance")
TOPS = ("top1", "top5")
HINT = "run make qps"


def read_row(path: Path) -> dict[str, Any]:
    """Read the row of one metrics record; without `top5` if there are fewer classes."""
    content = read_record(path, "metrics", hint=HINT)
    try:
        row = {
            "batch": content["batch"],
            "images": content["images"],
            **{name: content["metrics"][name] for name in TOPS if name in content["metrics"]},
            "images_per_second": content["images_per_second"]["device alone"],
            "files_to_files_images_per_second": content["images_per_second"]["infer end to end"],
            "tool": content["tool"],
            "model": content["model"],
            "manifest_sha256": content["evaluated"]["manifest_sha256"],
            "model_sha256": content["evaluated"]["model_sha256"],
        }
    except (KeyError, TypeError):
        raise FormatError("not a metrics record of a run", where=path, hint=HINT) from None
    rate = row["images_per_second"]
    if not isinstance(rate, (int, float)) or not math.isfinite(rate):
        raise FormatError("invalid images_per_second", where=path, expected="a number", found=repr(rate))
    return row


def check_rows(paths: list[Path], rows: list[dict[str, Any]]) -> None:
    """Raise UserError unless all rows have the same model, tool and images, and different batch sizes."""
    for path, row in zip(paths, rows):
        for key in ("manifest_sha256", "model", "tool"):
            if row[key] != rows[0][key]:
                raise UserError(f"{key} differs from {paths[0]}", where=path, hint=HINT)
    batches = [row["batch"] for row in rows]
    if len(set(batches)) < len(batches):
        raise UserError("duplicate batch sizes", expected="one record per batch size", found=batches)


def table(rows: list[dict[str, Any]], chip: str, images: str) -> str:
    """The rows as a Markdown table."""
    cells = []
    for row in rows:
        accuracy = " <br>".join(f"top-{name[3:]}: {row[name]:.3f}%" for name in TOPS if name in row)
        cells.append((chip, str(row["batch"]), images, accuracy, f"{row['images_per_second']:.1f} FPS"))
    return markdown.table(HEAD, cells)


def lines_of_eval(row: dict[str, Any]) -> str:
    """The lines that the model zoo's eval.py prints: accuracies as fractions, rate and batch size."""
    tops = "".join(f"{name} {round(row[name] / 100, 8)}\n" for name in TOPS if name in row)
    return f"{tops}QPS is {row['images_per_second']}, bs is {row['batch']}\n"


def run(metrics: list[Path], output: Path, chip: str) -> None:
    """Write the table and, last, the record. Prints the table and the lines of eval.py."""
    rows = [read_row(path) for path in metrics]
    check_rows(metrics, rows)
    rows.sort(key=lambda row: row["batch"])
    tool, here = rows[0]["tool"], machine()
    chip = chip or tool.partition(" on ")[2] or f"{here['processor']}, {here['cores']} cores"
    images = f"{metrics[0].parent.name}, {plural(rows[0]['images'], 'image')}"
    text = f"{table(rows, chip, images)}\n{tool}; the rates do not include reading and writing files.\n"
    make_folder(output.parent)
    write_text(output.with_suffix(".md"), text)
    shared = {"chip": chip, "tool": tool, "data_set": images, "model": rows[0]["model"], "machine": here}
    own = [{key: value for key, value in row.items() if key not in ("tool", "model")} for row in rows]
    write_record(output, "qps", {**shared, "rows": own})
    print("".join(map(lines_of_eval, rows)) + "\n" + text)
    print(f"wrote {output} and {output.with_suffix('.md').name} ({plural(len(rows), 'batch size')})")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.qps_table", description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="one metrics record per batch size")
    parser.add_argument("--output", type=Path, required=True, help="record to write (.json), the table is beside it")
    parser.add_argument(
        "--chip", default="", help="first column (default: the chip reported by the tool, or this processor)"
    )
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
