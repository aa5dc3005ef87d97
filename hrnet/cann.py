"""CANN's chip names, features that some chips lack, and the path of CANN's environment script. Uses only the standard
library, since make/options.py imports it before packages are installed.

Source of the names: CANN's list of values of atc's --soc_version. The list is used for hints and to correct upper and
lower case. With it, make rejects a name that is only the first part of a chip's name and, unless BACKEND is ascend or
torch_aie, a misspelt name. Other names are passed to atc unchanged, since each release of atc has its own list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from hrnet.hints import distance

# fmt: off
CHIPS = tuple(f"Ascend{name}" for name in (
    "310", "310P1", "310P2", "310P3", "310P4", "310P5", "310P7",
    "310P3Vir01", "310P3Vir02", "310P3Vir04", "310P3Vir08", "310B1", "310B2", "310B3", "310B4",
    "910", "910A", "910B", "910B1", "910B2", "910B2C", "910B3", "910B4", "910B4-1", "910ProA", "910ProB", "910PremiumA",
    "910_9391", "910_9392", "910_9381", "910_9382", "910_9372", "910_9362", "910_9363",
    "950PR_957d", "950PR_9579", "950PR_958b", "950PR_9589", "950PR_9599", "950DT_9581", "950DT_9582",
))
# fmt: on
SIMILAR = 1  # edits between a misspelt name and the chip's
DEFAULT_CHIP = "Ascend310P3"  # SOC of the Makefile
CHIP = "Ascend[0-9]+[A-Za-z0-9_-]*"
CHIP_TEXT = "a chip name: Ascend followed by the name that npu-smi info prints, such as Ascend310P3"
SET_ENV = (  # system-wide and per-user installations; the directory is named `cann` since CANN 8.5
    "/usr/local/Ascend/cann/set_env.sh",
    "~/Ascend/cann/set_env.sh",
    "~/Ascend/ascend-toolkit/set_env.sh",
    "/usr/local/Ascend/ascend-toolkit/set_env.sh",
)


def chip_name(text: str) -> str:
    """A chip's name as atc expects it: `310P3` and `ascend310p3` give `Ascend310P3`. Text that is not a chip name, such
    as `v100`, is returned unchanged."""
    match = re.fullmatch(r"(?:ascend)?([0-9]{3}[A-Za-z0-9_-]*)", text, re.IGNORECASE)
    if not match:
        return text
    name = f"Ascend{match[1]}"
    return {known.lower(): known for known in CHIPS}.get(name.lower(), name)


def nearest_chip(text: str) -> str:
    """The most similar name in CHIPS."""
    # Imported here, since few calls of make need it
    import difflib

    by_lower = {known.lower(): known for known in CHIPS}
    number = text.lower() if "asc" in text.lower() else f"ascend{text.lower()}"
    return by_lower[difflib.get_close_matches(number, by_lower, n=1, cutoff=0.0)[0]]


def longer_names(name: str) -> list[str]:
    """The chips whose names begin with `name`, if `name` itself is not a chip. DEFAULT_CHIP comes first if it is one of
    them."""
    return _default_first(each for each in CHIPS if name not in CHIPS and each.lower().startswith(name.lower()))


def similar_names(name: str) -> list[str]:
    """The chips whose names differ from `name` by one edit, if `name` itself is not a chip. DEFAULT_CHIP comes
    first if it is one of them."""
    return _default_first(
        each for each in CHIPS if name not in CHIPS and distance(each.lower(), name.lower()) <= SIMILAR
    )


def _default_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name != DEFAULT_CHIP)


def is_950(chip: str) -> bool:
    """Whether it is an Ascend 950 (Atlas 350), which has no AIPP but allows more gears in a model."""
    return chip.startswith("Ascend950")


def tunes_models(chip: str) -> bool:
    """Whether aoe can tune offline models for the chip: not for A2 (910B1, 910B4-1, ...) and A3 (910_9391, ...). The
    name 910B without a digit is an older chip."""
    return not re.match("Ascend910(B[0-9]|_93)", chip)


def source_set_env() -> str:
    """The shell command that sets up CANN's environment, with the first script that exists on this machine."""
    home = os.environ.get("ASCEND_TOOLKIT_HOME", "")  # such as /opt/Ascend/ascend-toolkit/latest
    paths = [os.path.join(home, "set_env.sh"), os.path.join(os.path.dirname(home), "set_env.sh")] if home else []
    paths += [os.path.expanduser(path) for path in SET_ENV]
    return f"source {next((path for path in paths if Path(path).is_file()), SET_ENV[-1])}"
