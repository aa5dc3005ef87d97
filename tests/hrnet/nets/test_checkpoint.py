"""hrnet/nets/checkpoint.py: which weights of a file are loaded, what is reported, and what is rejected."""

from __future__ import annotations

import copy
import gzip
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hrnet.cli import UserError
from hrnet.io.files import sha256_file
from hrnet.nets import checkpoint
from tests.support import tiny

State = dict[str, torch.Tensor]
# fmt: off
PREFIXES = (
    "module.", "_orig_mod.", "module.module.", "_orig_mod.module.", "module._orig_mod.", "backbone.", "net.", "model.",
    "1.", "module.1.", "teacher.backbone.", "encoder_q.", "x", "c", "conv1.", "layer1.0.",
)
# fmt: on
BIASES = [f"downsamp_modules.{i}.0.bias" for i in range(3)] + ["final_layer.0.bias"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return tiny.build(tmp_path_factory.mktemp("net"))


@pytest.fixture
def state(built: torch.nn.Module) -> State:
    return dict(built.state_dict())


@pytest.fixture(scope="module")
def other(built: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(built)


@pytest.fixture
def net(other: torch.nn.Module) -> torch.nn.Module:
    """The network with all weights 0."""
    net = other
    for value in net.state_dict().values():
        value.zero_()
    return net


def loaded(net: torch.nn.Module, path: Path, content: Any = None) -> list[str]:
    """Load `content`, or the existing file; returns the reported lines without the path."""
    if content is not None:
        torch.save(content, path)
    lines: list[str] = []
    assert checkpoint.load(net, path, lines.append) == sha256_file(path)
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in lines) and len(lines) <= 1
    return [line[len(f"{path}: ") :] for line in lines]


def equal(net: torch.nn.Module, state: State) -> bool:
    found = net.state_dict()
    return all(torch.equal(found[key], state[key]) for key in found if not key.endswith("num_batches_tracked"))


def error_of(net: torch.nn.Module, path: Path, content: Any = None) -> UserError:
    if content is not None:
        torch.save(content, path)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        checkpoint.load(net, path, lambda line: pytest.fail(line))
    assert caught.value.where == path and "\n" not in str(caught.value)
    assert equal(net, before), "the net is unchanged"
    return caught.value


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("wrap", "lines"),
    [
        (lambda state: state, []),
        (lambda state: {"epoch": 3, "model": "cls_hrnet", "state_dict": state, "optimizer": {}}, ["from state_dict"]),
        (lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, []),
        (lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()}, ["float64"]),
    ],
    ids=["bare", "upstream", "before-0.4.1", "double"],
)
def test_all_forms_of_torch_files_are_loaded(
    tmp_path: Path, state: State, net: Any, wrap: Any, lines: list[str], zipped: bool
) -> None:
    torch.save(wrap(state), tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    found = loaded(net, tmp_path / "a.pth.tar")
    assert equal(net, state) and len(found) == len(lines) and all(a in b for a, b in zip(lines, found))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a"])
def test_safetensors_are_loaded_under_any_name(tmp_path: Path, state: State, net: Any, name: str) -> None:
    save_file(prefixed(state, "model."), tmp_path / name)
    assert loaded(net, tmp_path / name) == ["prefix model. removed from all names"] and equal(net, state)
    torch.save(state, tmp_path / "b.safetensors")
    assert loaded(net, tmp_path / "b.safetensors") == [] and equal(net, state)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_removed(tmp_path: Path, state: State, net: Any, prefix: str) -> None:
    lines = loaded(net, tmp_path / "a.pth", {"state_dict": prefixed(state, prefix)})
    assert equal(net, state) and lines == [f"weights read from state_dict; prefix {prefix} removed from all names"]


def test_a_prefix_of_only_some_names_is_rejected(tmp_path: Path, state: State, net: Any) -> None:
    averaged = {"n_averaged": torch.tensor(3), **prefixed(state, "module.")}
    error = error_of(net, tmp_path / "a.pth", averaged)
    assert "prefix module., others have none: n_averaged" in str(error.hint)
    some = {key if i % 2 else f"module.{key}": value for i, (key, value) in enumerate(state.items())}
    assert "prefix module." in str(error_of(net, tmp_path / "a.pth", some).hint)
    both = {**prefixed(state, "student."), **prefixed(state, "teacher.")}
    hint = str(error_of(net, tmp_path / "a.pth", both).hint)
    assert f"{len(state)} names have the prefix student. and {len(state)} names have the prefix teacher." in hint
    inside = {**state, **prefixed(state, "ema.")}
    assert "prefix ema." in str(error_of(net, tmp_path / "a.pth", inside).hint)


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "epoch": 1}, "model"),
        (lambda state: {"net": state, "acc": 93.1}, "net"),
        (lambda state: {"best_state_dict": state}, "best_state_dict"),
        (lambda state: {"model": {"state_dict": state, "size": 3}}, "model.state_dict"),
        (lambda state: {"checkpoint": [1, {"weights": state}]}, "checkpoint.1.weights"),
        (lambda state: {"generator": {"a.weight": torch.ones(3)}, "classifier": state}, "classifier"),
        (lambda state: {"state_dict_ema": state}, "state_dict_ema"),
        (lambda state: [state, 3], "0"),
        (lambda state: {"state_dict": state, "best": np.float64(76.4), "log": np.ones(3)}, "state_dict"),
    ],
)
def test_the_only_dictionary_of_weights_is_loaded(
    tmp_path: Path, state: State, net: Any, wrap: Callable[[State], Any], name: str
) -> None:
    assert loaded(net, tmp_path / "a.pth", wrap(state)) == [f"weights read from {name}"] and equal(net, state)


