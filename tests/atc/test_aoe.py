"""atc/convert.py --tune aoe: the two calls of aoe, and its errors."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from atc import convert
from hrnet.io.compiled import CompiledModel, TensorInfo
from tests.atc.calls import arguments, error_line, files_in, product, seen_by_atc


@pytest.mark.parametrize("mode", ["", "host"])
def test_aoe_tunes_subgraphs_then_operators(
    mode: str, here: Path, aoe: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aoe.setenv("FAKE_AOE", mode)
    output = "om/bs8-float32-Ascend310P3-aoe.om"
    assert convert.main(arguments(output, "--batch_size", "8", "--tune", "aoe")) == 0
    first, log, second, again, closing = capsys.readouterr().out.splitlines()
    command = (
        "aoe --framework=5 --model=model.onnx --input_format=NCHW --input_shape=image:8,3,16,16 "
        "--output=om/bs8-float32-Ascend310P3-aoe --job_type="
    )
    assert (first, second) == (f"{command}1", f"{command}2")
    assert log == again == "[Aoe]Aoe process finished,cost time 1s."
    assert closing.startswith(f"wrote {output} (batch 8, ")
    assert files_in(here) == ["model.onnx", "om", *product(output)]
    assert seen_by_atc(output)["job_type"] == "2"
    record = CompiledModel.read(output)
    assert (record.tool, shlex.join(record.command)) == ("aoe", f"{command}2")
    assert record.inputs == [TensorInfo("image", "float32", [8, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [8, 10])]


def test_an_error_of_aoe_is_reported_in_one_line_with_a_hint(
    here: Path, aoe: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aoe.setenv("FAKE_AOE", "no_device")
    assert "aoe failed" in error_line(capsys, arguments("a.om", "--tune", "aoe"), 1)
    aoe.setenv("FAKE_AOE", "nothing")
    line = error_line(capsys, arguments("a.om", "--tune", "aoe"), 1)
    assert "aoe succeeded but wrote no a*.om" in line, "the file with tuned subgraphs is not the result"
    aoe.setenv("PATH", str(here))
    line = error_line(capsys, arguments("a.om", "--tune", "aoe"))
    assert "aoe is not on PATH" in line and "or use --tune none" in line
    assert "expected --backend ascend" in error_line(capsys, arguments("a.onnx", "--tune", "aoe"))
    line = error_line(capsys, arguments("a.om", "--tune", "aoe", "--precision", "fp32"))
    assert "expected --precision default, found fp32" in line and "PRECISION=default" in line
    assert files_in(here) == ["model.onnx"]
