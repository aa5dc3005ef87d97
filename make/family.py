"""Compare models: accuracy, multiply-adds, parameters and latency of each, as a table and four charts.

    python -m make.family --models hrnet_w18 hrnet_w30 --output build/family/onnxruntime-fp32-dev0/family.json \\
        --bench bench/onnxruntime-fp32-dev0.json --set BACKEND=onnxruntime --set BATCHES=1,4,8 …

Called by `make family`. For each row it starts child processes: pth2onnx.cost, and then make, with the settings of
--set, to export, compile and time the model; with --metrics make also evaluates it. A model without weights/<MODEL>.pth
is timed with seeded weights (benchmarks.seeded_checkpoint); its accuracy is then the published figure in its config.

Reads    the configs, their weights, the data set, data/paddleclas_hrnet.json (PaddleClas' latencies)
Writes   <output> (kind `family`), <name>.md, and the charts gmacs, params, latency and published, .svg and .png;
         rows/<MODEL>.json with a stamp; work/, the products of the row that is being measured
Locks    <name>_lock
Resumes  rows that were made from the same config, weights, images, settings, code and machine are kept
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from hrnet.cli import UserError, command, plural
from hrnet.code import ROOT
from hrnet.config import config_path, config_sha256, load_config
from hrnet.datasets import find_images
from hrnet.given import settle
from hrnet.io import stamp
from hrnet.io.family import FamilyRow, Published
from hrnet.io.files import locked, make_folder, write_text
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.runs import BenchRecord
from hrnet.machine import machine
from hrnet.schemas import CLASSIFICATION
from infer.run_ais_bench import find_tool
from make.call import outer_environment
from make.charts import check_installed, draw
from make.checks import CHECKS
from make.family_charts import about, charts_of
from make.family_table import Entry, entry, published_table, table

PUBLISHED = ROOT / "data/paddleclas_hrnet.json"
WEIGHTS = "weights/{}.pth"
PACKAGES = ("onnx", "onnxruntime", "openvino", "torch")  # that a row depends on
EXPORTED = ("benchmarks.seeded_checkpoint", "pth2onnx.cost", "pth2onnx.classification")
TIMED = (*EXPORTED, "pth2onnx.torchscript", "pth2onnx.static", "atc.convert", "atc.emulator.__main__", "infer.bench")
EVALUATED = ("preprocess.classification", "infer.run", "postprocess.classification")
HINT = "rows that were finished before are kept; run the same command again"


class Family:
    """One comparison: the models, the settings, and where the products go."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.models: list[str] = args.models
        self.output: Path = args.output
        self.settings: dict[str, str] = dict(args.settings)
        self.bench, self.metrics = args.bench, args.metrics
        self.work = args.output.parent / "work"
        self.tool = find_tool(self.settings["BACKEND"], self.settings["AIS_PYTHON"], self.settings["DEVICE"].split(","))

    @functools.cached_property
    def common_settings(self) -> dict[str, Any]:
        """What all rows depend on: make's settings, the tool, the machine, versions of packages."""
        installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
        versions = {name: installed[name] for name in PACKAGES if name in installed}
        given = {name: value for name, value in self.settings.items() if name != "PYTHON"}
        versions["python"] = platform.python_version()
        return {**given, "tool": self.tool.settings, "machine": machine(), "versions": versions}

    @functools.cache  # noqa: B019
    def images_sha256(self, classes: int) -> str:
        return find_images(Path(self.settings["DATASET"]), classes).sha256()

    def row_path(self, model: str) -> Path:
        return self.output.parent / f"rows/{model}.json"

    def made_from(self, model: str) -> stamp.Stamp:
        """What the row of a model is made from. Raises UserError for an invalid config or data set."""
        config = load_config(config_path(model), CLASSIFICATION)
        settings = {**self.common_settings, "config_sha256": config_sha256(config)}
        weights = Path(WEIGHTS.format(model))
        evaluated = bool(self.metrics) and weights.exists()
        if evaluated:
            settings["index_sha256"] = self.images_sha256(config.MODEL.NUM_CLASSES)
        modules = (*TIMED, *self.tool.modules, *(EVALUATED if evaluated else ()))
        return stamp.Stamp.compute(modules, settings, {"weights": weights} if weights.exists() else {})

    def finished(self, model: str, made_from: stamp.Stamp) -> Optional[FamilyRow]:
        """The row of a model, if it exists and was measured from the same files and settings."""
        path = self.row_path(model)
        if not stamp.is_current(path, made_from, [path]):
            return None
        try:
            return FamilyRow.read(path)
        except FormatError:  # damaged, or written by another release
            return None

    def call(self, model: str, lock: int, *words: object) -> None:
        """Run a process, which inherits the lock, without the variables of the make that started this script."""
        code = subprocess.run([str(word) for word in words], env=outer_environment(), pass_fds=[lock]).returncode
        if code:
            raise UserError(f"{model}: {words[0]} failed, see above", found=f"exit {code}", hint=HINT)

    def measure(self, model: str, made_from: stamp.Stamp, lock: int) -> FamilyRow:
        """Measure a model, write its row, and remove what was made for it."""
        folder, weights, path = self.work / model, Path(WEIGHTS.format(model)), self.row_path(model)
        weights_sha256, python = made_from.files.get("weights"), self.settings["PYTHON"]
        make_folder(folder)
        make_folder(path.parent)
        self.call(model, lock, python, "-m", "pth2onnx.cost", "--cfg", model, "--output", folder / "cost.json")
        if weights_sha256 is None:
            weights = folder / "seeded.pth"
            if not weights.exists():
                self.call(
                    model, lock, python, "-m", "benchmarks.seeded_checkpoint", "--cfg", model, "--output", weights
                )
        evaluated = self.metrics if weights_sha256 else None
        products = [folder / product for product in (self.bench, evaluated) if product]
        values = {"MODEL": model, "BUILD": self.work, "WEIGHTS": weights, **self.settings}
        given = [f"{name}={value}" for name, value in values.items()]
        self.call(model, lock, "make", "--no-print-directory", *products, *given)
        sizes = self.settings["BATCHES"].split(",")
        row = read_row(model, folder, self.bench, sizes, evaluated, weights_sha256)
        row.write(path)
        stamp.write_stamp(path, made_from, [path])
        shutil.rmtree(folder)
        return row