@pytest.mark.parametrize(
    ("first", "second", "prefixes"),
    [
        ("model", "model_ema", ("", "")),
        ("model", "model_ema", ("module.", "")),
        ("state_dict_ema", "state_dict", ("module.", "")),
        ("student", "teacher", ("", "")),
        ("ema", "net", ("module.", "")),
        ("state_dict", "best_state_dict", ("", "")),
    ],
)
def test_two_different_dictionaries_of_weights_are_rejected(
    tmp_path: Path, state: State, net: Any, first: str, second: str, prefixes: tuple[str, str]
) -> None:
    average = {key: value.clone() for key, value in state.items()}
    average["conv1.weight"][0, 0, 0, 0] += 1e-3
    path = tmp_path / "a.pth"
    error = error_of(net, path, {first: prefixed(state, prefixes[0]), second: prefixed(average, prefixes[1])})
    assert f"{first} and {second}" in error.what and "weights_only=True" in str(error.hint)
    for name, expected in ((first, state), (second, average)):
        interpreter, _, code = shlex.split(str(error.hint).split(": ", 1)[1].split(" or ")[name == second])
        assert interpreter == sys.executable
        exec(code)
        loaded(net, tmp_path / f"a.{name}.pth")
        assert equal(net, expected)


def test_an_average_without_buffers_is_named(tmp_path: Path, state: State, net: Any, built: Any) -> None:
    shadow = {name: value.detach() * 0.9 for name, value in built.named_parameters()}
    error = error_of(net, tmp_path / "a.pth", {"model": state, "ema": {"shadow": shadow}})
    assert "model and ema.shadow" in error.what


def test_a_damaged_dictionary_beside_a_good_one_is_rejected(tmp_path: Path, state: State, net: Any) -> None:
    """One name in state_dict has no prefix. The weights in ema match the network, but are not loaded instead."""
    damaged = {key if key == "conv1.weight" else f"module.{key}": value for key, value in state.items()}
    content = {"state_dict": damaged, "ema": {key: value * 2 for key, value in state.items()}}
    assert "state_dict and ema" in error_of(net, tmp_path / "a.pth", content).what


