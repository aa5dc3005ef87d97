"""The output directory of preprocessing: what is kept, removed and rejected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hrnet.cli import UserError, WorkFailed
from preprocess.folder import closing_line, start_folder, write_rejected
from tests.support.image_sets import contents

SETTINGS = {"dtype": "float32", "limit": 0}
INPUTS = {"a.bin", "c.bin"}
SETTINGS_TEXT = (
    '{\n "kind": "settings",\n "format_version": 1,\n "settings": {\n  "dtype": "float32",\n  "limit": 0\n },\n'
    ' "data": {}\n}\n'
)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """The output directory of a finished run, with the files of a killed one."""
    folder = tmp_path / "prep"
    start_folder(folder, SETTINGS, INPUTS, {})
    for name in ("a.bin", "b.bin", ".c.bin.123.tmp", "notes", "inputs.info", "rejected.json", "manifest.json"):
        (folder / name).write_bytes(b"x")
    (folder / "below").mkdir()
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_rejected(folder: Path, where: Path) -> None:
    with pytest.raises(UserError) as caught:
        start_folder(folder, SETTINGS, INPUTS, {})
    assert caught.value.where == where


def test_a_new_directory_contains_its_settings(tmp_path: Path) -> None:
    start_folder(tmp_path / "deep" / "prep", SETTINGS, INPUTS, {})
    assert contents(tmp_path / "deep" / "prep") == {"settings.json": SETTINGS_TEXT.encode()}
    assert (tmp_path / "deep" / "prep").stat().st_mode & 0o777 == 0o750


def test_equal_settings_keep_only_the_inputs(used: Path) -> None:
    before = (used / "settings.json").stat().st_mtime_ns
    start_folder(used, dict(SETTINGS), INPUTS, {})
    assert names(used) == {"a.bin", "settings.json", "below"}
    assert (used / "settings.json").stat().st_mtime_ns == before
    start_folder(used, SETTINGS, {"b.bin"}, {})
    assert names(used) == {"settings.json", "below"}, "an input without an image is removed"


def test_the_manifest_is_removed_first(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed at any moment leaves no manifest in a changed directory."""
    remove = os.unlink

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    before = names(used)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok: remove(path))
        patch.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            start_folder(used, {**SETTINGS, "limit": 1}, INPUTS, {})
    assert names(used) == before - {"manifest.json"}
    assert (used / "settings.json").read_text() == SETTINGS_TEXT


def test_other_settings_keep_nothing(used: Path) -> None:
    start_folder(used, {**SETTINGS, "limit": 1}, INPUTS, {})
    assert names(used) == {"settings.json", "below"}
    assert (used / "settings.json").read_text() == SETTINGS_TEXT.replace('"limit": 0', '"limit": 1')


def test_a_directory_without_complete_settings_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / ".settings.json.tmp").write_bytes(b"{")
    start_folder(tmp_path, SETTINGS, INPUTS, {})
    assert contents(tmp_path) == {"settings.json": SETTINGS_TEXT.encode()}


def test_a_directory_of_other_files_is_rejected_and_untouched(tmp_path: Path) -> None:
    for name in ("thesis.tex", "manifest.json"):
        (tmp_path / name).write_bytes(b"mine")
    check_rejected(tmp_path, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine", "manifest.json": b"mine"}


@pytest.mark.parametrize("text", ["{}", "[", '{"kind": "settings", "format_version": 0}'])
def test_settings_of_another_program_are_rejected_and_untouched(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    (tmp_path / "manifest.json").write_bytes(b"mine")
    check_rejected(tmp_path, tmp_path / "settings.json")
    assert contents(tmp_path) == {"settings.json": text.encode(), "manifest.json": b"mine"}


def test_a_path_with_a_space_is_rejected_before_the_work(tmp_path: Path) -> None:
    output = tmp_path / "my inputs"
    check_rejected(output, output)
    assert not output.exists()


def test_the_closing_line_counts_what_was_written_and_kept() -> None:
    assert closing_line(Path("out"), 4, 0, 2.0) == "wrote 4 inputs to out (2 images/s)"
    assert closing_line(Path("out"), 4, 1, 2.0) == "wrote 4 inputs to out (2 images/s); kept 1 of an earlier run"
    assert closing_line(Path("out"), 0, 59, 2.0) == "kept 59 inputs of an earlier run in out; none was missing"


@pytest.mark.parametrize(("done", "allows"), [(5, True), (0, False)])
def test_the_hint_about_rejected_images_helps(done: int, allows: bool, tmp_path: Path) -> None:
    """Without any input left, MAX_REJECTED does not help."""
    with pytest.raises(WorkFailed) as caught:
        write_rejected(tmp_path, {"a.txt": "not an image"}, done, 0)
    assert ("MAX_REJECTED=1" in str(caught.value.hint)) == allows
