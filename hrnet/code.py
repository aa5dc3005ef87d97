"""The source files that a script uses, and their hash, which shows a stage whether its code has changed.

A script's import closure: all files of this repository that it imports, directly or indirectly, also inside functions,
and the C source of compiled modules.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+([^\n]+))", re.MULTILINE
)


def import_closure(modules: Iterable[str]) -> list[Path]:
    """The source files of these modules (such as `infer.run`) and of all their imports, sorted, relative to ROOT."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        for file in _files(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting += _imported(file)
    return sorted(found)


def code_sha256(*modules: str) -> str:
    """One hash of the names and bytes of all files in the import closure."""
    digest = hashlib.sha256()
    for file in import_closure(modules):
        digest.update(f"{file.as_posix()} {hashlib.sha256((ROOT / file).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


PREDICTION_MODULES = {"classification": "postprocess.topn", "pose": "postprocess.decode"}  # from outputs to predictions


def stages_sha256(task: str) -> str:
    """Hash of the code of all stages from images to predictions. `task`: classification or pose."""
    runtimes = [f"infer.runtimes.{path.stem}" for path in sorted((ROOT / "infer/runtimes").glob("*.py"))]
    return code_sha256(f"preprocess.{task}", "infer.run", "infer.emulator.main", *runtimes, PREDICTION_MODULES[task])


@functools.cache
def _files(module: str) -> tuple[Path, ...]:
    """A module's file and the `__init__.py` of its packages; empty if it is not in this repository."""
    parts = module.split(".")
    path = Path(*parts)
    ends = (path.with_suffix(".py"), path / "__init__.py", path.with_suffix(".c"))
    own = [file for file in ends if (ROOT / file).is_file()]
    packages = [Path(*parts[:count], "__init__.py") for count in range(1, len(parts))]
    return (*own, *(file for file in packages if (ROOT / file).is_file())) if own else ()


def _imported(file: Path) -> Iterator[str]:
    """The names of all modules that a file may import, and of imported functions, which `_files` ignores."""
    if file.suffix != ".py":
        return
    for package, names, plain in IMPORT.findall((ROOT / file).read_text(encoding="utf-8")):
        if package:
            yield package
            yield from (f"{package}.{name}" for name in re.findall(r"\w+", names))
        else:
            yield from re.findall(r"[\w.]+", plain)
