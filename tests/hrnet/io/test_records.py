"""hrnet/io/records.py: the layout of records, and the errors for files that are not the expected record."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from hrnet.io.records import read_record, write_record
from tests.support.invalid_records import check_invalid


def test_records_have_a_line_for_each_key_and_entry(tmp_path: Path) -> None:
    path = tmp_path / "rejected.json"
    write_record(path, "rejected", {"images": {"val/a.JPEG": "empty file"}})
    assert path.read_text() == (
        '{\n "kind": "rejected",\n "format_version": 1,\n "images": {\n  "val/a.JPEG": "empty file"\n }\n}\n'
    )
    write_record(path, "rejected", {"images": {}})
    assert path.read_text() == '{\n "kind": "rejected",\n "format_version": 1,\n "images": {}\n}\n'
    assert read_record(path, "rejected") == {"kind": "rejected", "format_version": 1, "images": {}}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "no run record"),
        ("", "not JSON"),
        ("[]", "expected kind 'run', found 'list'"),
        ("{}", "expected kind 'run', found None"),
        ('{"kind": "manifest"}', "expected kind 'run', found 'manifest'"),
        ('{"kind": "run"}', "expected 1"),
        ('{"kind": "run", "format_version": 2}', "expected 1, found 2"),
    ],
)
def test_other_files_are_rejected(text: Optional[str], part: str, tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    if text is not None:
        path.write_text(text)
    error = check_invalid(lambda file: read_record(file, "run", hint="run make infer"), path, part)
    assert "make infer" in str(error.hint)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("run make infer", "rm {}; make infer"),
        ("make onnx", "rm {}; make onnx"),
        ("if make om made it: rm a.om", "if make om made it: rm a.om"),
        ("give an empty directory", "give an empty directory"),
    ],
)
def test_rm_is_added_only_to_a_hint_that_is_a_command_of_make(hint: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{")
    assert check_invalid(lambda file: read_record(file, "run", hint=hint), path, "truncated").hint == expected.format(
        path
    )
