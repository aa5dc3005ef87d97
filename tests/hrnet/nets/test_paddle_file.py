"""hrnet/nets/paddle_file.py: arrays equal NumPy's in all forms that paddle.save writes; malicious files are
rejected."""

from __future__ import annotations

import collections
import io
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from hrnet.cli import UserError
from hrnet.nets import paddle_file

TABLE, PARTS = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
PROTOCOLS = [2, 3, 4]


def saved(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def state_of(arrays: dict[str, Any]) -> dict[str, Any]:
    """A state dict with the entry that paddle.save adds."""
    return {**arrays, TABLE: {name: f"linear_{i}.w_0" for i, name in enumerate(arrays)}}


def error_of(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        paddle_file.read(path)
    assert caught.value.where == path and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        WEIGHT,
        WEIGHT.T,
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        WEIGHT[:, ::2],
        np.full(70_000, -0.5, np.float16),
        np.array([1, -2, 3]),
        np.array(2.5, np.float32),
        np.full((2, 1), 200, np.uint8),
        np.frombuffer(bytes(range(256)), np.float32).copy(),  # all bytes, which protocol 2 writes as text
    ],
)
def test_arrays_equal_those_of_numpy(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    content = paddle_file.read(saved(tmp_path / "a.pdparams", state_of({"a": array, "b": array}), protocol))
    assert list(content) == ["a", "b"]
    for tensor in content.values():
        assert tensor.numpy().tobytes() == array.tobytes() and tensor.numpy().dtype == array.dtype
        assert tuple(tensor.shape) == array.shape
        tensor.add_(1)  # it can be changed, and shares no memory
    assert torch.equal(content["a"].nan_to_num(), content["b"].nan_to_num())


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray", b"numpy.multiarray"])
def test_module_names_of_all_numpy_versions_are_read(tmp_path: Path, module: bytes) -> None:
    written = pickle.dumps(state_of({"a": WEIGHT}), 2)
    name = np.arange(3).__reduce__()[0].__module__.encode()
    (tmp_path / "a.pdparams").write_bytes(written.replace(b"c" + name + b"\n", b"c" + module + b"\n"))
    assert torch.equal(paddle_file.read(tmp_path / "a.pdparams")["a"], torch.from_numpy(WEIGHT))


class Python2(pickle._Pickler):
    """Writes strings as Python 2 does: as bytes without an encoding."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, text: Any) -> None:
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def test_a_file_of_python_2(tmp_path: Path) -> None:
    file = io.BytesIO()
    Python2(file, 2).dump(state_of({"a": WEIGHT}))
    (tmp_path / "a.pdparams").write_bytes(file.getvalue())
    assert torch.equal(paddle_file.read(tmp_path / "a.pdparams")["a"], torch.from_numpy(WEIGHT))


def test_bfloat16(tmp_path: Path) -> None:
    values = torch.tensor([1.0, -2.5, 3e30], dtype=torch.bfloat16)
    path = saved(tmp_path / "a.pdparams", state_of({"a": values.view(torch.int16).numpy().view(np.uint16)}))
    assert torch.equal(paddle_file.read(path)["a"], values)


class Pair:
    """A tensor of PaddlePaddle in a nested dictionary."""

    def __init__(self, *pair: Any) -> None:
        self.pair = pair

    def __reduce__(self) -> Any:
        return tuple, (self.pair,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pairs_in_nested_dictionaries(tmp_path: Path, protocol: int) -> None:
    state = collections.OrderedDict(a=Pair("conv2d_0.w_0", WEIGHT), b=Pair("x", WEIGHT + 1))
    content = paddle_file.read(saved(tmp_path / "a.pdparams", {"model": state, "epoch": 3, "log": [1.5]}, protocol))
    assert content["epoch"] == 3 and content["log"] == [1.5]
    assert torch.equal(content["model"]["b"], torch.from_numpy(WEIGHT + 1))


@pytest.mark.parametrize("protocol", [2, 3])
def test_arrays_in_parts(tmp_path: Path, protocol: int) -> None:
    parts = {f"big@@.{i}": WEIGHT.ravel()[i * 5 : i * 5 + 5] for i in range(3)}
    entry = {"OriginShape": WEIGHT.shape, "slices": list(parts)}
    content = {**state_of({"small": WEIGHT[0]}), **parts, PARTS: {"big": entry}}
    found = paddle_file.read(saved(tmp_path / "a.pdparams", content, protocol))
    assert sorted(found) == ["big", "small"] and torch.equal(found["big"], torch.from_numpy(WEIGHT))
    for key, value in (("OriginShape", (3, 5)), ("slices", ["big@@.0", "big@@.9"]), ("slices", []), ("slices", 3)):
        broken = {**content, PARTS: {"big": {**entry, key: value}}}
        assert "download it again" in str(error_of(saved(tmp_path / "b.pdparams", broken, protocol)).hint)


def test_a_file_is_never_in_memory_twice(tmp_path: Path) -> None:
    paths = {
        protocol: saved(
            tmp_path / f"{protocol}.pdparams", state_of({str(i): np.ones(250_000) for i in range(16)}), protocol
        )
        for protocol in (2, 4)
    }
    for path in paths.values():
        tracemalloc.start()
        paddle_file.read(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1.3 * 16 * 250_000 * 8


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')"
    calls = [
        (Calls(os.system, f"touch {ran}"), "posix.system"),
        (Calls(eval, code), "eval"),
        (Calls(eval, "data", {"data": WEIGHT}), "eval"),  # how paddle.save writes a DenseTensor
        (Calls(exec, code), "exec"),
        (Calls(getattr, WEIGHT, "tofile"), "getattr"),
        (Calls(np.load, str(ran)), "load"),
        (Calls(torch.load, str(ran)), "torch"),
        (Calls(bytearray, 1 << 40), "bytearray"),
        (Calls(collections.defaultdict, list), "defaultdict"),
    ]
    for protocol in PROTOCOLS:
        for call, name in calls:
            error = error_of(saved(tmp_path / "a.pdparams", state_of({"a": WEIGHT, "b": call}), protocol))
            assert "would run code" in error.what and name in str(error.found) and "paddle.save" in str(error.hint)
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02cbuiltins\ntuple.__class__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02cos\nsystem\n(X\x05\x00\x00\x00falsetR.",
        b"(ios\nsystem\n.",
    ],
)
def test_other_names_are_never_looked_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdparams").write_bytes(content)
    assert "would run code" in error_of(tmp_path / "a.pdparams").what


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\nndarray\n)R.",  # an array that was not saved by numpy
        b"\x80\x02cnumpy\nndarray\n}b.",  # a state for numpy.ndarray
        b"\x80\x02cnumpy\ndtype\nN}X\x05\x00\x00\x00_call]s\x86b.",  # a state for numpy.dtype
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # a new object of the class numpy.dtype
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n)X\x01\x00\x00\x00b\x87R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00rot_13\x86R.",
        b"\x80\x02cbuiltins\ntuple\ncnumpy\ndtype\n\x85R.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",  # lengths beyond the memory
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 63) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.",
        b"\x80\x02U\x05a.",
        b"\x80\x09N.",
        b"\x80\x02Qx.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02}.more",
        b"",
    ],
)
def test_pickles_that_paddle_never_writes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdparams").write_bytes(content)
    assert "amaged" in error_of(tmp_path / "a.pdparams").what


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([{"a": 1}], dtype=object), "O8"),
        (np.array(["text"]), "U4"),
        (np.zeros(2, [("a", "f4")]), "V4"),
        (np.zeros(2, np.complex64), "c8"),
        (np.zeros(2, ">f4"), ">"),
        (np.zeros(2, "M8[s]"), "M8"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_other_types(tmp_path: Path, array: np.ndarray, found: str, protocol: int) -> None:
    error = error_of(saved(tmp_path / "a.pdparams", state_of({"a": array}), protocol))
    assert "unsupported" in error.what and error.found == found


class Forged:
    """An array with another state."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return (*WEIGHT.__reduce__()[:2], self.state)


@pytest.mark.parametrize(
    "state",
    [
        (1, (3, 4), np.dtype("f4"), False, bytes(47)),
        (1, (3, 4), np.dtype("f4"), False, bytes(49)),
        (1, (1 << 40, 1 << 40), np.dtype("f4"), False, bytes(48)),
        (1, (-3, -4), np.dtype("f4"), False, bytes(48)),
        (1, (-12,), np.dtype("f4"), False, bytes(48)),
        (1, (True, 12), np.dtype("f4"), False, bytes(48)),
        (1, (3.0, 4), np.dtype("f4"), False, bytes(48)),
        (1, [3, 4], np.dtype("f4"), False, bytes(48)),
        (1, 12, np.dtype("f4"), False, bytes(48)),
        (1, (1,) * 99 + (12,), np.dtype("f4"), False, bytes(48)),
        (1, (3, 4), "f4", False, bytes(48)),
        (1, (3, 4), np.dtype("f4"), False, [1.0] * 12),
        (1, (12,), np.dtype("f4"), False, "\u1234" * 48),
        (1, (3, 4), np.dtype("f4"), False),
        (),
    ],
)
def test_arrays_with_another_state(tmp_path: Path, state: tuple[Any, ...]) -> None:
    error = error_of(saved(tmp_path / "a.pdparams", state_of({"a": Forged(*state)})))
    assert error.what == "damaged PaddlePaddle file" and "download it again" in str(error.hint)


def test_a_dictionary_inside_of_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": WEIGHT}
    content["self"] = content
    found = paddle_file.read(saved(tmp_path / "a.pdparams", content))
    assert torch.equal(found["self"]["self"]["a"], torch.from_numpy(WEIGHT))


def test_nested_lists_that_share_all_parts(tmp_path: Path) -> None:
    """2**60 lists, if each was visited as often as it occurs."""
    content: list[Any] = []
    for _ in range(60):
        content = [content, content]
    assert paddle_file.read(saved(tmp_path / "a.pdparams", {"a": content}))["a"][0] is not None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_cut_short_and_flipped_bits(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path / "a.pdparams", state_of({"a": WEIGHT, "b": WEIGHT.T, "c": WEIGHT[0]}), protocol)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        error_of(path)
    generator = random.Random(protocol)
    rejected = 0
    for _ in range(150):
        changed = bytearray(whole)
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            paddle_file.read(path)
        except UserError:
            rejected += 1
    assert rejected > 30


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        paddle_file.read(tmp_path / "none.pdparams")
