"""Emulators that run in the process of the test, for tests that do not depend on the emulator's own process: its start
and imports take many times as long as its work on a tiny model."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from amct.emulator import main as amct_emulator
from atc.emulator import main as atc_emulator
from hrnet import cann_tool
from infer import run_ais_bench
from infer.emulator import main as infer_emulator

MAINS = {
    "amct.emulator": amct_emulator.main,
    "atc.emulator": atc_emulator.main,
    "infer.emulator": infer_emulator.main,
}


class Ended:
    """Replaces subprocess.Popen for a call of an emulator; has only the methods that the stages use."""

    def __init__(self, name: str, words: list[str], **options: Any) -> None:
        before, out = os.getcwd(), io.StringIO()
        os.chdir(options.get("cwd") or before)
        piped = options.get("stdout") is not None  # with stderr
        try:
            with contextlib.ExitStack() as stack:
                if piped:
                    stack.enter_context(contextlib.redirect_stdout(out))
                    stack.enter_context(contextlib.redirect_stderr(out))
                self.returncode = MAINS[name](words)
        finally:
            os.chdir(before)
        self.stdout = io.StringIO(out.getvalue()) if piped else None

    def __enter__(self) -> Ended:
        return self

    def __exit__(self, *error: object) -> None: ...

    def wait(self) -> int:
        return self.returncode

    def terminate(self) -> None: ...


def start(words: list[str], **options: Any) -> Any:
    """subprocess.Popen, except for emulators."""
    if words[:2] == [sys.executable, "-m"] and words[2] in MAINS:
        return Ended(words[2], words[3:], **options)
    return subprocess.Popen(words, **options)


def run_emulators(patch: pytest.MonkeyPatch) -> None:
    """Make the stages that run in this process call the emulators in the same process."""
    replaced = SimpleNamespace(**{**vars(subprocess), "Popen": start})
    for module in (cann_tool, run_ais_bench):
        patch.setattr(module, "subprocess", replaced)
