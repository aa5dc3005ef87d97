"""hrnet/nets/classification.py: the head, and independent images."""

from __future__ import annotations

import torch

from tests.support import tiny


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
