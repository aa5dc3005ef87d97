"""Two calls of make setup or of make demo at the same time, with fakes of python3 and of .venv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Checkout

PYTHON3 = """#!/bin/bash
if [ "$1 $2" != "-m venv" ]; then exec {python} "$@"; fi
mkdir -p $3/bin
printf '#!/bin/bash\\necho begin >> log; sleep 0.3; echo end >> log; exit {code}\\n' > $3/bin/python
chmod +x $3/bin/python
"""


def outside_make() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}


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
    assert all("\ndone; next: make demo" in output for output in outputs)


def test_the_second_call_installs_if_the_first_one_failed(tmp_path: Path) -> None:
    codes, _, log = setup_twice(tmp_path, code=1)
    assert codes == [2, 2] and log == ["begin", "end", "begin", "end"]
    assert not (tmp_path / ".venv/done").exists()


PYTHON = """#!/bin/bash
echo begin >> log; mkdir -p data/digits/val; touch data/digits/val_label.txt; sleep 0.1; echo end >> log
"""


def test_the_second_of_two_demos_waits(tmp_path: Path) -> None:
    """Both start without the data set; the stages of one never run beside those of the other."""
    checkout = Checkout(tmp_path)
    for name in (*("pyproject.toml", "constraints.txt"), ".venv/bin/python", ".venv/done"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PYTHON)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    calls = [
        subprocess.Popen(["make", "demo"], cwd=checkout.root, env=outside_make(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [call.communicate(timeout=60)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], outputs
    assert sorted("waiting for another make demo" in output for output in outputs) == [False, True]
    log = (tmp_path / "log").read_text().split()
    assert log == ["begin", "end"] * (len(log) // 2) and len(log) > 2 * 2 * 7, "data, six stages and the verdict"


@pytest.mark.parametrize("name", ["digits/val_label.txt", "demo_people/annotations/person_keypoints_val2017.json"])
def test_a_failed_call_keeps_the_data_that_another_call_wrote_meanwhile(tmp_path: Path, name: str) -> None:
    checkout = Checkout(tmp_path)
    file = tmp_path / "data" / name
    (tmp_path / "python").write_text(f"#!/bin/bash\nmkdir -p {file.parent}; echo complete > {file}; exit 2\n")
    (tmp_path / "python").chmod(0o755)
    words = ["make", f"data/{name}", f"PYTHON={tmp_path}/python"]
    done = subprocess.run(words, cwd=checkout.root, env=outside_make(), capture_output=True)
    assert done.returncode == 2 and file.read_text() == "complete\n"
