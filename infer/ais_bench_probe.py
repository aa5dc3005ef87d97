"""Which ais_bench an interpreter has, found from the files of the package alone; nothing of it is imported.

Run as text in the interpreter of AIS_PYTHON (`probe`), whatever its version; prints one line of JSON:

kind           official: Huawei's ais_bench since February 2024, whose options have underscores
               older: one from before that; renamed: a fork whose options have dashes, such as version 0.1.0
               benchmark: AISBench's evaluation program of the same package name (PyPI: ais-bench-benchmark)
               other: something else; missing: no package ais_bench
where          the package's directory
version        of the installed distribution, or ""
aclruntime     whether the package that ais_bench computes with is installed
pkg_resources  whether setuptools has it (before 81); ais_bench reads aclruntime's version with it
crashes        whether this ais_bench fails without pkg_resources (before 24 July 2024); later ones then use another,
               slower run mode

Source: https://gitee.com/ascend/tools, ais-bench_workload/tool/ais_bench, its history from January 2023 to December
2025.
"""

import json
import os
import re
import sys
from importlib.util import find_spec

OFFICIAL = "Huawei's ais_bench 0.0.2 of 2024-02 or later, https://gitee.com/ascend/tools"
KINDS = {  # of ais_bench_probe, that are refused
    "missing": "this python has no ais_bench",
    "older": "an ais_bench from before February 2024",
    "renamed": "a fork of ais_bench with other options (--auto-set-dymdims-mode), such as version 0.1.0",
    "benchmark": "AISBench's benchmark (PyPI: ais-bench-benchmark), another program in a package of the same name",
    "other": "a package ais_bench that has no ais_bench.infer",
}


def read(folder):  # type: ignore[no-untyped-def]
    """The texts of a directory's Python files."""
    texts = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
    return "\n".join(texts)


def kind_of(folder):  # type: ignore[no-untyped-def]
    """The kind of the package in a directory."""
    inner = os.path.join(folder, "infer")
    names = os.listdir(inner) if os.path.isdir(inner) else []
    if not names:
        return "benchmark" if os.path.isdir(os.path.join(folder, "benchmark")) else "other"
    text = read(folder) + read(inner)
    if "--auto-set-dymdims-mode" in text or ("import typer" in text and "--auto_set_dymdims_mode" not in text):
        return "renamed"
    return "older" if "io_oprations.py" in names and "args_adapter.py" not in names else "official"


def version():  # type: ignore[no-untyped-def]
    """The version of the distribution ais_bench."""
    try:
        from importlib import metadata

        return metadata.version("ais_bench")
    except Exception:  # not installed by pip, or a Python without this module
        return ""


def probe():  # type: ignore[no-untyped-def]
    """The facts about this interpreter."""
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
