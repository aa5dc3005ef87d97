"""hrnet/nets/checkpoint.py: every kind of file that it takes, and the line for every kind that it refuses."""

from __future__ import annotations

import copy
import os
import re

import pytest
import torch
from safetensors.torch import save_file

from hrnet.cli import UserError
from hrnet.io.files import sha256_file
from hrnet.nets import checkpoint
from tests import tiny


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("net"))


@pytest.fixture
def state(built):
    return built.state_dict()


@pytest.fixture
def net(built):
    net = copy.deepcopy(built)
    for value in net.state_dict().values():
        value.zero_()
    return net


class RunsCode:
    def __reduce__(self):
        return os.system, ("false",)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("bare.pth", lambda state: state),
        ("wrapped.pth.tar", lambda state: {"epoch": 3, "model": "cls_hrnet", "state_dict": state, "optimizer": {}}),
        ("parallel.pth", lambda state: {f"module.{key}": value for key, value in state.items()}),
        ("both.pth.tar", lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}}),
        ("before-0.4.1.pth", lambda state: {k: v for k, v in state.items() if not k.endswith("batches_tracked")}),
        ("half.pth", lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()}),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_torch(tmp_path, state, net, name, wrap, zipped):
    path = tmp_path / name
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)
    assert checkpoint.load(net, path) == sha256_file(path)
    loaded = net.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.endswith("batches_tracked"))


def test_safetensors(tmp_path, state, net):
    save_file(state, tmp_path / "net.safetensors")
    checkpoint.load(net, tmp_path / "net.safetensors")
    assert torch.equal(net.state_dict()["classifier.weight"], state["classifier.weight"])


def refusal(call, *args) -> str:
    with pytest.raises(UserError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_names_the_command(tmp_path):
    line = refusal(checkpoint.read_state, tmp_path / "none.pth")
    assert line == f"{tmp_path / 'none.pth'}: no checkpoint; put the file there, or name another"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": RunsCode()}, path, _use_new_zipfile_serialization=zipped)
    assert f"would run code, refused: {os.name}.system; save it again" in refusal(checkpoint.read_state, path)


MEND_DAMAGED = ")); if it was downloaded, it may be cut short: compare its size, fetch it again"


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 0.3, 0.99])
def test_a_file_cut_short(tmp_path, state, name, kept):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    whole = path.read_bytes()
    cut = whole[: kept if isinstance(kept, int) else int(len(whole) * kept)]
    path.write_bytes(cut)
    line = refusal(checkpoint.read_state, path)
    told = f"{path}: is no checkpoint, or a damaged one (found {len(cut)} bytes that torch cannot read ("
    assert line.startswith(told)
    assert line.endswith(MEND_DAMAGED)
    reason = line[len(told) : -len(MEND_DAMAGED)]  # the name of torch's error, then its own text if it has one
    assert re.fullmatch(r"[A-Za-z]+Error(: \S.*)?", reason), reason


@pytest.mark.parametrize("data", [b"404 not found\n", b"<!DOCTYPE html>\n<title>Sign in</title>\n"])
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_page_saved_as_a_checkpoint(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    line = refusal(checkpoint.read_state, path)
    assert line.startswith(
        f"{path}: is no checkpoint, or a damaged one (found {len(data)} bytes that torch cannot read ("
    )
    assert line.endswith(MEND_DAMAGED)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EOFError(), "EOFError"),
        (RuntimeError("PytorchStreamReader failed. Then more."), "RuntimeError: PytorchStreamReader failed"),
        (ValueError("of two\n  lines"), "ValueError: of two lines"),
    ],
)
def test_the_reason_of_a_damaged_file_is_told_in_one_line(tmp_path, monkeypatch, error, reason):
    def fail(*args, **options):
        raise error

    path = tmp_path / "net.pth"
    path.write_bytes(b"x")
    monkeypatch.setattr(torch, "load", fail)
    told = f"{path}: is no checkpoint, or a damaged one (found 1 bytes that torch cannot read ({reason}"
    assert refusal(checkpoint.read_state, path) == f"{told}{MEND_DAMAGED}"


@pytest.mark.parametrize(
    ("content", "found"),
    [([1, 2], "found list"), ({}, "found an empty dict"), ({"epoch": 3, "best": 1.0}, "found epoch, best")],
)
def test_a_pickle_without_state_dict(tmp_path, content, found):
    torch.save(content, tmp_path / "odd.pth")
    line = refusal(checkpoint.read_state, tmp_path / "odd.pth")
    assert "holds no state dict" in line
    assert found in line


def test_keys_that_do_not_fit_are_listed(tmp_path, state, net):
    broken = dict(state)
    for key in ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight"):
        del broken[key]
    broken["extra.weight"] = torch.zeros(1)
    broken["classifier.weight"] = torch.zeros(3, 24)
    torch.save(broken, tmp_path / "broken.pth")
    line = refusal(checkpoint.load, net, tmp_path / "broken.pth")
    assert "4 missing: conv1.weight, bn1.weight, bn1.bias and 1 more" in line
    assert "1 unexpected: extra.weight" in line
    assert "1 of another shape: classifier.weight [3, 24] for [7, 24]" in line
    assert net.classifier.weight.abs().max() == 0, "a refused checkpoint must leave the net alone"
