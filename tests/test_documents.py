"""What the documents name is there: scripts, make targets and variables, files that are linked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support import ROOT

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "weights/README.md"]
MAKEFILE = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "make/project.mk"))
NOT_OURS = {"ais_bench", "venv", "pip"}

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def test_scripts_are_there(document: Path) -> None:
    for module in set(re.findall(r"-m ([a-z][a-z0-9_.]*[a-z0-9_])", document.read_text(encoding="utf-8"))) - NOT_OURS:
        assert importlib.util.find_spec(module), f"{document.name} names python -m {module}"


def test_make_targets_and_variables_are_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) +\?=", MAKEFILE, re.MULTILINE)) | {"SLOW"}
    for line in re.findall(r"(?:^|`)make ([^`\n#]*)", document.read_text(encoding="utf-8"), re.MULTILINE):
        for word in line.split():
            if "=" in word:
                assert word.split("=")[0] in variables, f"{document.name}: make {line}"
            elif re.fullmatch("[a-z]+", word):
                assert word in targets, f"{document.name}: make {line}"


def test_tests_are_there(document: Path) -> None:
    for path, name in re.findall(
        r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?", document.read_text(encoding="utf-8")
    ):
        assert (ROOT / path).exists(), f"{document.name} names {path}"
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8") or not name, f"{document.name}: {name}"


def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert "://" in link or (document.parent / link).exists(), f"{document.name} links to {link}"
