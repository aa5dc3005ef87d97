"""make/machine.py: the description of a machine, and the difference that is reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from hrnet.cli import UserError
from make import machine
from tests.support.part_files import write_inputs
from tests.support.tar_sets import write_tar

ARGUMENTS = [
    "--cfg",
    "small.yaml",
    "--dataset",
    "set",
    "--model",
    "m.onnx",
    "--backend",
    "onnxruntime",
    "--shard",
    "2/3",
]


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(10)


def described(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert machine.main([*ARGUMENTS, *more]) == 0
    return machine.read(f"a line before\n{capsys.readouterr().out}")


def test_versions_and_hashes_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    found = described(capsys)
    assert found["numpy"] == np.__version__ and found["onnxruntime"] and "openvino" not in found
    assert all(len(found[name]) == 64 for name in machine.DIFFERENCES if name != "available")
    assert described(capsys) == found
    assert "onnxruntime" not in described(capsys, "--backend", "ascend")
    machine.check("node", "/tmp/x", found, found)


def test_a_copy_of_the_images_with_other_times_differs(capsys: pytest.CaptureFixture[str]) -> None:
    here = described(capsys)
    os.utime("set/val/5.png", (1, 1))
    with pytest.raises(UserError) as caught:
        machine.check("host (a)", "/tmp/x", described(capsys), here)
    assert caught.value.where == "host (a)" and "times" in caught.value.what and "rsync -a" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "what", "hint"),
    [
        ("code_sha256", "0", "the code", "remove /tmp/x there"),
        ("list_sha256", "0", "another image list", "DATASET="),
        ("Pillow", "9.0.0", "of Pillow", 'pip install "Pillow=='),
        ("Pillow", None, "of Pillow", 'pip install "Pillow=='),
    ],
)
def test_the_first_difference_is_reported(
    name: str, value: Any, what: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = described(capsys)
    with pytest.raises(UserError) as caught:
        machine.check("host (a)", "/tmp/x", {**here, name: value}, here)
    assert what in caught.value.what and hint in str(caught.value.hint)
    assert caught.value.expected == here[name][:16] and caught.value.found == (value or "none")


@pytest.mark.parametrize(
    ("name", "here", "there"),
    [("pycocotools", None, "2.0.11"), ("opencv-python-headless", "unknown version", "4.14.0.94")],
)
def test_the_hint_installs_a_package_of_unknown_version_on_this_machine(
    name: str, here: Optional[str], there: str
) -> None:
    with pytest.raises(UserError) as caught:
        machine.check("host (a)", "/tmp/x", {name: there}, {name: here})
    assert (caught.value.expected, caught.value.found) == (str(here or "none")[:16], there)
    hint = str(caught.value.hint)
    assert hint.startswith("on this machine: ") and "pip install" in hint and "==" not in hint


def test_a_missing_data_set_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.main([*ARGUMENTS, "--dataset", "none"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("output", ["", "make: done\n", "[1]\n", json.dumps("x")])
def test_other_output_is_not_a_description(output: str) -> None:
    with pytest.raises(UserError, match="no description"):
        machine.read(output)


def test_tar_files_are_described_too(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        image = Path(f"set/val/{number}.png").read_bytes()
        write_tar(Path(f"tars/{number}.tar"), [(f"{number}.cls", b"1"), (f"{number}.png", image)])
    here = described(capsys, "--dataset", "tars")
    assert described(capsys, "--dataset", "tars") == here
    os.utime("tars/1.tar", (1, 1))
    found = described(capsys, "--dataset", "tars")
    assert {name for name in here if here[name] != found[name]} == {"index_sha256"}
