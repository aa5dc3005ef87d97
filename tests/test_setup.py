"""make setup, with a fake python3 that creates the environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.checkout import Checkout

PYTHON3 = """#!/bin/bash
if [ "$1 $2" != "-m venv" ]; then exec {python} "$@"; fi
mkdir -p $3/bin
printf '#!/bin/bash\\necho begin >> log; sleep 1; echo end >> log; exit {code}\\n' > $3/bin/python
chmod +x $3/bin/python
"""


def setup_twice(root: Path, code: int) -> tuple[list[int], list[str], list[str]]:
    """The exit codes and output of two calls at the same time, and when pip was at work."""
    checkout = Checkout(root)
    for name in ("pyproject.toml", "constraints.txt"):
        (root / name).touch()
    (root / "bin").mkdir()
    (root / "bin/python3").write_text(PYTHON3.format(python=sys.executable, code=code))
    (root / "bin/python3").chmod(0o755)
    command = ["env", f"PATH={root}/bin:/usr/bin:/bin", "make", "setup"]
    calls = [subprocess.Popen(command, cwd=checkout.root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [call.communicate(timeout=60)[0] for call in calls]
    return [call.returncode for call in calls], outputs, (root / "log").read_text().split()


def test_the_second_of_two_calls_waits_and_has_nothing_to_do(tmp_path: Path) -> None:
    codes, outputs, log = setup_twice(tmp_path, code=0)
    assert codes == [0, 0] and log == ["begin", "end"]
    assert sorted("waiting for another make setup" in output for output in outputs) == [False, True]


def test_the_second_call_installs_if_the_first_one_failed(tmp_path: Path) -> None:
    codes, _, log = setup_twice(tmp_path, code=1)
    assert codes == [2, 2] and log == ["begin", "end", "begin", "end"]
    assert not (tmp_path / ".venv/done").exists()
