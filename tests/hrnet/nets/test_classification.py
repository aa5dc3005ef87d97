"""hrnet/nets/classification.py: upstream's keys and shapes, numbers of parameters, and the head."""

from __future__ import annotations

import hashlib

import pytest
import torch

from hrnet.config import CONFIGS, load_config
from hrnet.nets import classification
from hrnet.nets.trunk import count_parameters
from tests import tiny

# Number of keys and SHA-256 of the sorted lines `key [shape]` of upstream's state dicts: its lib/models/cls_hrnet.py
# built from its experiments/cls_hrnet_<model>_sgd_lr5e-2_wd1e-4_bs32_x100.yaml, both at
# https://github.com/HRNet/HRNet-Image-Classification commit f130a24bf09b7f23ebd0075271f76c4a188093b2.
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
}
UPSTREAM["hrnet_w18_ssld"] = UPSTREAM["hrnet_w18"]
UPSTREAM["hrnet_w48_ssld"] = UPSTREAM["hrnet_w48"]
MODELS = [*UPSTREAM, "se_hrnet_w64_ssld", "demo_digits"]


@pytest.fixture(scope="module")
def nets():
    """All models, without memory for their weights."""
    with torch.device("meta"):
        return {model: classification.build(load_config(CONFIGS / f"{model}.yaml")) for model in MODELS}


def test_every_config_is_checked():
    assert {path.stem for path in CONFIGS.glob("*.yaml") if load_config(path).MODEL.NAME == "cls_hrnet"} == set(MODELS)


@pytest.mark.parametrize("model", UPSTREAM)
def test_keys_and_shapes_are_upstreams(nets, model):
    state = nets[model].state_dict()
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(state.items()))
    assert (len(state), hashlib.sha256(lines.encode()).hexdigest()) == UPSTREAM[model]


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_the_published_number(nets, model):
    published = load_config(CONFIGS / f"{model}.yaml").REFERENCE.PARAMS_M
    digits = 2 if model.startswith("se_") else 1
    assert round(count_parameters(nets[model]) / 1e6, digits) == published


def test_every_residual_block_has_a_gate(nets):
    net = nets["se_hrnet_w64_ssld"]
    blocks = [name for name, module in net.named_modules() if hasattr(module, "expansion")]
    gates = [name for name, module in net.named_modules() if type(module).__name__ == "Gate"]
    assert gates == [f"{name}.se" for name in blocks]
    assert len(gates) == 4 + 8 + 48 + 48 + 4
    assert net.downsamp_modules[0][0].bias is None


def test_the_head_has_the_configs_sizes(tmp_path):
    net = tiny.build(tmp_path)
    assert net.classifier.weight.shape == (7, 24)
    assert [modules[0].conv3.weight.shape[0] for modules in net.incre_modules] == [8, 16, 24, 32]
    with torch.inference_mode():
        assert net(torch.zeros(3, 3, 64, 64)).shape == (3, 7)


def test_images_of_a_batch_do_not_mix(tmp_path):
    net = tiny.build(tmp_path)
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        together = net(images)
        alone = torch.cat([net(images[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.std(dim=0).min() > 0  # the images differ


def test_one_seed_gives_one_net(tmp_path):
    first, second = tiny.build(tmp_path).state_dict(), tiny.build(tmp_path).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