def test_two_equal_dictionaries_of_weights_count_as_one(tmp_path: Path, state: State, net: Any) -> None:
    """Upstream's checkpoint.pth.tar has the same weights with `module.` and without."""
    content = {"state_dict": prefixed(state, "module."), "best_state_dict": copy.deepcopy(state), "perf": 0.7}
    (line,) = loaded(net, tmp_path / "a.pth.tar", content)
    assert equal(net, state)
    assert "weights read from state_dict; same weights in best_state_dict; prefix module. removed" in line


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_float16_weights_of_upstreams_training_are_loaded(tmp_path: Path, state: State, net: Any, kind: Any) -> None:
    """Upstream's network_to_half: convolutions in half, batch norms in float32, all in nn.Sequential."""
    norms = {key[: -len("running_mean")] for key in state if key.endswith("running_mean")}
    half = {key: value if key.rpartition(".")[0] + "." in norms else value.to(kind) for key, value in state.items()}
    (line,) = loaded(net, tmp_path / "a.pth.tar", {"state_dict": prefixed(half, "1.")})
    assert f"{str(kind)[6:]} converted to float32" in line and "prefix 1. removed" in line
    assert equal(net, {key: value.to(state[key].dtype) for key, value in half.items()})
    assert net.conv1.weight.dtype == torch.float32 and not torch.equal(net.conv1.weight, state["conv1.weight"])
    save_file(half, tmp_path / "a.safetensors")
    assert loaded(net, tmp_path / "a.safetensors") == [f"{str(kind)[6:]} converted to float32"]


def test_biases_that_paddles_head_lacks_are_zero(tmp_path: Path, state: State, net: Any) -> None:
    """timm's hrnet_w18_ssld and hrnet_w48_ssld were converted from a head without biases."""
    net.load_state_dict(state)
    assert "4 biases" in loaded(net, tmp_path / "a.pth", {k: v for k, v in state.items() if k not in BIASES})[0]
    assert equal(net, {**state, **{key: torch.zeros_like(state[key]) for key in BIASES}})
    one = {key: value for key, value in state.items() if key != BIASES[0]}
    assert f"1 missing: {BIASES[0]}" in error_of(net, tmp_path / "a.pth", one).what
    more = {key: value for key, value in state.items() if key not in (*BIASES, "bn1.bias")}
    assert "5 missing" in error_of(net, tmp_path / "a.pth", more).what


def test_names_and_shapes_that_do_not_fit_are_listed(tmp_path: Path, state: State, net: Any) -> None:
    broken = dict(state)
    for key in ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight"):
        del broken[key]
    broken["extra.weight"] = torch.zeros(1)
    broken["classifier.weight"] = torch.zeros(3, 24)
    error = error_of(net, tmp_path / "broken.pth", {"model": broken})
    for part in (
        "does not match the network (model)",
        "4 missing: conv1.weight and 3 more",
        "1 unexpected: extra.weight",
        "1 of another shape: classifier.weight [3, 24] for [7, 24]",
    ):
        assert part in error.what
    assert "--cfg" in str(error.hint)


def test_weights_of_another_net_are_rejected(tmp_path: Path, state: State, net: Any) -> None:
    error = error_of(net, tmp_path / "a.pth", {"model": {"fc.weight": torch.ones(3), "fc.bias": torch.ones(3)}})
    assert f"{len(state) - sum('batches' in key for key in state)} missing" in error.what
    assert error.what.startswith("weights of another model") and "2 unexpected: fc.weight and 1 more" in error.what


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38, -1e19])
@pytest.mark.parametrize("key", ["layer1.0.conv2.weight", "bn2.running_var"])
def test_nan_infinite_and_huge_values_are_rejected(
    tmp_path: Path, state: State, net: Any, key: str, value: float
) -> None:
    damaged = copy.deepcopy(state)
    damaged[key].view(-1)[-1] = value
    assert key in error_of(net, tmp_path / "a.pth", {"model": damaged}).what


def test_float64_beyond_float32_is_rejected(tmp_path: Path, state: State, net: Any) -> None:
    state["bn1.bias"] = torch.full_like(state["bn1.bias"], 1e300, dtype=torch.float64)
    assert "bn1.bias" in error_of(net, tmp_path / "a.pth", state).what


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.to(torch.int8), "int8"),
        (lambda x: x.to(torch.int64), "int64"),
        (lambda x: x > 0, "bool"),
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantized"),
        (lambda x: x.to(torch.float8_e4m3fn), "float8"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: x.tolist(), "list"),
        (lambda x: None, "NoneType"),
    ],
)
def test_weights_that_are_not_plain_floats_are_rejected(
    tmp_path: Path, state: State, net: Any, change: Any, name: str
) -> None:
    broken: dict[str, Any] = {**state, "conv1.weight": change(state["conv1.weight"])}
    error = error_of(net, tmp_path / "a.pth", broken)
    assert "conv1.weight" in error.what and name in error.what


