"""hrnet/nets: upstream's and PaddleClas' keys and shapes, and the published numbers of parameters, for every config."""

from __future__ import annotations

import functools
import hashlib

import pytest
import torch

from hrnet.config import CONFIGS, load_config
from hrnet.nets import classification, pose
from hrnet.nets.paddle_names import to_upstream_names
from hrnet.nets.trunk import count_parameters
from hrnet.schemas import CLASSIFICATION, POSE
from tests.support import paddleclas

# Number of keys and SHA-256 of the sorted lines `key [shape]` of upstream's state dicts, built from
# lib/models/cls_hrnet.py and experiments/cls_hrnet_<model>_sgd_lr5e-2_wd1e-4_bs32_x100.yaml of
# https://github.com/HRNet/HRNet-Image-Classification commit f130a24bf09b7f23ebd0075271f76c4a188093b2, and from
# lib/models/pose_higher_hrnet.py and experiments/coco/higher_hrnet/<w32_512>_adam_lr1e-3.yaml of
# https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation commit aa23881492ff511185acf756a2e14725cc4ab4d7.
UPSTREAM = {
    "hrnet_w18_small_v1": (552, "69d5add7fbb8511fa047d442332fb505b4e5aad273c4f2d0e99ba165518011b9"),
    "hrnet_w18_small_v2": (990, "6b3c08c4fb20b381236cd0bb26fa03e4d4279d30e8604e4cfebfb978e095c9a4"),
    "hrnet_w18": (1956, "7a66bb76960acdef6209fd36ca1667b2a2feafc2f7fd3f17c79a062f38226751"),
    "hrnet_w30": (1956, "672deea9604af8056160644474304fa1cb4726a9041e692fa1b99ef0ed11b66c"),
    "hrnet_w32": (1956, "99ba88442e0ec8aeb0c821a7b806de8315fa6ab4669c63f5270f0596d34293da"),
    "hrnet_w40": (1956, "9d7c6d22b93c510f083ca1e4d1bbe6387759dff5e75c9f8fa5751231307672e8"),
    "hrnet_w44": (1956, "68cd6065957e9e5375b6f6ed47ed376d6bac6c5f8380a719500e8083cce64a28"),
    "hrnet_w48": (1956, "4945e8a762516ebb9251a0f5d6f025f65f2de17827aa64b473b43b41224d69ae"),
    "hrnet_w64": (1956, "3ea0018305e980eb06677a6973ddc57d021436add979a27a0a9fe050dc91f3e4"),
    "higher_hrnet_w32_512": (1810, "0d9b1d50e5ed0f8f44b5d0fc18ca78d254efc431bafceae5f8a60f698c09a8ef"),
    "higher_hrnet_w48_640": (1810, "2f7bb23875bddb4801346ef8dae3a252bb7d906a140fd53923d1b3dc6a3d902f"),
}
UPSTREAM |= {f"{model}_ssld": UPSTREAM[model] for model in ("hrnet_w18", "hrnet_w48")}
UPSTREAM["higher_hrnet_w32_640"] = UPSTREAM["higher_hrnet_w32_512"]
MODELS = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
BIASES = {f"downsamp_modules.{i}.0.bias" for i in range(3)} | {"final_layer.0.bias"}  # missing in PaddleClas' head
BUILD = {CLASSIFICATION: classification.build, POSE: pose.build}


# Built only by the slow tests: for each of these models, the other tests build one with the same keys.
SLOW = {"hrnet_w30", "hrnet_w40", "hrnet_w44", "hrnet_w18_ssld", "hrnet_w48_ssld"}
SLOW |= {"higher_hrnet_w32_640", "higher_hrnet_w48_640"}


def marked(models):
    return [pytest.param(model, marks=pytest.mark.slow) if model in SLOW else model for model in models]


@functools.cache
def built(model):
    """A model without memory for its weights."""
    config = load_config(CONFIGS / f"{model}.yaml")
    with torch.device("meta"):
        return BUILD[config.MODEL.NAME](config)


def test_every_config_is_compared_with_upstream():
    assert set(MODELS) - set(UPSTREAM) == {"se_hrnet_w64_ssld", "demo_digits", "demo_pose"}


@pytest.mark.parametrize("model", marked(UPSTREAM))
def test_keys_and_shapes_equal_those_of_upstream(model):
    state = built(model).state_dict()
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(state.items()))
    assert (len(state), hashlib.sha256(lines.encode()).hexdigest()) == UPSTREAM[model]


@pytest.mark.parametrize("model", marked(paddleclas.NETS))
def test_keys_and_shapes_equal_those_of_paddleclas(model):
    width, gated, digest = paddleclas.NETS[model]
    theirs = paddleclas.weights(width, gated)
    lines = sorted(f"{name} {shape}" for name, shape in theirs.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
    state = to_upstream_names({name: torch.empty(shape, device="meta") for name, shape in theirs.items()})
    wanted = {key: value.shape for key, value in built(model).state_dict().items() if "num_batches" not in key}
    assert {key: value.shape for key, value in state.items()} == {
        key: shape for key, shape in wanted.items() if gated or key not in BIASES
    }


@pytest.mark.parametrize("model", marked(MODELS))
def test_parameters_are_the_published_number(model):
    published = load_config(CONFIGS / f"{model}.yaml").REFERENCE.PARAMS_M
    digits = 2 if model.startswith("se_") else 1
    assert round(count_parameters(built(model)) / 1e6, digits) == published


def test_every_residual_block_has_a_gate():
    net = built("se_hrnet_w64_ssld")
    blocks = [name for name, module in net.named_modules() if hasattr(module, "expansion")]
    gates = [name for name, module in net.named_modules() if type(module).__name__ == "Gate"]
    assert gates == [f"{name}.se" for name in blocks]
    assert len(gates) == 4 + 8 + 48 + 48 + 4
    assert net.downsamp_modules[0][0].bias is None


def test_maps_are_a_quarter_and_a_half_of_the_image():
    image = torch.zeros(2, 3, 96, 64, device="meta")
    shapes = [list(output.shape) for output in built("higher_hrnet_w32_512").eval()(image)]
    assert shapes == [[2, 34, 24, 16], [2, 17, 48, 32]]
