"""hrnet/nets/trunk.py: shapes, sums and the gate, on values that can be calculated by hand."""

from __future__ import annotations

import pytest
import torch

from hrnet.config import load_config
from hrnet.nets.trunk import Exchange, Gate, Trunk, residual_blocks
from tests.support import tiny


@pytest.fixture
def extra(tmp_path):
    return load_config(tiny.write_config(tmp_path)).MODEL.EXTRA.clone()


def test_branches_halve_in_resolution(extra):
    trunk = Trunk(extra).eval()
    branches = trunk.features(torch.zeros(2, 3, 64, 96))
    assert trunk.widths == [4, 8, 16, 32]
    assert [list(x.shape) for x in branches] == [[2, 4, 16, 24], [2, 8, 8, 12], [2, 16, 4, 6], [2, 32, 2, 3]]


def test_a_trunk_with_one_output_returns_only_the_first_branch_and_has_no_weights_for_the_others(extra):
    torch.manual_seed(0)
    whole = Trunk(extra).eval()
    first = Trunk(extra, outputs=1).eval()
    lacking = set(whole.state_dict()) - set(first.state_dict())
    assert {key.split(".fuse_layers.")[0] for key in lacking} == {"stage4.0"}
    assert {key.split(".fuse_layers.")[1][0] for key in lacking} == {"1", "2", "3"}
    first.load_state_dict(whole.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 64)
    branches = first.features(image)
    assert len(branches) == 1
    assert torch.equal(branches[0], whole.features(image)[0])


def _pass_through(module: torch.nn.Module) -> None:
    """Set all convolutions to a centre tap of 1 from channel 0 to channel 0, and 0 elsewhere."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.zeros_(part.weight)
            with torch.no_grad():
                part.weight[0, 0, part.kernel_size[0] // 2, part.kernel_size[1] // 2] = 1


def test_exchange_sums_all_branches_at_each_resolution(extra):
    exchange = Exchange(extra.STAGE3, outputs=3, gated=False).eval()
    _pass_through(exchange)
    with torch.no_grad():
        for part in exchange.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eps = 0.0
    # Each residual block doubles channel 0: its body and its shortcut both pass it through.
    inputs = [torch.zeros(1, width, 8 >> i, 8 >> i) for i, width in enumerate((4, 8, 16))]
    inputs[0][0, 0] = torch.arange(64.0).reshape(8, 8)
    inputs[1][0, 0] = 100.0
    inputs[2][0, 0] = torch.tensor([[1000.0, 2000.0], [3000.0, 4000.0]])
    outputs = exchange([x.clone() for x in inputs])
    coarse = inputs[2][0, 0]
    upsampled = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)  # nearest, whole factor
    assert torch.equal(outputs[0][0, 0], 2 * (inputs[0][0, 0] + 100 + upsampled))
    assert torch.equal(outputs[2][0, 0], 2 * (inputs[0][0, 0, ::4, ::4] + 100 + coarse))


def test_gate_scales_each_channel_by_one_number():
    gate = Gate(32)
    assert gate.squeeze.weight.shape == (2, 32, 1, 1)
    x = torch.rand(2, 32, 5, 6) + 0.5
    ratio = gate(x) / x
    mean = x.mean(dim=(2, 3))
    inside = torch.relu(mean @ gate.squeeze.weight[:, :, 0, 0].T + gate.squeeze.bias)
    expected = torch.sigmoid(inside @ gate.excite.weight[:, :, 0, 0].T + gate.excite.bias)
    assert torch.allclose(ratio, expected[:, :, None, None].expand_as(ratio), atol=1e-6)


@pytest.mark.parametrize(("kind", "outputs"), [("BASIC", 4), ("BOTTLENECK", 16)])
def test_the_shortcut_is_projected_only_where_widths_differ(kind, outputs):
    blocks = residual_blocks(kind, 6, 4, 2)
    assert "0.downsample.0.weight" in blocks.state_dict()
    assert "1.downsample.0.weight" not in blocks.state_dict()
    assert blocks(torch.zeros(1, 6, 3, 3)).shape == (1, outputs, 3, 3)
