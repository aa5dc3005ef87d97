"""The folder of inputs: what is kept, what is removed, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrnet.cli import UserError
from preprocess.folder import start_folder
from tests.preprocess.datasets import contents

SETTINGS = {"dtype": "float32", "limit": 0}
INPUTS = {"a.bin", "c.bin"}
SETTINGS_TEXT = (
    '{\n "kind": "settings",\n "format_version": 1,\n "settings": {\n  "dtype": "float32",\n  "limit": 0\n }\n}\n'
)


def refusal(output: Path) -> str:
    with pytest.raises(UserError) as caught:
        start_folder(output, SETTINGS, INPUTS)
    return str(caught.value)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A folder that a finished run left, with what a killed one leaves too."""
    folder = tmp_path / "prep"
    start_folder(folder, SETTINGS, INPUTS)
    for name in ("a.bin", "b.bin", ".c.bin.123.tmp", "notes", "inputs.info", "rejected.json", "manifest.json"):
        (folder / name).write_bytes(b"x")
    (folder / "below").mkdir()
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_folder_holds_its_settings(tmp_path: Path) -> None:
    start_folder(tmp_path / "deep" / "prep", SETTINGS, INPUTS)
    assert contents(tmp_path / "deep" / "prep") == {"settings.json": SETTINGS_TEXT.encode()}
    assert (tmp_path / "deep" / "prep").stat().st_mode & 0o777 == 0o750


def test_equal_settings_keep_the_inputs_and_nothing_else(used: Path) -> None:
    before = (used / "settings.json").stat().st_mtime_ns
    start_folder(used, dict(SETTINGS), INPUTS)
    assert names(used) == {"a.bin", "settings.json", "below"}
    assert (used / "settings.json").stat().st_mtime_ns == before


def test_an_input_of_no_image_any_more_goes(used: Path) -> None:
    start_folder(used, SETTINGS, {"b.bin"})
    assert names(used) == {"b.bin", "settings.json", "below"}


def test_the_manifest_goes_first(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed at any moment leaves no manifest that speaks for a changed folder."""
    remove = os.unlink

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    before = names(used)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok: remove(path))
        patch.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            start_folder(used, {**SETTINGS, "limit": 1}, INPUTS)
    assert names(used) == before - {"manifest.json"}
    assert (used / "settings.json").read_text() == SETTINGS_TEXT  # still those of what lies there


def test_other_settings_keep_nothing(used: Path) -> None:
    start_folder(used, {**SETTINGS, "limit": 1}, INPUTS)
    assert names(used) == {"settings.json", "below"}
    assert (used / "settings.json").read_text() == SETTINGS_TEXT.replace('"limit": 0', '"limit": 1')


def test_a_run_killed_over_its_settings_has_begun_nothing(tmp_path: Path) -> None:
    (tmp_path / ".settings.json.tmp").write_bytes(b"{")
    start_folder(tmp_path, SETTINGS, INPUTS)
    assert contents(tmp_path) == {"settings.json": SETTINGS_TEXT.encode()}


def test_a_folder_of_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    for name in ("thesis.tex", "manifest.json"):
        (tmp_path / name).write_bytes(b"mine")
    line = "holds files that preprocessing did not write; give a new or an empty folder"
    assert refusal(tmp_path) == f"{tmp_path}: {line}"
    assert contents(tmp_path) == {"thesis.tex": b"mine", "manifest.json": b"mine"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{}", "is another record (expected kind 'settings', found None)"),
        ("[", "is no JSON: Expecting value: line 1 column 2 (char 1)"),
        ('{"kind": "settings", "format_version": 0}', "format version (expected 1, found 0)"),
    ],
)
def test_settings_of_another_program_are_refused_and_untouched(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    (tmp_path / "manifest.json").write_bytes(b"mine")
    assert refusal(tmp_path) == f"{tmp_path / 'settings.json'}: {line}; give a new or an empty folder"
    assert contents(tmp_path) == {"settings.json": text.encode(), "manifest.json": b"mine"}


def test_a_path_with_a_space_is_refused_before_the_work(tmp_path: Path) -> None:
    output = tmp_path / "my inputs"
    assert refusal(output) == f"{output}: path with a space, which ais_bench and info files cannot have"
    assert not output.exists()
