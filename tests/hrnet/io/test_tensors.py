"""Tensor files: exact bytes, each way in which one can be invalid, and their names."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hrnet.io import tensor_names, tensors
from tests.support.invalid_records import check_invalid


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = st.text(st.sampled_from("ab-_.2 'é图"), min_size=1, max_size=5).filter(lambda name: name.strip("."))


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("val/ILSVRC2012_val_00000293.JPEG", "ILSVRC2012_val_00000293"),
        ("val/n01440764/x.JPEG", "n01440764_x"),
        ("deep/val/n01440764/x.JPEG", "n01440764_x"),
        ("x.JPEG", "x"),
        ("val/a.b.c.JPEG", "a_b_c"),
        ("val/potter's wheel.JPEG", "potter_s_wheel"),
        ("val/no_ending", "no_ending"),
        ("val/图.jpg", "_"),
        ("val/-9.JPEG", "-9"),
    ],
)
def test_stems_have_only_legal_characters(source: str, stem: str) -> None:
    assert tensor_names.safe_stems([source]) == [stem]


def test_duplicate_stems_are_numbered_in_order() -> None:
    sources = ["val/a.JPEG", "val/a.png", "val/a-2.JPEG", "val/a.bmp", "val/a-2.png", "val/a-3.JPEG"]
    assert tensor_names.safe_stems(sources) == ["a", "a-2", "a-2-2", "a-3", "a-2-3", "a-3-2"]
    assert tensor_names.safe_stems(["val/a-2.JPEG", "val/a.JPEG", "val/a.png"]) == ["a-2", "a", "a-3"]


@given(st.lists(NAMES.map(lambda name: f"val/{name}.JPEG"), max_size=12))
def test_safe_stems_are_unique_legal_and_stable(sources: list[str]) -> None:
    stems = tensor_names.safe_stems(sources)
    assert len(stems) == len(sources) == len(set(stems))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", stem) for stem in stems)
    assert tensor_names.safe_stems(sources[: len(sources) // 2]) == stems[: len(sources) // 2]
    for source, stem in zip(sources, stems):
        wanted = tensor_names.safe_stems([source])[0]
        assert re.fullmatch(re.escape(wanted) + r"(-[0-9]+)?", stem)
    assert tensor_names.safe_stems([f"val/{stem}.bin" for stem in stems]) == stems


def test_a_long_stem_is_cut_and_stays_unique() -> None:
    assert tensor_names.safe_stems([f"val/{'a' * 200}.JPEG", f"val/{'b' * 201}.JPEG"]) == ["a" * 200, "b" * 200]
    long = [f"val/n1/{'é' * 300}{end}.JPEG" for end in ("", "x", "y")] + [f"val/n1/{'_' * 197}-2.JPEG"]
    cut = "n1_" + "_" * 197
    assert tensor_names.safe_stems(long) == [cut, f"{cut}-2", f"{cut}-3", f"{cut}-4"]


@given(st.lists(st.tuples(st.integers(190, 230), st.sampled_from(["", "-2", "b"])), max_size=12))
def test_long_stems_leave_room_for_endings(names: list[tuple[int, str]]) -> None:
    stems = tensor_names.safe_stems([f"val/{'a' * length}{end}.JPEG" for length, end in names])
    assert len(stems) == len(set(stems))
    assert all(len(f".{stem}_0.bin.{2**22}.tmp") <= 255 for stem in stems)


def test_many_duplicates_take_linear_time() -> None:
    stems = tensor_names.safe_stems([f"val/{chr(0x4E00 + i)}.jpg" for i in range(20_000)])
    assert (stems[0], stems[1], stems[-1]) == ("_", "_-2", "_-20000")


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_input_shapes_follow_dtype_and_size() -> None:
    assert tensor_names.input_shape("float32", 64, 32) == [3, 32, 64]
    assert tensor_names.input_shape("uint8", 64, 32) == [32, 64, 3]


DTYPES = ("float32", "float16", "int32", "int64", "uint8")
TENSORS = st.sampled_from(DTYPES).flatmap(lambda dtype: nps.arrays(dtype, nps.array_shapes(max_dims=4, max_side=4)))


@pytest.mark.parametrize(
    ("tensor", "data"),
    [
        (np.array([1.0, -2.5], "<f4"), "0000803f 000020c0"),
        (np.array([1.0, -2.5], ">f4"), "0000803f 000020c0"),
        (np.array([1.0], "<f2"), "003c"),
        (np.array([1, -1], ">i4"), "01000000 ffffffff"),
        (np.array([[1, 2], [3, 4]], np.uint8).T, "01 03 02 04"),
        (np.array(258, ">i4"), "02010000"),
    ],
)
def test_bin_is_raw_little_endian_in_c_order(tensor: np.ndarray, data: str, tmp_path: Path) -> None:
    tensors.write_bin(tmp_path / "x.bin", tensor)
    assert (tmp_path / "x.bin").read_bytes() == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (np.array([[1.5, -0.25]], np.float32), "1.500000 -0.250000 \n"),
        (np.array([0.1, 1e-7, 1e8], np.float32), "0.100000 0.000000 100000000.000000 \n"),
        (np.array([[1, -2], [3, 4]], np.int64), "1 -2 \n3 4 \n"),
        (np.array([[[1.0]], [[2.0]]], np.float16), "1.000000 \n2.000000 \n"),
        (np.array(7, np.int32), "7 \n"),
        (np.array([np.nan, np.inf, -np.inf], np.float32), "nan inf -inf \n"),
    ],
)
def test_txt_is_as_ais_bench_prints_it(tensor: np.ndarray, text: str, tmp_path: Path) -> None:
    tensors.write_output(tmp_path / "x_0.txt", tensor)
    assert (tmp_path / "x_0.txt").read_bytes() == text.encode()


def test_npy_equals_numpy(tmp_path: Path) -> None:
    tensors.write_output(tmp_path / "x_0.npy", np.array([[1.0, 2.0]], np.float32))
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
    data = (tmp_path / "x_0.npy").read_bytes()
    assert data == header.ljust(127) + b"\n" + bytes.fromhex("0000803f 00000040")


@pytest.mark.parametrize("dtype", tensor_names.DTYPES)
@pytest.mark.parametrize("shape", [(1,), (1, 99999), (1, 34, 10, 99), (1, 1, 1, 99999)])
def test_values_of_npy_begin_at_the_same_byte(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = np.zeros(shape, dtype)
    tensors.write_npy(tmp_path / "x.npy", tensor)
    assert (tmp_path / "x.npy").stat().st_size == tensor_names.NPY_HEADER + tensor.nbytes


@settings(max_examples=50)
@given(TENSORS)
def test_bin_and_npy_are_read_as_written(tmp_path_factory: pytest.TempPathFactory, tensor: np.ndarray) -> None:
    folder = tmp_path_factory.getbasetemp()
    for ending in ("bin", "npy"):
        tensors.write_output(folder / f"x.{ending}", tensor)
    flat = tensors.read_output(folder / "x.bin", tensor.dtype.name)
    assert (flat.dtype, flat.shape, flat.tobytes()) == (tensor.dtype, (tensor.size,), tensor.tobytes())
    same = tensors.read_output(folder / "x.npy")
    assert (same.dtype, same.shape, same.tobytes()) == (tensor.dtype, tensor.shape, tensor.tobytes())


@settings(max_examples=50)
@given(nps.arrays(np.float32, nps.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e6, 1e6, width=32)))
def test_txt_is_read_with_six_decimals(tmp_path_factory: pytest.TempPathFactory, tensor: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "x.txt"
    tensors.write_output(path, tensor)
    back = tensors.read_output(path)
    assert (back.dtype, back.shape) == (np.float32, (tensor.size // tensor.shape[-1], tensor.shape[-1]))
    rounded = [float(f"{value:f}") for value in tensor.reshape(-1).tolist()]
    assert back.reshape(-1).tolist() == np.array(rounded, np.float32).tolist()


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("x.bin", b"", "found 0 bytes"),
        ("x.bin", b"12345", "found 5 bytes"),
        ("x.txt", b"", "no numbers"),
        ("x.txt", b" \n\n", "no numbers"),
        ("x.txt", b"1.0 2.0 \n3.0 \n", "found [1, 2]"),
        ("x.txt", b"1.0 two \n", "not a table of numbers"),
        ("x.txt", b"\xff\xfe", "not a table of numbers"),
        ("x.bin", None, "missing"),
        ("x.npy", None, "missing"),
        ("x.txt", None, "missing"),
        ("x.npy", b"", "not a readable tensor"),
        ("x.npy", b"PK\x03\x04 an npz", "not a readable tensor"),
        ("x.npy", saved(np.zeros(9, np.float32))[:-1], "not a readable tensor"),
        ("x.npy", saved(np.zeros(9, np.float32))[:20], "not a readable tensor"),
        ("x.npy", saved(np.array([{}])), "not a readable tensor"),
        ("x.npy", saved(np.array(["a"])), "found str32"),
        ("x.npy", saved(np.array([1j])), "found complex128"),
        ("x.jpg", None, "unknown tensor format"),
    ],
)
def test_invalid_outputs_are_rejected(name: str, data: Optional[bytes], part: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    error = check_invalid(lambda file: tensors.read_output(file, hint="rm x_run.json; make infer"), path, part)
    assert error.hint == (None if name == "x.jpg" else "rm x_run.json; make infer")
    assert "\n" not in str(error)
