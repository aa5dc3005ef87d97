"""The options of one call of make, and the error for an invalid value; standard library only."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from make.checks import CHECKS

CONFIGS = Path("configs")
NOT_REMEMBERED = {"MODEL", "MODELS", "BUILD", "PYTHON", "GATE", "MAX_REJECTED", "SHARD", "KEEP", "IMAGES"}
NOT_REMEMBERED |= {"HOST", "PORT"}
TORCH_BACKENDS, NPU_BACKENDS = ("torchscript", "torch_aie"), ("ascend", "torch_aie")
EXTENSIONS = {"ascend": ".om", "torchscript": ".ts", "torch_aie": ".ts"}  # of a compiled model; others: .onnx


class OptionError(Exception):
    """An invalid value, in one line: `what; hint`."""

    def __init__(self, what: str, hint: Optional[str] = None) -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what}; {hint}" if hint else what)


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
            path = self.settings / f"{name}.mk"
            if not re.fullmatch(rf"{re.escape(name)} \?= [^\x00-\x1f$#]*\n", text):
                raise OptionError(f"{path}: invalid, expected one line {name} ?= <value>", f"rm {path}")
            if name in NOT_REMEMBERED:
                raise OptionError(f"{path}: {name} is not remembered", f"rm {path}")
        values = {name: text.partition("= ")[2].strip() for name, text in sorted(texts.items())}
        return {
            name: value for name, value in values.items() if value and name in self.values and name not in self.given
        }

    def default(self, name: str) -> str:
        """The Makefile's default of WEIGHTS, ONNX or TS."""
        made = {"ONNX": self.folder / "model.onnx", "TS": self.folder / "model.ts"}
        return str(made.get(name, Path("weights", f"{self['MODEL']}.pth")))

    def is_given(self, name: str) -> bool:
        """Whether WEIGHTS, ONNX or TS is not its default."""
        return os.path.normpath(self[name]) != os.path.normpath(self.default(name))

    def error(self, name: str, why: str, hint: Optional[str] = None) -> OptionError:
        path = self.settings / f"{name}.mk"
        remembered = f" (remembered in {path})" if name not in self.given and path.is_file() else ""
        return OptionError(f"{name}={self[name]}{remembered}: {why}", hint)


def outer_environment() -> dict[str, str]:
    """The environment without the variables of the make that runs this process, for another call of make."""
    own = {*CHECKS, "MODEL", "MFLAGS"}
    return {key: value for key, value in os.environ.items() if key not in own and not key.startswith("MAKE")}


def note(line: str) -> None:
    print(line, file=sys.stderr)
