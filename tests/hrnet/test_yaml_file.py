"""hrnet/yaml_file.py, and the errors of hrnet/config.py for values of the wrong type: what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from hrnet.cli import UserError
from hrnet.config import load_config


def written(folder: Path, text: str) -> Path:
    path = folder / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "what", "found", "hint"),
    [
        ("MODEL: {NUM_CLASSES: three}", "MODEL.NUM_CLASSES", "'three'", "NUM_CLASSES: 1000"),
        ("MODEL: {NUM_CLASSES: yes}", "MODEL.NUM_CLASSES", "True", "NUM_CLASSES: 1000"),
        ("MODEL: {IMAGE_SIZE: 224}", "MODEL.IMAGE_SIZE", "224", "IMAGE_SIZE: [224, 224]"),
        ("INPUT: {MEAN: half}", "INPUT.MEAN", "'half'", "MEAN: [0.485, 0.456, 0.406]"),
        ("REFERENCE: {TOP1: 76.8%}", "REFERENCE.TOP1", "'76.8%'", ""),
        ("MODEL： {NAME: cls_hrnet}", "line 1", "'：'", "write ':'"),
        ("MODEL:\n  NUM_CLASSES: 3 # ：\n  NAME：x", "line 3", "'：'", "write ':'"),
        ("INPUT:\n  MEAN: [0.5，0.5，0.5]", "line 2", "'，'", "write ','"),
        ("MODEL:\n\tNAME: cls_hrnet", "line 2: a tab", None, "spaces"),
        ("MODEL:\n  NAME:cls_hrnet", "MODEL is not a mapping", "'NAME:cls_hrnet'", "a space after the colon"),
        ("MODEL:\n  NUM_CLASSES: 3\n  NAME", "line 3", "'NAME'", "a space after the colon"),
        ("MODEL: {}\nWEIGHTS: {URL: 'x}\n\n", "line 2: found unexpected end of stream", None, "quotes"),
        ("MODEL:\n  NUM_CLASSES: 3\n NAME: x", "line 3", "'NAME: x'", "indentation"),
        ("", "not a config", "an empty file", "NAME: value"),
        ("MODEL:NAME", "not a config", "str", "a space after the colon"),
    ],
)
def test_an_error_says_what_to_write(text: str, what: str, found: Optional[str], hint: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    error = caught.value
    assert error.where == path and what in error.what and hint in (error.hint or ""), error
    assert found in (None, str(error.found)) and "<class" not in str(error), error


def test_full_width_text_is_allowed_in_quotes_and_comments(tmp_path: Path) -> None:
    names = ", ".join(f'"猫，{number}："' for number in range(1000))
    config = load_config(written(tmp_path, f"INPUT: {{CLASS_NAMES: [{names}]}} # ：\n"))
    assert config.INPUT.CLASS_NAMES[1] == "猫，1："


def test_text_that_yacs_reads_as_a_number_is_a_number(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "TRAIN: {LR: 1e-3}\nGPUS: (0,1)\n")).TRAIN.LR == 0.001
