"""Interpreters with a package named ais_bench: the official one, its forks, and others of that name."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import fakes

OFFICIAL = {"infer/__init__.py": "", "infer/args_adapter.py": "", "infer/io_operations.py": ""}


OPTIONS = 'parser.add_argument("--auto_set_dymdims_mode", type=str2bool)\n'


TYPER = "import typer\n\ndef run(auto_set_dymdims_mode: bool = typer.Option(False)): ...\n"


PACKAGES = {  # the files by which they are recognised, and their content
    "missing": {},
    "official": {**OFFICIAL, "infer/utils.py": OPTIONS},
    "older": {"__init__.py": "", "infer/__main__.py": OPTIONS, "infer/io_oprations.py": ""},
    "renamed": {**OFFICIAL, "__init__.py": TYPER},
    "dashes": {**OFFICIAL, "infer/__main__.py": 'click.option("--auto-set-dymdims-mode")\n'},
    "benchmark": {"__init__.py": "", "benchmark/__init__.py": "", "benchmark/cli/main.py": ""},
    "other": {"__init__.py": ""},
}


WORDS = {  # a part of the error for each unsupported package
    "missing": "no ais_bench",
    "older": "before February 2024",
    "renamed": "fork",
    "dashes": "--auto-set-dymdims-mode",
    "benchmark": "ais-bench-benchmark",
    "other": "ais_bench.infer",
}


def python_with(folder: Path, files: dict[str, str], *options: str) -> str:
    """An interpreter whose package ais_bench has these files."""
    for name, text in files.items():
        path = folder / "packages/ais_bench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = f"env PYTHONPATH={folder}/packages {sys.executable} {' '.join(options)}"
    return str(fakes.program(folder / "python_npu", own))
