"""hrnet/nets/torch_file.py: values equal those of torch.load; the error for a rejected file names the cause."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import random
import shlex
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrnet.cli import UserError
from hrnet.nets import torch_file
from hrnet.nets.torch_file import Unusable

WEIGHT = torch.arange(12, dtype=torch.float32).reshape(3, 4)


class RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("false",)


def saved(path: Path, content: Any, zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


def error_of(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        torch_file.read(path)
    assert caught.value.where == path and "\n" not in str(caught.value)
    return caught.value


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


CONTENTS: dict[str, Any] = {
    "types": {str(t): torch.ones(3, 2).to(t) for t in (torch.float16, torch.bfloat16, torch.float64, torch.int64)},
    "more types": {str(t): torch.ones(3).to(t) for t in (torch.int8, torch.uint8, torch.bool, torch.complex64)},
    "views": {
        "rows": WEIGHT[1:],
        "transposed": WEIGHT.t(),
        "same": WEIGHT,
        "one": WEIGHT[2, 3],
        "wide": WEIGHT[:, ::2],
    },
    "expanded": {"all": torch.ones(1, 2).expand(5, 2)},
    "empty": {"none": torch.empty(0, 3), "scalar": torch.tensor(4)},
    "parameter": {"p": torch.nn.Parameter(WEIGHT.clone())},
    "containers": {"a": [1, (2.5, None, True)], "b": collections.OrderedDict(c="d"), "e": {1: {"f": "é"}}},
    "module": torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).state_dict(),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", CONTENTS)
def test_values_equal_those_of_torch_load(tmp_path: Path, name: str, zipped: bool, protocol: int) -> None:
    path = saved(tmp_path / "a.pth", CONTENTS[name], zipped, protocol)
    assert equal(torch_file.read(path), torch.load(path, weights_only=False))


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_of_an_optimiser_is_read(tmp_path: Path, zipped: bool) -> None:
    moments = {"step": torch.tensor(1.0), "exp_avg": WEIGHT, "exp_avg_sq": WEIGHT**2}
    groups = [{"lr": 0.1, "betas": (0.9, 0.999), "fused": None, "foreach": False, "params": [0]}]
    scheduler = {"milestones": collections.Counter([3, 5])}
    content = {"optimizer": {"state": {0: moments}, "param_groups": groups}, "scheduler": scheduler}
    path = saved(tmp_path / "a.pth", content, zipped)
    assert equal(torch_file.read(path), content)


def rewritten(path: Path, old: bytes, new: bytes) -> Path:
    """Replace `old` by `new` in the pickle of a file; the CRCs of an archive are correct afterwards."""
    if not zipfile.is_zipfile(path):
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            assert not name.endswith("data.pkl") or old in content
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("device", ["npu:0", "npu:7", "cuda:0", "xpu", "mps", "meta", "hpu:1"])
def test_tensors_saved_on_a_device_are_read(tmp_path: Path, device: str, zipped: bool) -> None:
    """Both forms store the name of the device as text, after its length."""
    path = saved(tmp_path / "a.pth", {"w": WEIGHT}, zipped)
    rewritten(path, b"X\x03\x00\x00\x00cpu", b"X" + len(device).to_bytes(4, "little") + device.encode())
    found = torch_file.read(path)["w"]
    assert torch.equal(found, WEIGHT) and found.device.type == "cpu"


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_saved_by_torch_npu_are_read(tmp_path: Path, zipped: bool) -> None:
    """torch_npu 1.11 to 2.1 wrote another function, and the storage format of the chip as a seventh argument."""
    path = saved(tmp_path / "a.pth", {"w": WEIGHT}, zipped)
    rewritten(path, b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch_npu.utils.storage\n_rebuild_npu_tensor\n")
    rewritten(path, b"tq\x0cR", b"K\x02tq\x0cR")  # K adds the integer 2 to the arguments, t ends them, R is the call
    assert torch.equal(torch_file.read(path)["w"], WEIGHT)


def test_an_old_file_with_views_of_a_storage_is_read(tmp_path: Path) -> None:
    """torch before 0.4 wrote such files: the storage of a tensor may be part of another storage."""

    class Old(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            part = {"first": ("0v1", 0, 4), "second": ("0v2", 4, 8)}.get(value) if isinstance(value, str) else None
            return ("storage", torch.FloatStorage, "0", "cpu", 12, part) if part else None

    class Tensor:
        def __init__(self, storage: str, size: int) -> None:
            self.storage, self.size = storage, size

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, (self.storage, 0, (self.size,), (1,))

    path = tmp_path / "a.pth"
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
            pickle.dump(value, file, 2)
        Old(file, 2).dump({"a": Tensor("first", 4), "b": Tensor("second", 8)})
        pickle.dump(["0"], file, 2)
        file.write((12).to_bytes(8, "little") + WEIGHT.numpy().tobytes())
    found = torch_file.read(path)
    assert found["a"].tolist() == [0, 1, 2, 3] and found["b"].tolist() == list(range(4, 12))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "beside",
    [
        np.float64(76.4),
        np.float32(1),
        np.int64(3),
        np.bool_(True),
        np.arange(6).reshape(2, 3),
        np.array(["a"]),
        [np.zeros(0)],
        {1, 2},
        frozenset((3,)),
        collections.defaultdict(dict, a={"b": 1}),
        collections.Counter("aab"),
        np.random.RandomState(0).get_state(),
        random.Random(0).getstate(),
        torch.Size((1, 2)),
        torch.device("cpu"),
        torch.float16,
        b"bytes",
        1 + 2j,
        slice(1, 2),
        bytearray(b"x"),
    ],
    ids=repr,
)
def test_plain_values_beside_the_weights_are_read(tmp_path: Path, beside: Any, protocol: int, zipped: bool) -> None:
    path = saved(tmp_path / "a.pth", {"state_dict": {"w": WEIGHT}, "best": beside}, zipped, protocol)
    assert torch.equal(torch_file.read(path)["state_dict"]["w"], WEIGHT)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"args": argparse.Namespace(lr=0.1)}, "args: argparse.Namespace"),
        ({"output": pathlib.PurePosixPath("a")}, "output: pathlib.PurePosixPath"),
        ({"a": {"b": [1, argparse.Namespace()]}}, "a.b.1: argparse.Namespace"),
        ({"best": RunsCode()}, f"best: {os.name}.system"),
        ({"class": argparse.Namespace}, "class: argparse.Namespace"),
        ({"f": {"in a set", argparse.FileType}}, "f"),
        ({"array": np.array([argparse.Namespace()], dtype=object)}, "array: argparse.Namespace"),
        ({"counts": collections.Counter({"a": argparse.Namespace()})}, "counts.a: argparse.Namespace"),
        ({"dtype": np.random.default_rng(0)}, "dtype: numpy.random"),
        ({"loads": torch.nn.ReLU()}, "loads: torch.nn.modules.activation.ReLU"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_objects_are_named_with_their_key(
    tmp_path: Path, content: Any, found: str, protocol: int, zipped: bool
) -> None:
    path = saved(tmp_path / "a.pth", {"model": {"w": WEIGHT}, **content}, zipped, protocol)
    error = error_of(path)
    assert str(error.found).startswith(found), error.found
    assert "weights_only=False" in str(error.hint) and "model" in str(error.hint)


def test_the_hint_saves_the_weights_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "timm's.pth.tar", {"model": {"w": WEIGHT}, "args": argparse.Namespace(lr=0.1)})
    monkeypatch.chdir(tmp_path)
    python, option, code = shlex.split(str(error_of(path).hint).split(": ", 1)[1])
    assert (python, option) == (sys.executable, "-c")
    exec(code)
    assert torch.equal(torch_file.read(tmp_path / "timm's.pth.model.pth")["w"], WEIGHT)


def test_a_pickled_network_is_rejected(tmp_path: Path) -> None:
    error = error_of(saved(tmp_path / "a.pth", torch.nn.Linear(2, 2)))
    assert error.found == "torch.nn.modules.linear.Linear" and "state_dict()" in str(error.hint)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (WEIGHT.to_sparse(), "sparse"),
        (WEIGHT.to_sparse_csr(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
        (torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8), "quantized"),
    ],
    ids=["coo", "csr", "meta", "quantized"],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_without_plain_values_are_marked_unusable(
    tmp_path: Path, value: torch.Tensor, name: str, zipped: bool
) -> None:
    found = torch_file.read(saved(tmp_path / "a.pth", {"w": value, "b": WEIGHT}, zipped))
    assert isinstance(found["w"], Unusable) and name in found["w"].name and torch.equal(found["b"], WEIGHT)


def test_any_flipped_byte_of_an_archive_is_found_or_harmless(tmp_path: Path) -> None:
    content = {"w": WEIGHT, "optimizer": {"state": {0: torch.ones(5)}}, "epoch": 3}
    path = saved(tmp_path / "a.pth", content)
    whole = path.read_bytes()
    rejected = 0
    data = whole.index(WEIGHT.numpy().tobytes())
    for place in sorted({*range(data, data + WEIGHT.nbytes), *range(0, len(whole), 3)}):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert equal(torch_file.read(path), content), place
        except UserError as error:
            rejected += 1
            assert error.where == path and error.hint, place
    assert rejected > WEIGHT.nbytes + 20


def test_a_flipped_byte_of_an_old_file_never_crashes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": WEIGHT, "epoch": 3}, zipped=False)
    whole = path.read_bytes()
    for place in range(len(whole) - WEIGHT.nbytes):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            torch_file.read(path)
        except UserError as error:
            assert error.where == path and "\n" not in str(error)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_a_truncated_file_is_rejected(tmp_path: Path, zipped: bool, kept: float) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(500)}, zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    error = error_of(path)
    assert f"{int(len(whole) * kept)} bytes" in str(error.found) and "download it again" in str(error.hint)


def test_a_packed_archive_is_read(tmp_path: Path) -> None:
    """A folder that was unpacked and zipped again."""
    path = saved(tmp_path / "a.pth", {"w": WEIGHT})
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/a/._data.pkl", b"x")
        for file in sorted((tmp_path / "folder").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "folder"))
    assert torch.equal(torch_file.read(path)["w"], WEIGHT)


def test_another_byte_order_is_rejected(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": WEIGHT})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert "byte order" in str(error_of(path).found)


def test_a_content_that_contains_itself_is_walked_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": WEIGHT}
    content["again"] = [content]
    assert [keys for keys, _ in torch_file.walk(content)] == [(), ("w",), ("again",)]


def test_huge_numbers_in_a_damaged_file_allocate_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, 2)
    for attack in (
        b"\x80\x02Nr\xff\xff\xff\x00.",  # index in the table of values; pickle in C would allocate 268 MB for it
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.",  # length of bytes
        b"\x80\x05\x96" + b"\xff" * 8,  # length of a bytearray
    ):
        path.write_bytes(stream.getvalue() + attack)
        tracemalloc.start()
        error_of(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10e6
