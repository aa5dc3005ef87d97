"""train/pose/loss.py: values and gradients equal those of a loop over people, and those of upstream's code."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.config import load_config
from tests.support import tiny
from tests.train.upstream_training import upstream
from train.pose.loss import heatmap_loss, losses, tag_losses
from train.pose.targets import NONE, Targets

JOINTS, PEOPLE, SIDE = tiny.JOINTS, 6, 8
Pair = tuple[torch.Tensor, torch.Tensor]


def scene(seed: int, images: int = 3) -> Pair:
    """Tag maps [N, joints, SIDE, SIDE] and indices [N, PEOPLE, joints]; some people have no joint."""
    rng = np.random.default_rng(seed)
    tags = torch.from_numpy(rng.normal(0, rng.choice([0.3, 1, 4]), (images, JOINTS, SIDE, SIDE))).float()
    indices = rng.integers(0, SIDE**2, (images, PEOPLE, JOINTS)) + np.arange(JOINTS) * SIDE**2
    indices[rng.random(indices.shape) < 0.3] = NONE
    for image in indices:
        image[rng.permutation(PEOPLE)[: rng.integers(0, PEOPLE + 1)]] = NONE
    return tags, torch.from_numpy(indices)


def one_by_one(tags: torch.Tensor, indices: torch.Tensor, kind: str) -> Pair:
    """Push and pull, person by person as in the paper."""
    pushes, pulls = [], []
    for flat, image in zip(tags.flatten(1), indices):
        found = [flat[person[person >= 0]] for person in image if (person >= 0).any()]
        means = [person.mean() for person in found]
        pulls.append(sum(((person - mean) ** 2).mean() for person, mean in zip(found, means)) / max(len(found), 1))
        push = torch.zeros(())
        for i, one in enumerate(means):
            for other in means[i + 1 :]:
                far = (one - other).abs()
                push = push + (torch.exp(-(far**2)) if kind == "exp" else torch.relu(1 - far))
        pushes.append(push / max(len(found) * (len(found) - 1), 1))
    return torch.stack(pushes), torch.stack([torch.as_tensor(pull, dtype=torch.float32) for pull in pulls])


def with_gradients(function: Callable[[torch.Tensor], Pair], tags: torch.Tensor) -> list[torch.Tensor]:
    """Push, pull, and the gradient of a sum of both that weighs each image differently."""
    tags = tags.clone().requires_grad_()
    push, pull = function(tags)
    weights = torch.arange(1, len(tags) + 1)
    total = ((push + 2 * pull) * weights).sum()
    gradient = torch.autograd.grad(total, tags)[0] if total.requires_grad else torch.zeros_like(tags)
    return [push.detach(), pull.detach(), gradient]


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7 * max(1.0, float(other.abs().max())))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["exp", "max"]))
def test_tag_losses_equal_those_of_a_loop_over_people(seed: int, kind: str) -> None:
    tags, indices = scene(seed)
    found = with_gradients(lambda tags: tag_losses(tags, indices, kind), tags)
    assert_equal(found, with_gradients(lambda tags: one_by_one(tags, indices, kind), tags))


def test_tag_losses_equal_those_computed_by_hand() -> None:
    """Two people with tags (1, 3) and (2): means 2 and 2; three with means 0, 1 and 3."""
    tags = torch.tensor([1.0, 3.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0]).view(2, 1, 2, 2)
    indices = torch.tensor([[[0, 1], [2, NONE], [NONE, NONE]], [[0, NONE], [1, NONE], [2, NONE]]])
    push, pull = tag_losses(tags, indices, "max")
    assert push.tolist() == [0.5, 0.0]  # half of 1, for a pair of equal means; 0, as no two means are closer than 1
    assert pull.tolist() == [0.5, 0.0]
    push, _ = tag_losses(tags, indices, "exp")
    assert push.tolist() == pytest.approx([0.5, float(np.exp([-1, -4, -9]).sum() / 6)])


def test_fewer_than_two_people_have_no_push() -> None:
    indices = torch.full((2, 3, 2), NONE)
    indices[1, 1] = torch.tensor([0, 3])
    push, pull = tag_losses(torch.arange(8.0).view(2, 1, 2, 2), indices, "exp")
    assert (push.tolist(), pull.tolist()) == ([0, 0], [0, 2.25])


def test_masked_heatmaps_do_not_count() -> None:
    maps, targets = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    mask = torch.tensor([[[1.0, 0], [0, 0]], [[1, 1], [1, 1]]])
    assert heatmap_loss(maps, targets, mask).tolist() == [0.25, 1]


def outputs_and_targets(seed: int) -> tuple[list[torch.Tensor], list[Targets]]:
    torch.manual_seed(seed)
    outputs, targets = [], []
    for side, channels in ((SIDE, 2 * JOINTS), (2 * SIDE, JOINTS)):
        outputs.append(torch.randn(3, channels, side, side))
        mask = (torch.rand(3, side, side) < 0.8).float()
        targets.append(Targets(torch.rand(3, JOINTS, side, side), mask, scene(seed)[1]))
    return outputs, targets


def test_the_terms_are_those_of_the_config(tmp_path) -> None:
    config = load_config(tiny.write_pose_config(tmp_path)).clone()
    config.defrost()
    config.LOSS.HEATMAPS_LOSS_FACTOR, config.LOSS.PUSH_LOSS_FACTOR = (2.0, 3.0), (5.0, 0.0)
    outputs, targets = outputs_and_targets(0)
    terms = losses(outputs, targets, config)
    assert list(terms) == ["heatmap1", "push1", "pull1", "heatmap2"]
    push, pull = tag_losses(outputs[0][:, JOINTS:], targets[0].indices, "max")
    assert terms["push1"] == 5 * push.mean() and terms["pull1"] == 0.001 * pull.mean()
    errors = [heatmap_loss(outputs[i][:, :JOINTS], targets[i].heatmaps, targets[i].mask).mean() for i in (0, 1)]
    assert terms["heatmap1"] == 2 * errors[0] and terms["heatmap2"] == 3 * errors[1]
    config.LOSS.WITH_HEATMAPS_LOSS, config.LOSS.WITH_AE_LOSS = (False, True), [False, False]
    assert list(losses(outputs, targets, config)) == ["heatmap2"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exp", "max"])
@pytest.mark.parametrize("seed", range(20))
def test_values_and_gradients_equal_upstreams(seed: int, kind: str, tmp_path, monkeypatch) -> None:
    """The whole MultiLossFactory; each image has its own gradient."""
    core = upstream("core/loss.py")
    monkeypatch.setattr(core, "make_input", lambda values: values.sum())  # upstream's asks for a GPU
    config = load_config(tiny.write_pose_config(tmp_path)).clone()
    config.defrost()
    config.LOSS.AE_LOSS_TYPE = kind
    outputs, targets = outputs_and_targets(seed)
    outputs = [output.requires_grad_() for output in outputs]
    terms = losses(outputs, targets, config)
    gradients = torch.autograd.grad(sum(terms.values()), outputs)

    joints = [torch.stack([target.indices.clamp(min=0), (target.indices >= 0).long()], dim=-1) for target in targets]
    found = core.MultiLossFactory(config)(
        outputs, [target.heatmaps for target in targets], [target.mask for target in targets], joints
    )
    expected = {
        f"{name}{i + 1}": values.mean(dim=0)
        for name, each in zip(("heatmap", "push", "pull"), found)
        for i, values in enumerate(each)
        if values is not None
    }
    assert sorted(terms) == sorted(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-6, atol=1e-10)
    for ours, theirs in zip(gradients, torch.autograd.grad(sum(expected.values()), outputs)):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
