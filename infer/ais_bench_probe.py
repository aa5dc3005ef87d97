"""Find out which ais_bench a Python interpreter has, from the package's files. The package is not imported.

The interpreter of AIS_PYTHON, of any version, runs this file with `-c`. It prints the result of `probe` as one line of
JSON:

kind           official: Huawei's ais_bench since February 2024, with underscores in its options
               older: Huawei's ais_bench from before that date
               renamed: a fork with dashes in its options, such as version 0.1.0
               benchmark: AISBench's evaluation program, which has the same package name (PyPI: ais-bench-benchmark)
               other: another package; missing: no package ais_bench
where          the package's directory
version        version of the installed distribution, or ""
aclruntime     whether this package is installed; ais_bench computes with it
pkg_resources  whether this package is installed (part of setuptools before 81); ais_bench reads aclruntime's version
               with it
crashes        whether this ais_bench fails without pkg_resources. Versions from before 24 July 2024 fail; later ones
               use a slower run mode instead

Source: https://gitee.com/ascend/tools, ais-bench_workload/tool/ais_bench, its history from January 2023 to December
2025.
"""

import json
import os
import re
import sys
from importlib.util import find_spec

OFFICIAL = "Huawei's ais_bench 0.0.2 of 2024-02 or later, https://gitee.com/ascend/tools"
KINDS = {  # kind: error message
    "missing": "this Python has no ais_bench",
    "older": "this ais_bench is from before February 2024",
    "renamed": "this is a fork of ais_bench with other options (--auto-set-dymdims-mode), such as version 0.1.0",
    "benchmark": "this is AISBench's benchmark (PyPI: ais-bench-benchmark), another program with the same package name",
    "other": "this package ais_bench has no ais_bench.infer",
}


def read(folder):  # type: ignore[no-untyped-def]
    """The source text of all Python files in a directory."""
    texts = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
    return "\n".join(texts)


def kind_of(folder):  # type: ignore[no-untyped-def]
    """The kind of the ais_bench package in a directory."""
    inner = os.path.join(folder, "infer")
    names = os.listdir(inner) if os.path.isdir(inner) else []
    if not names:
        return "benchmark" if os.path.isdir(os.path.join(folder, "benchmark")) else "other"
    text = read(folder) + read(inner)
    if "--auto-set-dymdims-mode" in text or ("import typer" in text and "--auto_set_dymdims_mode" not in text):
        return "renamed"
    return "older" if "io_oprations.py" in names and "args_adapter.py" not in names else "official"


def version():  # type: ignore[no-untyped-def]
    """The version of the installed distribution ais_bench; empty if it is unknown."""
    try:
        from importlib import metadata

        return metadata.version("ais_bench")
    except Exception:  # not installed by pip, or importlib.metadata is missing
        return ""


def probe():  # type: ignore[no-untyped-def]
    """The facts in the table above."""
    found = {"kind": "missing", "where": "", "version": "", "crashes": False}
    spec = find_spec("ais_bench")
    kinds = [(kind_of(folder), folder) for folder in (spec and spec.submodule_search_locations) or []]
    if kinds:
        kind, folder = min(kinds, key=lambda each: each[0] not in ("official", "older", "renamed"))
        found.update(kind=kind, where=folder, version=version())
        text = read(os.path.join(folder, "infer")) + read(os.path.join(folder, "infer", "common"))
        found["crashes"] = "pkg_resources" in text and not re.search(r"run_mode = \"tensor\"\s+return\b", text)
    for name in ("aclruntime", "pkg_resources"):
        found[name] = find_spec(name) is not None
    return found


if __name__ == "__main__":
    print(json.dumps(probe()))
    sys.exit(0)
