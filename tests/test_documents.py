"""What the documents name exists: scripts, modules, files, tests, make targets and variables, targets of links. The
two READMEs contain the same."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hrnet.config import load_config
from tests.support import ROOT

CURRENT = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "weights/README.md",
]
DOCUMENTS = [ROOT / "CHANGELOG.md", *CURRENT]  # the changelog also names files that no longer exist
MAKEFILE = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "make/project.mk"))
NOT_OURS = {"ais_bench", "venv", "pip"}
PACKAGES = "|".join(sorted(path.parent.name for path in ROOT.glob("*/__init__.py")))
FOLDERS = f"{PACKAGES}|configs|docs|weights"
SUFFIXES = "py|pyi|c|md|sh|mk|toml|npz|yaml"  # a path below FOLDERS with one of these must exist: no stage writes it
NOT_MODULES = {"atc.dynamic_dims", "atc.precision_mode", "hrnet.pt", "report.html"}  # metadata of a model; files


def each(documents: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", documents, ids=lambda path: str(path.relative_to(ROOT)))


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of ours, or a function, class or constant in one."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    pattern = rf"^(?:def |class )?{path.name}\b"
    return module.is_file() and bool(re.search(pattern, module.read_text(encoding="utf-8"), re.MULTILINE))


def sections(document: Path) -> list[str]:
    return re.split("^#+ ", document.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def facts(section: str) -> dict[str, list[str]]:
    """What a translation of a section does not change. Only the order may differ, and the comments in commands."""
    blocks = re.findall("^```.*?^```", section, re.DOTALL | re.MULTILINE)
    prose = re.sub("^```.*?^```", "", section, flags=re.DOTALL | re.MULTILINE)
    return {
        "code blocks": [re.sub("# .*", "#", block) for block in blocks],
        "links": sorted(link for link in re.findall(r"\]\(([^)]+)\)", section) if not link.startswith("README")),
        "code in the text": sorted(" ".join(code.split()) for code in re.findall("`[^`]+`", prose)),
        "numbers": sorted(re.findall(r"\d+(?:[.,]\d+)*", section)),
        "rows of tables": [str(len(re.findall(r"^\|", section, re.MULTILINE)))],
    }


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each(DOCUMENTS)
def test_scripts_exist(document: Path) -> None:
    for module in set(re.findall(r"-m ([a-z][a-z0-9_.]*[a-z0-9_])", document.read_text(encoding="utf-8"))) - NOT_OURS:
        assert importlib.util.find_spec(module), f"{document.name} names python -m {module}"


@each(DOCUMENTS)
def test_make_targets_and_variables_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) +\?=", MAKEFILE, re.MULTILINE)) | {"SLOW"}
    text = document.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE))  # not lines of prose
    for line in re.findall("^make ([^#\n]*)", blocks, re.MULTILINE) + re.findall(r"`make ([^`\n#]*)", text):
        for word in line.split():
            if "=" in word:
                assert word.split("=")[0] in variables, f"{document.name}: make {line}"
            elif re.fullmatch("[a-z]+", word):
                assert word in targets, f"{document.name}: make {line}"


@each(DOCUMENTS)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if "://" not in path:
            target = document.parent / path if path else document
            assert target.exists(), f"{document.name} links to {link}"
            assert not anchor or anchor in headings(target), f"{document.name} links to {link}"


@each(CURRENT)
def test_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(rf"(?<![\w/-])(?:\./)?((?:{FOLDERS})/[\w./-]*\.(?:{SUFFIXES}))\b", text):
        assert (ROOT / path).is_file(), f"{document.name} names {path}"


@each(CURRENT)
def test_modules_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in set(re.findall(rf"(?<![\w/.-])((?:{PACKAGES})(?:\.[a-zA-Z_]\w*)+)\b(?!/)", text)) - NOT_MODULES:
        assert is_module(name) or name.endswith(".md"), f"{document.name} names {name}"


@each(CURRENT)
def test_tests_exist(document: Path) -> None:
    """`tests/x.py::test_y` is in that file, and a name without a file is in one of the tests."""
    text = document.read_text(encoding="utf-8")
    for path, name in re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text):
        source = ROOT / path
        assert source.is_file() and f"def {name}(" in source.read_text(encoding="utf-8"), f"{document.name}: {name}"
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py")), name


def test_the_table_of_configs_is_complete() -> None:
    text = (ROOT / "docs/modelzoo.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = load_config(path)
        figure = f"AP {config.REFERENCE.AP:g}" if "AP" in config.REFERENCE else f"Top-1 {config.REFERENCE.TOP1:g}"
        host = urlsplit(config.WEIGHTS.URL).hostname or "committed in `weights/`"
        assert f"| `{path.stem}` | {figure} | {host} |" in text


def test_the_readmes_link_to_each_other() -> None:
    for name, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        assert f"]({other})" in sections(ROOT / name)[0]


def test_the_chinese_readme_is_current() -> None:
    english, chinese = sections(ROOT / "README.md"), sections(ROOT / "README.zh-CN.md")
    assert len(english) == len(chinese), "another number of headings"
    for ours, theirs in zip(english, chinese):
        assert facts(ours) == facts(theirs), f"README.zh-CN.md differs in: {ours.splitlines()[0]}"
