"""hrnet/nets/checkpoint.py: all file formats that it reads, and its refusals."""

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


def refusal(path) -> UserError:
    with pytest.raises(UserError) as caught:
        checkpoint.read_state(path)
    assert caught.value.where == path and "\n" not in str(caught.value)
    return caught.value


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.pth").what == "no such checkpoint"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": RunsCode()}, path, _use_new_zipfile_serialization=zipped)
    assert refusal(path).found == f"{os.name}.system"


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
    error = refusal(path)
    assert "or damaged" in error.what and "download again" in error.hint
    # The name of torch's error, then its own text if it has one.
    assert re.fullmatch(rf"{len(cut)} bytes, [A-Za-z]+Error(: \S.*)?", error.found), error.found


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_page_saved_as_a_checkpoint(tmp_path, name):
    path = tmp_path / name
    for page in (b"<!DOCTYPE html>\n<title>Sign in</title>\n", b"\n<html>"):
        path.write_bytes(page)
        assert refusal(path).found == "an HTML page"
    path.write_bytes(b"404 not found\n")
    assert refusal(path).found.startswith("14 bytes, ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EOFError(), "EOFError"),
        (RuntimeError("PytorchStreamReader failed. Then more."), "RuntimeError: PytorchStreamReader failed"),
        (ValueError("of two\n  lines"), "ValueError: of two lines"),
    ],
)
def test_the_reason_is_the_first_sentence_of_torch(tmp_path, monkeypatch, error, reason):
    def fail(*args, **options):
        raise error

    path = tmp_path / "net.pth"
    path.write_bytes(b"x")
    monkeypatch.setattr(torch, "load", fail)
    assert refusal(path).found == f"1 bytes, {reason}"


@pytest.mark.parametrize(
    ("content", "found"), [([1, 2], "list"), ({}, "an empty dict"), ({"epoch": 3, "best": 1.0}, "epoch, best")]
)
def test_a_pickle_without_state_dict(tmp_path, content, found):
    torch.save(content, tmp_path / "odd.pth")
    assert refusal(tmp_path / "odd.pth").found == found


def test_keys_that_do_not_fit_are_listed(tmp_path, state, net):
    broken = dict(state)
    for key in ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight"):
        del broken[key]
    broken["extra.weight"] = torch.zeros(1)
    broken["classifier.weight"] = torch.zeros(3, 24)
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(UserError) as caught:
        checkpoint.load(net, tmp_path / "broken.pth")
    for part in (
        "4 missing: conv1.weight, bn1.weight, bn1.bias and 1 more",
        "1 unexpected: extra.weight",
        "1 of another shape: classifier.weight [3, 24] for [7, 24]",
    ):
        assert part in caught.value.what
    assert net.classifier.weight.abs().max() == 0, "the net is unchanged"
