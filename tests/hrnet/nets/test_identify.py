"""hrnet/nets/identify.py: the error for a checkpoint of another model names that model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hrnet.cli import UserError
from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, classification
from hrnet.nets.identify import models_of

DIGITS = Path("weights/demo_digits.pth")


def test_the_model_is_found_by_names_and_shapes() -> None:
    state = torch.load(DIGITS, weights_only=True)
    assert models_of(state) == ["demo_digits"]
    state["classifier.weight"], state["classifier.bias"] = state["classifier.weight"][:4], state["classifier.bias"][:4]
    assert models_of(state) == ["demo_digits with 4 classes"]
    del state["conv1.weight"]
    assert models_of(state) == models_of({}) == []


def test_all_models_with_the_same_net_are_named() -> None:
    with torch.device("meta"):
        state = classification.build(load_config(CONFIGS / "hrnet_w18.yaml")).state_dict()
    assert models_of(state) == ["hrnet_w18", "hrnet_w18_ssld"]


def test_the_error_names_the_other_model_and_few_weights(tmp_path: Path) -> None:
    net = classification.build(load_config(CONFIGS / "hrnet_w18_small_v1.yaml"))
    with pytest.raises(UserError) as caught:
        checkpoint.load(net, DIGITS)
    assert caught.value.what.startswith("weights of another model, demo_digits: ")
    assert caught.value.hint == "give MODEL=demo_digits" and len(str(caught.value)) < 300
    state = torch.load(DIGITS, weights_only=True)
    for key in ("classifier.weight", "classifier.bias"):
        state[key] = state[key][:4]
    torch.save(state, tmp_path / "four.pth")
    with pytest.raises(UserError) as caught:
        checkpoint.load(classification.build(load_config(CONFIGS / "demo_digits.yaml")), tmp_path / "four.pth")
    assert "demo_digits with 4 classes" in caught.value.what and "MODEL.NUM_CLASSES to 4" in str(caught.value.hint)
