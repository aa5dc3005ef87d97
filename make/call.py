"""The options of one call of make, and the error for an invalid value; standard library only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from hrnet import cann
from hrnet.hints import in_call
from make.checks import CHECKS, FILE, PATH

CONFIGS = Path("configs")
NOT_REMEMBERED = {"MODEL", "MODELS", "BUILD", "PYTHON", "GATE", "MAX_REJECTED", "SHARD", "KEEP", "IMAGES"}
NOT_REMEMBERED |= {"BATCHES", "BASE", "HOST", "PORT"}
TORCH_BACKENDS, NPU_BACKENDS = ("torchscript", "torch_aie"), ("ascend", "torch_aie")
EXTENSIONS = {"ascend": ".om", "torchscript": ".ts", "torch_aie": ".ts"}  # of a compiled model; others: .onnx


class OptionError(Exception):
    """An invalid value, in one line: `what; hint`. `earlier`: other errors of the same call."""

    def __init__(self, what: str, hint: Optional[str] = None) -> None:
        self.what, self.hint = what, hint
        self.earlier: list[OptionError] = []
        super().__init__(f"{what}; {hint}" if hint else what)

    def complete(self, values: Mapping[str, str]) -> OptionError:
        """This error with MODEL, BUILD and PYTHON of this call added to the commands in its hint."""
        return OptionError(self.what, self.hint and in_call(self.hint, values))


class Errors(list[OptionError]):
    """Collects the errors of several checks, so that one call of make reports all of them."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect an OptionError that the `with` block raises, and the errors in its `earlier`."""
        try:
            yield
        except OptionError as error:
            self += [*error.earlier, error]

    def throw(self) -> None:
        """Raise the last error, with the others in `earlier`, if there is any."""
        if self:
            self[-1].earlier = self[:-1]
            raise self[-1]


class Options:
    """The options of one call of make. `values`: {variable: value}; `given`: the variables that are set on the command
    line or in the environment; `goals`: the targets. Not a dataclass: the import of dataclasses takes an eighth of the
    time of make/options.py, which each call of make runs."""

    pose = False
    split = "val2017"  # the split of COCO that is evaluated
    class_names = ""  # the file in INPUT.CLASS_NAMES of the config, if it exists
    onnx = False  # the config is for an ONNX file
    fixed_batch = 0  # batch size of the given ONNX file, if it is fixed
    published = False  # the config has a published figure
    downloadable = False  # the config has the URL of a published checkpoint

    def __init__(self, values: dict[str, str], given: set[str], goals: set[str]) -> None:
        self.values, self.given, self.goals = values, given, goals

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

    @property
    def not_remembered(self) -> set[str]:
        """The variables that are not remembered. make/settings.mk also skips the files of those in NOT_REMEMBERED."""
        return NOT_REMEMBERED | ({"WEIGHTS"} if self.onnx else set())

    def stored(self) -> dict[str, str]:
        """The values given to earlier calls, even if this call gives another value. Raises OptionError for an invalid
        file."""
        values = {}
        for path in sorted(self.settings.glob("*.mk")):
            name, text = path.stem, path.read_text(encoding="utf-8", errors="replace")
            if name in self.not_remembered:
                continue
            if not re.fullmatch(rf"{re.escape(name)} \?= [^\x00-\x1f$#]*\n", text):
                raise OptionError(f"{path}: invalid, expected one line {name} ?= <value>", f"rm {path}")
            values[name] = text.partition("= ")[2].strip()
        return values

    def remembered(self) -> dict[str, str]:
        """The values given to earlier calls that still apply."""
        return {
            name: value
            for name, value in self.stored().items()
            if value and name in self.values and name not in self.given
        }

    def default(self, name: str) -> str:
        """The default of a variable for a file or directory."""
        made = {"ONNX": self.folder / "model.onnx", "TS": self.folder / "model.ts", "OM": "", "PREP": ""}
        made |= {"WEIGHTS": f"weights/{self['MODEL']}.pth", "DATASET": "data/coco" if self.pose else "data/imagenet"}
        return str(made[name])

    def differs_from_default(self, name: str) -> bool:
        """Whether WEIGHTS, ONNX or TS is given or remembered, and not equal to its default."""
        return os.path.normpath(self[name]) != os.path.normpath(self.default(name))

    def error(self, name: str, why: str, hint: Optional[str] = None) -> OptionError:
        path = self.settings / f"{name}.mk"
        remembered = f" (remembered in {path})" if name not in self.given and path.is_file() else ""
        return OptionError(
            f"{name}={self[name]}{remembered}: {why}", hint or (f"to forget it: rm {path}" if remembered else None)
        )

    def format_error(self, name: str, expected: str) -> OptionError:
        """The error for a value that has the wrong format, with a hint what to give instead."""
        value, hint = self[name], None
        if not value and name in self.given:
            hint = f"give {name}={self.default(name)}" if name in ("WEIGHTS", "ONNX", "TS") else f"leave out {name}="
        elif value != value.strip() and re.fullmatch(CHECKS[name].pattern, value.strip()):
            hint = f"without the blank: {name}={value.strip()}"
        elif name == "SOC" and value:
            hint = f"did you mean {cann.nearest_chip(value)}?"
        elif PATH.expected in expected or FILE.expected in expected:
            hint = "create a link whose path has only these characters (ln -s), and give the link"
        return self.error(name, f"{'' if value else 'no value; '}expected {expected}", hint)


def float_operators(options: Options) -> tuple[str, str]:
    """The model's precision, `int8` or `fp16`, and what KEEP_FLOAT adds to the names of products, such as `keep-auto`;
    two empty strings if KEEP_FLOAT has no effect."""
    value = options.values
    fp16 = value["PRECISION"] == "fp16" or (value["PRECISION"] == "default" and value["BACKEND"] == "ascend")
    precision = "int8" if value["PRECISION"].startswith("int8") else "fp16" if fp16 else ""
    compiled = not value["OM"] and value["BACKEND"] not in TORCH_BACKENDS
    if not (value["KEEP_FLOAT"] and precision and compiled):
        return "", ""
    return precision, f"keep-{Path(value['KEEP_FLOAT']).stem}"


def outer_environment() -> dict[str, str]:
    """The environment without the variables of the make that runs this process, for another call of make."""
    own = {*CHECKS, "MODEL", "MFLAGS"}
    return {key: value for key, value in os.environ.items() if key not in own and not key.startswith("MAKE")}


def note(line: str) -> None:
    print(line, file=sys.stderr)
