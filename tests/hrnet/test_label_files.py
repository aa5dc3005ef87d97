"""hrnet/label_files.py: which label lists are read, which are rejected, and the hints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hrnet.io.records import FormatError
from hrnet.label_files import read_labels
from tests.support.invalid_records import check_invalid


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"a.JPEG 0\nb.JPEG 999\n", {"a.JPEG": 0, "b.JPEG": 999}),
        (b"\n  a.JPEG  7  \r\n\r\nb.JPEG 007", {"a.JPEG": 7, "b.JPEG": 7}),
        (b"potter's wheel (1).JPEG 3\n", {"potter's wheel (1).JPEG": 3}),
        (b"\xef\xbb\xbfa.JPEG 0\n", {"a.JPEG": 0}),
        ("图.JPEG 5\n".encode(), {"图.JPEG": 5}),
        (b"a.JPEG\t1\nb c.JPEG \t 2\rd.JPEG\xc2\xa03\n", {"a.JPEG": 1, "b c.JPEG": 2, "d.JPEG": 3}),
        (b"caf\xe9.JPEG 1\n", {"caf\udce9.JPEG": 1}),
        ("a\u2028b\x0c.JPEG 1\n".encode(), {"a\u2028b\x0c.JPEG": 1}),
    ],
)
def test_label_files_are_read(data: bytes, labels: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "val_label.txt").write_bytes(data)
    assert read_labels(tmp_path / "val_label.txt") == labels


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"\n\n", "no labels (expected lines `name index`)"),
        (b"a.JPEG 0\na.JPEG\n", "invalid line 2 (expected name index, found 'a.JPEG')"),
        (b"5\n", "invalid line 1 (expected name index, found '5')"),
        (b"a.JPEG -1\n", "invalid line 1 (expected name index, found 'a.JPEG -1')"),
        ("a.JPEG ²\n".encode(), "invalid line 1 (expected name index, found 'a.JPEG ²')"),
        (b"a.JPEG 1\nb.JPEG 2\na.JPEG 1\n", "line 3: a second label for a.JPEG"),
        ("a.JPEG 1\n".encode("utf-16"), "not UTF-8 text"),
        ("a.JPEG 1\n".encode("utf-16-le"), "not UTF-8 text"),
        (b"caf\xe9.JPEG\n", "invalid line 1 (expected name index, found 'caf\\udce9.JPEG')"),
    ],
)
def test_invalid_label_files_are_rejected(data: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "val_label.txt"
    path.write_bytes(data)
    check_invalid(read_labels, path, f"{path}: {line}")


@pytest.mark.parametrize(
    "text", ["my a.JPEG,3\nb.JPEG;4\n", "3 my a.JPEG\n4 b.JPEG\n", "name label\nmy a.JPEG 3\nb.JPEG 4\n"]
)
def test_the_hint_for_invalid_labels_is_a_command(text: str, tmp_path: Path) -> None:
    path = tmp_path / "it's labels.txt"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_labels(path)
    subprocess.run(str(caught.value.hint).partition(": ")[2], shell=True, check=True)
    assert read_labels(path) == {"my a.JPEG": 3, "b.JPEG": 4}
    path.write_text("a.JPEG bird\n")
    with pytest.raises(FormatError, match="lines such as img1"):
        read_labels(path)
    path.write_text("a.JPEG 1.0\n")
    with pytest.raises(FormatError, match="lines such as img1"):
        read_labels(path)
