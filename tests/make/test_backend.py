"""make/backend.py: a BACKEND whose package PYTHON cannot import is rejected before it is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

import hrnet
from tests.make.option_calls import rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")


def python(*installed: str) -> str:
    """A fake interpreter that can import only these packages; it logs each import to the file `asked`."""
    path = Path("fake_python")
    cases = "".join(f"'import {name}') exit 0;;\n" for name in installed)
    path.write_text(f'#!/bin/bash\necho "$2" >> asked\ncase "$2" in\n{cases}*) echo >&2 trace; exit 1;; esac\n')
    path.chmod(0o755)
    return f"{Path.cwd()}/{path.name}"


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("torchscript", "torch")])
@pytest.mark.parametrize("goal", ["eval", "infer", "bench", "predict", "serve", "qps", "compare"])
def test_a_missing_package_is_named_and_the_backend_is_not_remembered(goal: str, backend: str, package: str) -> None:
    Path("a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    images = {"IMAGES": "a.jpg"} if goal == "predict" else {}
    given = python("numpy")
    line = rejected(goal, BACKEND=backend, PYTHON=given, **images)
    assert line.startswith(f"BACKEND={backend}: ") and f"fake_python cannot import {package} (exit 1)" in line
    assert line.endswith(f'; {given} -m pip install ".[{package}]", or make setup')


def test_the_hint_on_a_board_can_be_pasted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hrnet, "BOARD", True)
    given = python()
    line = rejected("infer", BACKEND="openvino", PYTHON=given)
    assert line.endswith(f"; {given} -m pip install -c constraints.txt openvino")
    assert rejected("infer", PYTHON="nowhere").endswith("; give PYTHON=python3")


def test_a_package_is_checked_once_and_only_for_targets_that_compute() -> None:
    given = python("openvino")
    resolve("eval", BACKEND="openvino", PYTHON=given)
    resolve("eval", BACKEND="openvino", PYTHON=given)
    resolve("gate", BACKEND="torchscript", PYTHON=given)
    resolve("eval", BACKEND="torchscript", PYTHON=given, dry_run=True)
    assert Path("asked").read_text() == "import openvino\n"
