"""hrnet/nets/pose.py: upstream's keys, shapes, numbers of parameters and values; effects of the config."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
import torch

from hrnet.config import CONFIGS, load_config
from hrnet.nets import pose
from hrnet.nets.trunk import count_parameters
from tests import tiny

# Number of keys and SHA-256 of the sorted lines `key [shape]` of upstream's state dicts: its
# lib/models/pose_higher_hrnet.py built from its experiments/coco/higher_hrnet/<w32_512>_adam_lr1e-3.yaml, both at
# https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation commit aa23881492ff511185acf756a2e14725cc4ab4d7.
W32 = (1810, "0d9b1d50e5ed0f8f44b5d0fc18ca78d254efc431bafceae5f8a60f698c09a8ef")
UPSTREAM = {
    "higher_hrnet_w32_512": W32,
    "higher_hrnet_w32_640": W32,
    "higher_hrnet_w48_640": (1810, "2f7bb23875bddb4801346ef8dae3a252bb7d906a140fd53923d1b3dc6a3d902f"),
}
MODELS = [*UPSTREAM, "demo_pose"]
CHECKOUT = os.environ.get("HIGHERHRNET", "")  # a folder with upstream's files at that commit


@pytest.fixture(scope="module")
def nets():
    """All models, without memory for their weights."""
    with torch.device("meta"):
        return {model: pose.build(load_config(CONFIGS / f"{model}.yaml")) for model in MODELS}


def test_every_config_is_checked():
    names = {path.stem for path in CONFIGS.glob("*.yaml") if load_config(path).MODEL.NAME == "pose_higher_hrnet"}
    assert names == set(MODELS)


@pytest.mark.parametrize("model", UPSTREAM)
def test_keys_and_shapes_are_upstreams(nets, model):
    state = nets[model].state_dict()
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(state.items()))
    assert (len(state), hashlib.sha256(lines.encode()).hexdigest()) == UPSTREAM[model]


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_the_published_number(nets, model):
    published = load_config(CONFIGS / f"{model}.yaml").REFERENCE.PARAMS_M
    assert round(count_parameters(nets[model]) / 1e6, 1) == published


def test_outputs_are_a_quarter_and_a_half_of_the_image(nets):
    image = torch.zeros(2, 3, 96, 64, device="meta")
    shapes = [list(output.shape) for output in nets["higher_hrnet_w48_640"].eval()(image)]
    assert shapes == [[2, 34, 24, 16], [2, 17, 48, 32]]


@pytest.fixture
def build(tmp_path):
    def built(more: str) -> pose.PoseNet:
        path = tmp_path / "model.yaml"
        path.write_text(tiny.POSE_CONFIG.replace("DECONV: {NUM_CHANNELS: [6], NUM_BASIC_BLOCKS: 1}", more))
        return pose.build(load_config(path)).eval()

    return built


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_every_kernel_of_the_deconvolution_doubles(build, kernel):
    net = build(f"DECONV: {{NUM_CHANNELS: [6], KERNEL_SIZE: [{kernel}]}}")
    with torch.inference_mode():
        assert [list(output.shape) for output in net(torch.zeros(1, 3, 64, 96))] == [[1, 10, 16, 24], [1, 5, 32, 48]]


def test_a_second_deconvolution_and_one_tag_map_for_all_joints(build):
    deconv = "{NUM_DECONVS: 2, NUM_CHANNELS: [6, 3], KERNEL_SIZE: [4, 2], CAT_OUTPUT: [false, true]}"
    rest = "TAG_PER_JOINT: false\nLOSS: {WITH_AE_LOSS: [true, true, false]}"
    net = build(f"FINAL_CONV_KERNEL: 3\n    DECONV: {deconv}\n  {rest}")
    with torch.inference_mode():
        shapes = [list(output.shape) for output in net(torch.zeros(1, 3, 64, 64))]
    assert shapes == [[1, 6, 16, 16], [1, 6, 32, 32], [1, 5, 64, 64]]
    assert list(net.deconv_layers[0][0][0].weight.shape) == [4, 6, 4, 4], "the first has only the trunk as input"
    assert list(net.deconv_layers[1][0][0].weight.shape) == [6 + 6, 3, 2, 2], "the second also has the output before it"
    assert net.final_layers[0].weight.shape[-1] == 3


def test_initial_weights_are_upstreams(tmp_path):
    torch.manual_seed(0)
    net = pose.build(load_config(tiny.write_pose_config(tmp_path)))
    assert net.deconv_layers[0][0][0].weight.std().item() == pytest.approx(pose.START_STD, rel=0.1)
    assert net.conv2.weight.std().item() == pytest.approx(pose.START_STD, rel=0.1)
    assert not net.final_layers[0].bias.any() and net.training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "experiment"), [("higher_hrnet_w32_512", "w32_512"), ("higher_hrnet_w48_640", "w48_640")]
)
def test_values_are_upstreams(model, experiment, monkeypatch):
    if not CHECKOUT:
        pytest.skip("HIGHERHRNET is not a checkout of upstream's commit aa23881")
    monkeypatch.setattr(sys, "path", [str(Path(CHECKOUT, "lib")), *sys.path])
    from config import cfg  # type: ignore[import-not-found]
    from models.pose_higher_hrnet import get_pose_net  # type: ignore[import-not-found]

    experiment = f"{model[len('higher_hrnet_') :]}_adam_lr1e-3.yaml"
    upstream_config = cfg.clone()
    upstream_config.merge_from_file(str(Path(CHECKOUT, "experiments/coco/higher_hrnet", experiment)))
    torch.manual_seed(0)
    theirs, ours = get_pose_net(upstream_config, is_train=False), pose.build(load_config(CONFIGS / f"{model}.yaml"))
    image = torch.randn(1, 3, 128, 192)
    theirs.train()
    with torch.no_grad():
        theirs(torch.randn(4, 3, 128, 128))  # to fill batch norm's running mean and variance
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        for expected, found in zip(theirs.eval()(image), ours.eval()(image)):
            assert expected.shape == found.shape
            assert (expected - found).abs().max() <= 1e-4 * expected.abs().max()