def read_row(
    model: str, folder: Path, bench: str, batches: list[str], metrics: Optional[str], weights_sha256: Optional[str]
) -> FamilyRow:
    """A row from the records that the stages wrote below `folder`."""
    cost, timed = read_record(folder / "cost.json", "cost"), BenchRecord.read(folder / bench)
    rows = [row for row in timed.rows if str(row.batch) in batches]  # make bench keeps rows of other sizes
    content: dict[str, Any] = {"metrics": {}, "images": 0}
    if metrics:
        content = read_record(folder / metrics, "metrics")
    return FamilyRow(
        model=model,
        gmacs=cost["gmacs"],
        params_m=cost["params_m"],
        weights_sha256=weights_sha256,
        batch_ms={str(each.batch): each.batch_ms["median"] for each in rows},
        images_per_second={str(each.batch): each.device_images_per_second for each in rows},
        tool=timed.tool,
        top1=content["metrics"].get("top1"),
        top5=content["metrics"].get("top5"),
        images=content["images"],
    )


def run(args: argparse.Namespace) -> None:
    """Measure the rows that are not finished, then write the table and the charts."""
    check_installed()
    family = Family(args)
    tables, published = Published.read(PUBLISHED)
    make_folder(args.output.parent)
    with locked(args.output.with_name(f"{args.output.stem}_lock")) as lock:
        sources = {model: family.made_from(model) for model in args.models}
        rows = {model: family.finished(model, made_from) for model, made_from in sources.items()}
        if kept := [model for model, row in rows.items() if row]:
            print(f"{len(kept)} of {len(rows)} rows were finished before and are kept: {', '.join(kept)}", flush=True)
        for model, made_from in sources.items():
            if rows[model] is None:
                number = list(sources).index(model) + 1
                print(f"row {number} of {len(rows)}: {model}", flush=True)
                rows[model] = family.measure(model, made_from, lock)
            settle(0)  # make remembers the variables of this call, even if a later row fails
        shutil.rmtree(family.work, ignore_errors=True)
        entries = [entry(row, published) for row in rows.values() if row]
        write(family, entries, tables)


def write(family: Family, entries: list[Entry], tables: Published) -> None:
    """Write the charts, the table and, last, the record; print the table."""
    published = {"source": tables.source, "url": tables.url, "batches": tables.batches}
    rows = [
        {
            **asdict(each.row),
            **{"top1": each.top1, "top5": each.top5, "reference": each.reference or None},
            "published": asdict(each.published) if each.published else None,
        }
        for each in entries
    ]
    content = {**family.common_settings, "published": published, "rows": rows}
    for chart in charts_of(content):
        title = f"{chart.title}\n({chart.note})"
        draw(family.output.with_name(chart.name), title, chart.x, chart.series, log=chart.log)
    text = table(entries, list(entries[0].row.batch_ms), f"{about(content)}.") + published_table(entries, tables)
    write_text(family.output.with_suffix(".md"), text)
    write_record(family.output, "family", content)
    print(f"{text}\nwrote {family.output}, {family.output.stem}.md and four charts ({plural(len(entries), 'model')})")


def setting(text: str) -> tuple[str, str]:
    """An argparse type: NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or name not in CHECKS:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE with a variable of make, found {text!r}")
    return name, value


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.family", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, help="names in configs/")
    parser.add_argument(
        "--output", type=Path, required=True, help="record to write, .json, with table and charts beside it"
    )
    parser.add_argument("--bench", required=True, help="record of make bench, below build/MODEL")
    parser.add_argument(
        "--metrics", help="record of make eval, below build/MODEL: also evaluate the models that have weights"
    )
    parser.add_argument(
        "--set", dest="settings", type=setting, action="append", required=True, help="NAME=VALUE for make"
    )
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
