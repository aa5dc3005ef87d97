"""Description of this machine, for records of measurements."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

from hrnet.cli import cores


def machine() -> dict[str, Any]:
    """The processor's name, its architecture, and the number of cores that this process may use."""
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except FileNotFoundError:
        names = []
    return {"processor": names[0] if names else "unknown", "kind": platform.machine(), "cores": cores()}
