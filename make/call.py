"""The options of one call of make, and the error for an invalid value; standard library only."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from make.checks import CHECKS

CONFIGS = Path("configs")
TORCH_BACKENDS, NPU_BACKENDS = ("torchscript", "torch_aie"), ("ascend", "torch_aie")
EXTENSIONS = {"ascend": ".om", "torchscript": ".ts", "torch_aie": ".ts"}  # of a compiled model; others: .onnx


class OptionError(Exception):
    """An invalid value, in one line."""


@dataclass
class Options:
    """The options of one call of make."""

    values: dict[str, str]
    given: set[str]  # on the command line or in the environment
    goals: set[str]
    pose: bool = False
    split: str = "val2017"  # the part of COCO that is evaluated
    class_names: str = ""  # the file in INPUT.CLASS_NAMES of the config, if it exists
    onnx: bool = False  # the config is for an ONNX file
    published: bool = False  # the config has a figure for Top-1

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    @property
    def folder(self) -> Path:
        return Path(self["BUILD"], self["MODEL"])

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def annotations(self) -> Path:
        return Path(self["DATASET"], "annotations", f"person_keypoints_{self.split}.json")

    def remembered(self) -> dict[str, str]:
        """The values given to earlier calls that still apply."""
        texts = {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in self.settings.glob("*.mk")}
        for name, text in sorted(texts.items()):
            if not re.fullmatch(rf"{re.escape(name)} \?= [^\x00-\x1f$#]*\n", text):
                path = self.settings / f"{name}.mk"
                raise OptionError(f"{path}: invalid, expected one line {name} ?= <value>; rm {path}")
        values = {name: text.partition("= ")[2].strip() for name, text in sorted(texts.items())}
        return {
            name: value for name, value in values.items() if value and name in self.values and name not in self.given
        }

    def error(self, name: str, why: str) -> OptionError:
        return OptionError(f"{name}={self[name]}: {why}")


def outer_environment() -> dict[str, str]:
    """The environment without the variables of the make that runs this process, for another call of make."""
    own = {*CHECKS, "MODEL", "MFLAGS"}
    return {key: value for key, value in os.environ.items() if key not in own and not key.startswith("MAKE")}


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean NAME? `, or an empty string."""
    close = {each.lower().replace("-", "_"): each for each in known}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), sorted(close), n=1)
    return f"did you mean {close[near[0]]}? " if near else ""


def note(line: str) -> None:
    print(line, file=sys.stderr)
