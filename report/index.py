"""Compare the evaluated runs of several models on one HTML page: a table with a row for each run, and charts.

    python -m report.index --build build --models hrnet_w18 hrnet_w30 --output build/report.html

Reads    the metrics records below <build>/<model>/eval/
Writes   --output, with links to <build>/<model>/report.html if these exist
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Optional

from hrnet.cli import UserError, command, plural
from hrnet.hints import nearest
from hrnet.io.records import FormatError, read_json
from make import charts
from report.page import Page, check_installed
from report.run import read_metrics
from report.sources import Source, Sources

HINT = "run make eval again"
TITLES = {"top1": "Top-1"}
CHART = 8.0  # width of a chart with long names, inches


def runs_of(sources: Sources, build: Path, model: str) -> list[Source]:
    """The metrics records of a model. Raises UserError if there are none."""
    paths = [path for path in sorted((build / model / "eval").glob("*/*.json")) if not path.name.startswith(".")]
    found = [path for path in paths if kind_of(path) == "metrics"]
    if not found:
        known = sorted(path.parent.name for path in build.glob("*/eval"))
        what = f"no evaluated runs of MODELS={model}"
        near = nearest(model, known)
        hint = f"did you mean {near}?" if near else f"make eval MODEL={model}"
        expected = f"names such as {', '.join(known)}" if known else None
        raise UserError(what, where=build, expected=expected, hint=hint)
    return [read_metrics(sources, path, HINT) for path in found]


def kind_of(path: Path) -> Any:
    content = read_json(path, "record", HINT)
    if not isinstance(content, dict):
        raise FormatError("not a record", where=path, hint=HINT)
    return content.get("kind")


def run(args: argparse.Namespace) -> None:
    """Read the records and write the page."""
    check_installed()
    sources = Sources(args.output)
    rows: list[dict[str, Any]] = []
    charted: dict[str, list[charts.Interval]] = {}
    for model in dict.fromkeys(args.models):
        page = args.build / model / "report.html"
        for source in runs_of(sources, args.build, model):
            path, content = Path(source.path), source.content
            metric = content["gate"]["metric"]
            rows.append(
                {
                    "source": source,
                    "model": model,
                    "set": path.parent.name,
                    "tag": path.stem,
                    "metric": metric,
                    "page": sources.link(page) if page.is_file() else None,
                }
            )
            interval = charts.Interval(
                f"{model} {path.parent.name} {path.stem}", content["metrics"][metric], *content["interval95"][metric]
            )
            charted.setdefault(metric, []).append(interval)
    titles = {metric: f"{TITLES.get(metric, metric)}, %" for metric in charted}
    drawn = {metric: charts.intervals(found, titles[metric], width=CHART) for metric, found in charted.items()}
    size = Page(sources, {}).write("index.html", rows=rows, charts=drawn)
    print(f"wrote {args.output} ({plural(len(rows), 'run')}, {size / 1000:.0f} kB)")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m report.index", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help="BUILD of make")
    parser.add_argument("--models", nargs="+", required=True, help="names of directories in --build")
    parser.add_argument("--output", type=Path, required=True, help="page to write")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
