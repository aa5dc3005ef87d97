"""hrnet/nets/pose.py: effects of the config, and upstream's values."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from hrnet.config import CONFIGS, load_config
from hrnet.nets import pose
from tests.support import coco_sets, tiny

CHECKOUT = os.environ.get("HIGHERHRNET", "")  # a checkout of upstream's commit aa23881


@pytest.fixture
def build(tmp_path):
    def built(more: str) -> pose.PoseNet:
        path = tmp_path / "model.yaml"
        path.write_text(
            tiny.POSE_CONFIG.replace("DECONV: {NUM_CHANNELS: [6], NUM_BASIC_BLOCKS: 1}", more) + coco_sets.DECODING
        )
        return pose.build(load_config(path)).eval()

    return built


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_the_deconvolution_doubles_the_resolution_with_every_kernel_size(build, kernel):
    net = build(f"DECONV: {{NUM_CHANNELS: [6], KERNEL_SIZE: [{kernel}]}}")
    with torch.inference_mode():
        assert [list(output.shape) for output in net(torch.zeros(1, 3, 64, 96))] == [[1, 34, 16, 24], [1, 17, 32, 48]]


def test_deconvolutions_and_tag_maps_follow_the_config(build):
    deconv = "{NUM_DECONVS: 2, NUM_CHANNELS: [6, 3], KERNEL_SIZE: [4, 2], CAT_OUTPUT: [false, true]}"
    rest = "TAG_PER_JOINT: false\nLOSS: {WITH_AE_LOSS: [true, true, false]}"
    net = build(f"FINAL_CONV_KERNEL: 3\n    DECONV: {deconv}\n  {rest}")
    with torch.inference_mode():
        shapes = [list(output.shape) for output in net(torch.zeros(1, 3, 64, 64))]
    assert shapes == [[1, 18, 16, 16], [1, 18, 32, 32], [1, 17, 64, 64]]
    assert list(net.deconv_layers[0][0][0].weight.shape) == [4, 6, 4, 4], "the first has only the trunk as input"
    # The second has the output of the first (6 channels) and the 18 maps that are computed from this output.
    assert list(net.deconv_layers[1][0][0].weight.shape) == [6 + 18, 3, 2, 2]
    assert net.final_layers[0].weight.shape[-1] == 3


def test_initial_weights_equal_those_of_upstream(tmp_path):
    torch.manual_seed(0)
    net = pose.build(load_config(tiny.write_pose_config(tmp_path)))
    assert net.deconv_layers[0][0][0].weight.std().item() == pytest.approx(pose.START_STD, rel=0.1)
    assert net.conv2.weight.std().item() == pytest.approx(pose.START_STD, rel=0.1)
    assert not net.final_layers[0].bias.any() and net.training


@pytest.mark.slow
@pytest.mark.parametrize("size", ["w32_512", "w48_640"])
def test_values_equal_those_of_upstream(size, monkeypatch):
    if not CHECKOUT:
        pytest.skip("HIGHERHRNET is not a checkout of upstream's commit aa23881")
    monkeypatch.setattr(sys, "path", [str(Path(CHECKOUT, "lib")), *sys.path])
    from config import cfg  # type: ignore[import-not-found]
    from models.pose_higher_hrnet import get_pose_net  # type: ignore[import-not-found]

    upstream_config, config = cfg.clone(), load_config(CONFIGS / f"higher_hrnet_{size}.yaml")
    upstream_config.merge_from_file(f"{CHECKOUT}/experiments/coco/higher_hrnet/{size}_adam_lr1e-3.yaml")
    torch.manual_seed(0)
    theirs, ours = get_pose_net(upstream_config, is_train=False), pose.build(config)
    image = torch.randn(1, 3, 128, 192)
    theirs.train()
    with torch.no_grad():
        theirs(torch.randn(4, 3, 128, 128))  # to fill batch norm's running mean and variance
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        for expected, found in zip(theirs.eval()(image), ours.eval()(image)):
            assert expected.shape == found.shape
            assert (expected - found).abs().max() <= 1e-4 * expected.abs().max()
