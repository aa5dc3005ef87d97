"""Code that tests in several directories share: fakes of the NPU tools, small networks and data sets, and checks."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the repository