@pytest.mark.parametrize(
    ("content", "found"),
    [([1, 2], "list"), ({}, "an empty dict"), ({"epoch": 3, "best": 1.0}, "epoch, best"), (torch.ones(3), "Tensor")],
)
def test_a_file_without_weights_is_rejected(tmp_path: Path, net: Any, content: Any, found: str) -> None:
    assert error_of(net, tmp_path / "odd.pth", content).found == found


def test_a_missing_file_a_broken_link_and_a_folder_are_rejected(tmp_path: Path, net: Any) -> None:
    assert error_of(net, tmp_path / "none.pth").what == "no such checkpoint"
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone")
    assert "gone" in str(error_of(net, tmp_path / "link.pth").found)
    (tmp_path / "folder").mkdir()
    assert error_of(net, tmp_path / "folder").found == "a directory"


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 0.3, 0.99])
def test_a_truncated_file_is_rejected(tmp_path: Path, state: State, net: Any, name: str, kept: float) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    error = error_of(net, path)
    assert "download it again" in str(error.hint)
    if kept and name == "net.safetensors" and kept > 7:
        assert error.expected == f"{len(whole)} bytes" and error.found == f"{path.stat().st_size} bytes"


def test_a_damaged_header_of_safetensors_is_rejected(tmp_path: Path, state: State, net: Any) -> None:
    save_file(state, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    for change in ((b"F32", b"F33"), (b'"shape"', b'"shbpe"'), (b"{", b"["), (b'":{', b'":"')):
        (tmp_path / "a.safetensors").write_bytes(whole.replace(*change, 1))
        error_of(net, tmp_path / "a.safetensors")


def test_other_files_are_named(tmp_path: Path, net: Any) -> None:
    path = tmp_path / "a.pth"
    for content, found, hint in (
        (b"<!DOCTYPE html>\n", "an HTML page", "browser"),
        (gzip.compress(b"x"), "a file compressed with gzip", "gzip -dc"),
        (b"\x01\x02\x03\x04", "4 bytes that begin with 01 02 03 04", "download it again"),
    ):
        path.write_bytes(content)
        error = error_of(net, path)
        assert error.found == found and hint in str(error.hint)


class TestMatching:
    """load_matching: MODEL.PRETRAINED."""

    def test_weights_of_a_classifier_are_loaded_into_a_pose_net(self, tmp_path: Path, state: State) -> None:
        net = tiny.build_pose(tmp_path)
        before = copy.deepcopy(net.state_dict())
        torch.save({"state_dict": prefixed(state, "module.")}, tmp_path / "a.pth")
        lines: list[str] = []
        checkpoint.load_matching(net, tmp_path / "a.pth", ["*"], lines.append)
        after = net.state_dict()
        shared = [key for key in after if key in state]
        assert all(torch.equal(after[key], state[key]) for key in shared)
        assert all(torch.equal(after[key], before[key]) for key in after if key not in state)
        assert f"{len(shared)} of {len(after)} weights" in lines[0]
        assert "not loaded: final_layers, deconv_layers" in lines[0]

    def test_only_the_given_layers_are_loaded(self, tmp_path: Path, state: State) -> None:
        net = tiny.build_pose(tmp_path)
        before = copy.deepcopy(net.state_dict())
        torch.save(state, tmp_path / "a.pth")
        lines: list[str] = []
        checkpoint.load_matching(net, tmp_path / "a.pth", ["conv1", "bn1"], lines.append)
        changed = {key.split(".")[0] for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
        assert changed <= {"conv1", "bn1"} and torch.equal(net.conv1.weight, state["conv1.weight"])
        assert "not loaded: conv2" in lines[0]

    def test_weights_that_do_not_match_are_rejected(self, tmp_path: Path, state: State) -> None:
        net = tiny.build_pose(tmp_path)
        for content, part in (
            ({"fc.weight": torch.ones(3)}, "contains only 0 of "),
            ({**state, "conv1.weight": torch.ones(1)}, "conv1.weight [1] for"),
            ({**state, "bn1.bias": state["bn1.bias"] * float("nan")}, "bn1.bias"),
        ):
            torch.save(content, tmp_path / "a.pth")
            with pytest.raises(UserError) as caught:
                checkpoint.load_matching(net, tmp_path / "a.pth", ["*"], print)
            assert part in caught.value.what and caught.value.where == tmp_path / "a.pth"
