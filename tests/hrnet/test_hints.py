"""hrnet/hints.py, and the hints of all errors: commands that can be pasted, and the nearest name."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from hrnet.cli import UserError
from hrnet.hints import distance, in_call, nearest
from make.options import targets
from tests.support import ROOT

NAMES = ["demo_digits", "demo_pose", "hrnet_w18", "hrnet_w18_ssld", "hrnet_w48", "hrnet_w48_ssld", "hrnet_w64"]


@pytest.mark.parametrize("path", ["my/a.om", "build/other/a.om", "/data/a.om", "build/net/../other/a.om"])
def test_no_hint_of_a_call_of_make_removes_a_file_outside_the_models_build_directory(path: str) -> None:
    found = in_call(f"here: rm {path}; make om; else: adopt {path}", {"MODEL": "net", "MAKELEVEL": "1"})
    assert "rm " not in found and "make om" not in found
    assert f"give another file, since {path} is not in build/net; else: adopt {path}" in found


def test_a_directory_outside_the_models_build_directory_is_not_removed() -> None:
    values = {"MODEL": "net", "MAKELEVEL": "1"}
    assert in_call("if make created it: rm -r build/net/prep/x", values).endswith("rm -r build/net/prep/x")
    assert in_call("rm -r mine/prep", values) == "give another directory, since mine/prep is not in build/net"


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("", "", 0), ("abc", "", 3), ("w81", "w18", 1), ("torhc", "torch", 1), ("kitten", "sitting", 3), ("ca", "abc", 3)],
)
def test_an_exchange_of_two_neighbouring_characters_is_one_edit(one: str, other: str, edits: int) -> None:
    assert distance(one, other) == distance(other, one) == edits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hrnet_w81", "hrnet_w18"),
        ("w48", "hrnet_w48"),
        ("HRNet-W18", "hrnet_w18"),
        ("demo", "demo_pose"),
        ("resnet50", None),
        ("x", None),
    ],
)
def test_the_nearest_name(name: str, expected: Optional[str]) -> None:
    assert nearest(name, NAMES) == expected and nearest(name, []) is None


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("evla", ["eval", "om"], "eval"),
        ("BATHC", ["BATCH", "BUILD"], "BATCH"),
        ("imagnet", ["imagenet", "coco"], "imagenet"),
        ("imagnet.txt", ["imagenet.txt"], "imagenet.txt"),
        ("model_bset.pth.tar", ["model_best.pth.tar", "checkpoint.pth.tar"], "model_best.pth.tar"),
        ("NUM_CLASS", ["NUM_CLASSES"], "NUM_CLASSES"),
        ("w18.yaml", ["hrnet_w18.yaml"], "hrnet_w18.yaml"),
        ("DATASET", ["dataset"], "dataset"),
        ("ONX", ["ONNX", "OM"], "ONNX"),
        ("nte", ["net"], "net"),
        ("nat", ["net"], None),
        ("om", ["on"], None),
        ("set", ["net", "settings"], None),
        ("img", ["myimages", "imgs_old"], None),
        ("a.pth", ["b.pth"], None),
        ("x.onnx", ["m.onnx", "mine.onnx"], None),
        ("new.onnx", ["net.onnx"], None),
        ("val", ["interval", "vol"], None),
        ("data", ["build", "docs"], None),
        ("LR", ["WD", "LR_STEP"], None),
        ("yes", ["test"], None),
    ],
)
def test_the_nearest_name_is_found_or_none_if_no_name_is_similar(
    name: str, known: list[str], expected: Optional[str]
) -> None:
    assert nearest(name, known) == expected


@pytest.mark.parametrize(
    ("hint", "values", "expected"),
    [
        ("run make infer", {}, "run make infer"),
        ("run make infer", {"MODEL": "hrnet_w18", "BUILD": "build", "PYTHON": ".venv/bin/python"}, "run make infer"),
        ("make part SHARD=1/3", {"MODEL": "net"}, "make part MODEL=net SHARD=1/3"),
        ("rm a.om; make om", {"CFG": "my/net.yaml", "BUILD": "b"}, "rm a.om; make om MODEL=net BUILD=b"),
        ("rm build/net/a.om; make om", {"MODEL": "net", "MAKELEVEL": "1"}, "rm build/net/a.om; make om MODEL=net"),
        ("make eval CFG=a.yaml", {"MODEL": "net", "PYTHON": "python3"}, "make eval PYTHON=python3 CFG=a.yaml"),
        ("make weights MODEL=a", {"MODEL": "net"}, "make weights MODEL=a"),
        ("make setup, or make bench-peers; make", {"MODEL": "n"}, "make setup, or make bench-peers MODEL=n; make"),
    ],
)
def test_commands_belong_to_the_current_call(hint: str, values: dict[str, str], expected: str) -> None:
    assert in_call(hint, values) == expected
    assert in_call(expected, values) == expected


def test_errors_of_stages_have_the_variables_that_make_exports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL", "net")
    monkeypatch.setenv("BUILD", "out")
    assert UserError("x", hint="run make om").hint == "run make om MODEL=net BUILD=out"
    (tmp_path / "Makefile").write_text('all:\n\t@echo "$$MODEL $$BUILD"\n')
    monkeypatch.delenv("BUILD")
    done = subprocess.run(["make", "MODEL=a", "BUILD=b"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a b\n"


@functools.cache
def error_calls() -> list[tuple[str, ast.Call]]:
    """All calls in the code that make an error, with the path and line of each."""
    found = []
    for path in sorted(ROOT.glob("*/**/*.py")):
        if path.relative_to(ROOT).parts[0] in ("tests", "build", ".venv"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ""
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if isinstance(node, ast.Call) and (name.endswith("Error") or name in ("error", "WorkFailed")):
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def text_of(node: ast.AST) -> str:
    """The constant text in an expression."""
    parts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return "".join(part for part in parts if isinstance(part, str))


def test_commands_are_in_the_hints_of_errors() -> None:
    """Only there MODEL and BUILD of the call are added."""
    command = re.compile(rf"(^|; |, |or |run |use )make ({'|'.join(targets())})( [A-Z]+=|$|;)")
    found = 0
    for where, call in error_calls():
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        last = {"OptionError": 1, "error": 2}.get(name, 9)  # the next argument is the hint
        parts = [*call.args[:last], *(word.value for word in call.keywords if word.arg != "hint")]
        for part in parts:
            assert not command.search(text_of(part)), f"{where}: {text_of(part)}"
        hints = [*call.args[last:], *(word.value for word in call.keywords if word.arg == "hint")]
        found += any(command.search(text_of(hint)) for hint in hints)
    assert found > 20


def test_each_command_in_a_hint_is_a_target() -> None:
    known = {*targets(), "bench-peers"}
    for where, call in error_calls():
        for hint in [word.value for word in call.keywords if word.arg == "hint"]:
            for name in re.findall(r"\bmake ([a-z-]+)", text_of(hint)):
                assert name in known, f"{where}: make {name}"


def test_errors_and_options_use_the_word_directory() -> None:
    """One word for one thing; names in the code may contain `folder`."""
    for where, call in error_calls():
        assert not re.search(r"\bfolders?\b", text_of(call)), f"{where}: {text_of(call)}"
    shown = (ROOT / "Makefile").read_text(encoding="utf-8") + (ROOT / "make/project.mk").read_text(encoding="utf-8")
    assert not re.search(r"#[^\n]*\bfolders?\b", shown)
