"""Any edited checkpoint gives the original weights, or is rejected with one line; never other weights."""

from __future__ import annotations

import copy
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from hrnet.cli import UserError
from hrnet.nets import checkpoint
from hrnet.nets.trunk import conv_norm
from tests.support.examples import examples

State = dict[str, Any]
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64, torch.bool, torch.complex64)


class Small(torch.nn.Module):
    """A small net; its layers have the names of some layers of a classification net."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.layer1 = torch.nn.Sequential(conv_norm(8, 8, 3), conv_norm(8, 8, 1))
        self.downsamp_modules = torch.nn.ModuleList(conv_norm(8, 8, 3, bias=True) for _ in range(3))
        self.final_layer = conv_norm(8, 4, 1, bias=True)
        self.classifier = torch.nn.Linear(4, 2)


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    net = Small().eval()
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) / 8 + 0.1)  # no value is zero
    return net


def rename(draw: Callable[..., Any], state: State) -> State:
    prefix = draw(st.sampled_from(["module.", "_orig_mod.", "1.", "net.", "a.b.", "x", "layer1.0.", "conv"]))
    if draw(st.booleans()):
        return {prefix + key: value for key, value in state.items()}
    chosen = draw(st.sampled_from(list(state)))
    return {prefix + key if key == chosen else key: value for key, value in state.items()}


def drop(draw: Callable[..., Any], state: State) -> State:
    gone = draw(st.sets(st.sampled_from(list(state)), min_size=1, max_size=4))
    return {key: value for key, value in state.items() if key not in gone}


def swap(draw: Callable[..., Any], state: State) -> State:
    """The order of names does not matter."""
    return dict(sorted(state.items(), reverse=True))


def cast(draw: Callable[..., Any], state: State) -> State:
    """Casts only float tensors. Otherwise, after a cast of floats to integers, a second cast could turn them into
    floats again, and the rounded values would be loaded as weights."""
    dtype = draw(st.sampled_from(DTYPES))
    floats = [key for key, value in state.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    chosen = floats if draw(st.booleans()) else floats[:1]
    return {**state, **{key: state[key].to(dtype) for key in chosen}}


def reshape(draw: Callable[..., Any], state: State) -> State:
    key = draw(st.sampled_from(list(state)))
    value = state[key]
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return state
    shapes: list[Callable[[Any], Any]] = [lambda x: x[None], lambda x: x.flatten(), lambda x: torch.cat((x, x))]
    return {**state, key: draw(st.sampled_from(shapes[: 3 if value.dim() else 1]))(value)}


def spoil(draw: Callable[..., Any], state: State) -> State:
    key = draw(st.sampled_from([key for key, value in state.items() if isinstance(value, torch.Tensor)]))
    value = state[key].clone()
    if not value.is_floating_point() or not value.numel() or value.layout != torch.strided:
        return state
    value.view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(st.sampled_from([float("nan"), float("inf"), 1e30]))
    return {**state, key: value}


def replace(draw: Callable[..., Any], state: State) -> State:
    key = draw(st.sampled_from(list(state)))
    values: list[Any] = [
        None,
        3,
        "text",
        [1.0],
        np.ones(3),
        np.float64(1),
        {"a": torch.ones(2)},
        torch.ones(2, 2).to_sparse(),
    ]
    return {**state, key: draw(st.sampled_from(values))}


def add(draw: Callable[..., Any], state: State) -> State:
    name = draw(st.sampled_from(["epoch", "n_averaged", "module.conv1.weight", "extra.weight", "conv1.bias", "ema"]))
    values: list[Any] = [torch.ones(8, 3, 3, 3), torch.tensor(3), 7, "text", np.float64(1), copy.copy(state)]
    return {**state, name: draw(st.sampled_from(values))}


MUTATIONS = (rename, drop, swap, cast, reshape, spoil, replace, add)
NAMES = ("state_dict", "model", "net", "ema", "model_ema", "best_state_dict", "weights", "optimizer")


@st.composite
def checkpoints(draw: Callable[..., Any], original: State) -> Any:
    """The content of an edited checkpoint; it may also contain another dictionary of weights."""
    state: State = dict(original)
    for mutation in draw(st.lists(st.sampled_from(MUTATIONS), max_size=3)):
        state = mutation(draw, state) or dict(original)
    content: Any = state
    for _ in range(draw(st.integers(0, 2))):
        name, beside = draw(st.permutations(NAMES))[:2]
        other = {key: value * 2 if value.is_floating_point() else value for key, value in original.items()}
        values: list[Any] = [3, np.float64(0.7), np.ones(2), {"lr": 0.1}, {0: {"exp_avg": torch.ones(2)}}, other]
        if isinstance(content, dict):
            values.append(copy.copy(content))
        content = {name: content, beside: draw(st.sampled_from(values))}
        content = dict(reversed(content.items())) if draw(st.booleans()) else content
    return content


def check(net: torch.nn.Module, original: State, content: Any, data: bytes) -> None:
    """Load `data` into a net whose weights are zero: afterwards they are the original weights, or still zero."""
    target = copy.deepcopy(net)
    for value in target.state_dict().values():
        value.zero_()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pth")
        path.write_bytes(data)
        try:
            checkpoint.load(target, path, lines.append)
        except UserError as error:
            assert error.where == path and "\n" not in str(error)
            expected = {key: torch.zeros_like(value) for key, value in original.items()}
            lines = ["nothing"]
        else:
            expected = original
    biases = {f"downsamp_modules.{i}.0.bias" for i in range(3)} | {"final_layer.0.bias"}
    for key, found in target.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        same = torch.equal(found, expected[key])
        if not same and any("converted to float32" in line for line in lines):
            same = torch.allclose(found, expected[key], rtol=0.02)  # rounded to float16, bfloat16 or both
        if not same and any("4 biases" in line for line in lines):
            same = key in biases and not found.any()
        if not same:  # the only dictionary with the network's names is the other one, and a line names it
            same = torch.equal(found, 2 * original[key]) and any("weights read from" in line for line in lines)
        assert same, (key, lines)


def run(net: torch.nn.Module, data: st.DataObject) -> None:
    original = net.state_dict()
    content = data.draw(checkpoints(original))
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=data.draw(st.booleans()))
    check(net, original, content, stream.getvalue())


QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_edit_gives_the_same_weights_or_is_rejected(net: torch.nn.Module, data: st.DataObject) -> None:
    run(net, data)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_thousands_of_edits_give_the_same_weights_or_are_rejected(net: torch.nn.Module, data: st.DataObject) -> None:
    run(net, data)


def flip(net: torch.nn.Module, form: str, places: list[tuple[float, int]]) -> None:
    """Flip bits anywhere in a zip archive, and check that loading gives the original weights or a UserError. The two
    other forms have no checksum: flip bits only in front of the weights, and only check that no other error occurs."""
    original = net.state_dict()
    stream = io.BytesIO()
    if form == "safetensors":
        stream.write(save(original))
    else:
        torch.save(original, stream, _use_new_zipfile_serialization=form == "zip")
    content = bytearray(stream.getvalue())
    end = len(content) if form == "zip" else 2000  # bytes; in the other forms the weights begin later
    for place, bit in places:
        content[int(place * (end - 1))] ^= 1 << bit
    if form == "zip":
        return check(net, original, None, bytes(content))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pth")
        path.write_bytes(content)
        try:
            checkpoint.load(copy.deepcopy(net), path, lambda line: None)
        except UserError as error:
            assert error.where == path and "\n" not in str(error)
    return None


PLACES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=3)
FORMS = st.sampled_from(["zip", "old", "safetensors"])


@settings(max_examples=examples(40), deadline=None, suppress_health_check=QUIET)
@given(form=FORMS, places=PLACES)
def test_flipped_bits_never_crash_and_never_change_the_weights_of_a_zip_archive(
    net: torch.nn.Module, form: str, places: list[tuple[float, int]]
) -> None:
    flip(net, form, places)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=QUIET)
@given(form=FORMS, places=PLACES)
def test_thousands_of_flipped_bits_never_crash_and_never_change_the_weights_of_a_zip_archive(
    net: torch.nn.Module, form: str, places: list[tuple[float, int]]
) -> None:
    flip(net, form, places)


def test_a_flipped_bit_of_the_weights_in_an_archive_is_rejected(net: torch.nn.Module) -> None:
    """torch.load reads this file without an error."""
    stream = io.BytesIO()
    torch.save(net.state_dict(), stream)
    with zipfile.ZipFile(stream) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(stream.getvalue())
    content[member.header_offset + 512] ^= 0x40
    torch.load(io.BytesIO(content), weights_only=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pth")
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            checkpoint.load(copy.deepcopy(net), path)
    assert "CRC" in str(caught.value.found) and member.filename in str(caught.value.found)
