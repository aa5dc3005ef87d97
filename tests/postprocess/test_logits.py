"""postprocess/logits.py: the fast readers give exactly the values of the general readers, or None."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postprocess.logits import npy_header, parse_line, read_values_into

WORD = st.from_regex(r"-?[0-9]{1,9}\.[0-9]{6}", fullmatch=True)
ALMOST = st.text("0123456789.- \n:/", max_size=30)


@given(st.lists(WORD, min_size=1, max_size=20), st.sampled_from(["", " ", " \n"]))
def test_words_of_six_decimals_equal_float(words: list[str], end: str) -> None:
    expected = np.array([np.float32(float(word)) for word in words])
    parsed = parse_line((" ".join(words) + end).encode())
    assert parsed is not None
    assert parsed.dtype == np.float32
    assert parsed.tobytes() == expected.tobytes()  # the sign of -0.0 too


@given(st.one_of(ALMOST, st.builds("{} {}".format, WORD, ALMOST)))
def test_whatever_is_parsed_equals_float(text: str) -> None:
    parsed = parse_line(text.encode())
    if parsed is not None:
        assert parsed.tolist() == [np.float32(float(word)) for word in text.split()]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "nan 1.000000", "1.0", "1.0000000", "+1.000000", "--1.000000", "1-.000000", "1:.000000"),
        *("1.000000  2.000000", " 1.000000", "1.000000\n2.000000", "1.000000 \n2.000000", "1.000000\t2.000000"),
        *("1234567890.000000", "1e10.000000"),
    ],
)
def test_other_text_is_not_parsed(text: str) -> None:
    assert parse_line(text.encode()) is None


def test_the_header_of_an_npy_is_read(tmp_path: Path) -> None:
    path, values = tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(2, 3)
    for version in ((1, 0), (2, 0)):
        with open(path, "wb") as file:
            np.lib.format.write_array(file, values, version)
        header = npy_header(path)
        assert header is not None
        assert header + values.tobytes() == path.read_bytes()
    for other in (values.astype(np.float16), values.astype(">f4"), np.asfortranarray(values)):
        np.save(path, other)
        assert npy_header(path) is None
    path.write_bytes(b"not npy")
    assert npy_header(path) is None


@pytest.mark.parametrize("header", [b"", b"header"])
def test_values_are_read_into_a_row(header: bytes, tmp_path: Path) -> None:
    path, values = tmp_path / "x", np.array([1.5, -2.5], np.float32)
    rows = np.zeros((2, 2), np.float32)
    path.write_bytes(header + values.tobytes())
    assert read_values_into(rows[1], path, header)
    assert rows.tolist() == [[0, 0], [1.5, -2.5]]


@pytest.mark.parametrize("data", [b"", b"head", b"header" + bytes(7), b"header" + bytes(9), b"Header" + bytes(8)])
def test_other_files_are_left_to_the_general_reader(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert not read_values_into(np.zeros(2, np.float32), tmp_path / "x", b"header")
    assert not read_values_into(np.zeros(2, np.float32), tmp_path / "absent", b"header")
    assert not read_values_into(np.zeros(2, np.float32), tmp_path, b"header")
