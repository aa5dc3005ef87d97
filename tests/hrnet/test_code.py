"""hrnet/code.py: the files that a script runs, and their hash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hrnet import code
from tests.support import ROOT


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages; `a.stage` imports in all ways."""
    monkeypatch.setattr(code, "ROOT", tmp_path)
    code._files.cache_clear()
    lazy = "def f():\n    from b import (\n        lazy,\n    )\n    import b.plain\n"
    write(tmp_path, {"a/__init__.py": "", "a/stage.py": f"import os\nfrom a.used import x\n{lazy}"})
    write(tmp_path, {"a/used.py": "from b import fast\n", "a/unused.py": "", "b/__init__.py": "", "b/lazy.py": ""})
    write(tmp_path, {"b/plain.py": "", "b/other.py": "", "b/fast.c": ""})
    return tmp_path


def test_the_closure_has_all_imported_files(root: Path) -> None:
    found = {path.as_posix() for path in code.import_closure(["a.stage"])}
    inner = {"a/__init__.py", "a/stage.py", "a/used.py"}
    assert found == inner | {"b/__init__.py", "b/lazy.py", "b/plain.py", "b/fast.c"}
    assert code.import_closure(["no.such", "json"]) == []


def test_the_hash_changes_with_each_file_of_the_closure_and_no_other(root: Path) -> None:
    before = code.code_sha256("a.stage")
    for name in ("a/unused.py", "b/other.py"):
        write(root, {name: "changed = 1\n"})
        assert code.code_sha256("a.stage") == before
    for name in ("a/used.py", "b/lazy.py", "b/fast.c"):
        text = (root / name).read_text()
        write(root, {name: f"{text}\n# changed\n"})
        assert code.code_sha256("a.stage") != before
        write(root, {name: text})
    assert code.code_sha256("a.stage") == before


@pytest.mark.parametrize("module", ["preprocess.classification", "infer.run", "postprocess.pose", "atc.convert"])
def test_the_closure_has_every_module_that_python_loads(module: str) -> None:
    """Compare with the modules that Python itself loads."""
    files = "getattr(m, '__file__', None) for m in list(sys.modules.values())"
    call = f"import sys, {module}; print(*filter(None, ({files})))"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(name) for name in done.stdout.split()}
    own = {path.relative_to(ROOT) for path in loaded if path.is_relative_to(ROOT) and ".venv" not in path.parts}
    sources = {path.with_name(path.name.split(".")[0] + ".c") if path.suffix == ".so" else path for path in own}
    assert len(sources) > 5
    assert sources <= set(code.import_closure([module]))
