"""make/config.py: the config that MODEL or CFG selects, and the hints for wrong names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from make.call import OptionError
from tests.make.option_calls import rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("configs/net", "give CFG=configs/net.yaml"),
        ("mine/own", "give CFG=mine/own.yaml"),
        ("mine/owen.yaml", "did you mean CFG=mine/own.yaml?"),
        ("mine/net.yaml", "give CFG=configs/net.yaml"),
        ("pepole", "did you mean CFG=configs/people.yaml?"),
        ("own.pth", "give it as WEIGHTS=own.pth"),
        ("nowhere/like_no_other.yaml", "the configs in configs/: net, people"),
    ],
)
def test_a_path_that_is_not_a_config_gets_the_nearest_one(path: str, hint: str) -> None:
    Path("mine").mkdir()
    Path("mine/own.yaml").write_text("MODEL: {}\n")
    assert rejected(MODEL=Path(path).stem, CFG=path) == f"CFG={path}: no such YAML file; {hint}"


def test_the_file_name_of_a_config_is_the_name_of_the_model() -> None:
    Path("mine").mkdir()
    Path("mine/own.yaml").write_text("MODEL: {NAME: pose_higher_hrnet}\n")
    found = resolve(MODEL="own", CFG="mine/own.yaml")
    assert (found["CFG"], found["TASK"]) == ("mine/own.yaml", "pose")
    assert Path("build/own/settings/CFG.mk").read_text() == "CFG ?= mine/own.yaml\n"
    assert resolve(MODEL="own")["CFG"] == "mine/own.yaml"
    for wrong, hint in (("owen", "did you mean own?"), ("own.yaml", "give MODEL=own")):
        with pytest.raises(OptionError, match=re.escape(hint)):
            resolve(MODEL=wrong)
    assert resolve(CFG="net")["CFG"] == "configs/net.yaml"
    assert resolve(CFG="configs/net.yaml")["CFG"] == "configs/net.yaml"


def test_a_config_named_like_a_shipped_one_is_rejected() -> None:
    Path("mine").mkdir()
    Path("mine/net.yaml").write_text("MODEL: {}\n")
    assert "mine/net.yaml" in rejected(CFG="mine/net.yaml")
    assert "MODEL=people" in rejected(MODEL="people", CFG="configs/net.yaml")
