"""atc.convert --keep_float: the list reaches atc and its emulator, and a changed list compiles again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atc import convert
from hrnet.io.compiled import CompiledModel
from tests.atc.calls import arguments, error_line, seen_by_atc
from tests.support.errors import check_error
from tests.support.onnx_models import images, results

pytestmark = pytest.mark.usefixtures("emulators_in_process")


def given(output: str, names: str, *more: str) -> list[str]:
    Path("lists").mkdir(exist_ok=True)
    Path("lists/keep.txt").write_text(names)
    return arguments(output, "--batch_size", "1", "--precision", "fp16", "--keep_float", "lists/keep.txt", *more)


@pytest.mark.usefixtures("here", "atc")
def test_the_list_reaches_atc(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(given("a.om", "Gemm_4\n", "--atc_flags=--log=error")) == 0
    seen = seen_by_atc("a.om")
    assert (seen["keep_dtype_content"], seen["precision_mode"]) == ("Gemm_4\n", "force_fp16")
    assert "--keep_dtype=lists/keep.txt" in capsys.readouterr().out
    compiled = CompiledModel.read("a.om")
    assert compiled.command[-1] == "--keep_dtype=lists/keep.txt" and compiled.metadata["keep_float"] == "1"
    assert convert.main(given("a.om", "Gemm_4\n", "--atc_flags=--log=error")) == 0
    assert "up to date" in capsys.readouterr().out
    assert convert.main(given("a.om", "Gemm_4\nOpType::Relu\n", "--atc_flags=--log=error")) == 0
    assert seen_by_atc("a.om")["keep_dtype_content"] == "Gemm_4\nOpType::Relu\n"
    assert CompiledModel.read("a.om").metadata["keep_float"] == "2"


@pytest.mark.usefixtures("here", "atc")
def test_an_empty_list_is_not_passed() -> None:
    assert convert.main(given("a.om", "\n")) == 0
    assert "keep_dtype" not in seen_by_atc("a.om")
    assert CompiledModel.read("a.om").metadata["keep_float"] == "0"


@pytest.mark.usefixtures("here")
def test_the_emulator_keeps_the_operator() -> None:
    made = {}
    for names in ("Gemm_4\n", ""):
        assert convert.main(given("a.onnx", names)) == 0
        made[names] = results(Path("a.onnx"), images(1))
    exact = results(Path("model.onnx"), images(1))
    assert not np.array_equal(made["Gemm_4\n"], made[""]) and np.allclose(made["Gemm_4\n"], exact, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
@pytest.mark.usefixtures("here", "atc")
def test_what_does_not_fit_is_rejected(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_error(error_line(capsys, given(output, "Gemm_9\n")), "atc.convert", "lists/keep.txt", "Gemm_9")
    words = [word.replace("keep.txt", "none.txt") for word in given(output, "")]
    check_error(error_line(capsys, words), "atc.convert", "lists/none.txt", "KEEP_FLOAT=auto")
    if output == "a.om":
        words = [word for word in given(output, "Gemm_4\n", "--tune", "aoe") if word not in ("--precision", "fp16")]
        check_error(error_line(capsys, words), "atc.convert", "--keep_dtype=lists/keep.txt", "TUNE=none")
    Path("model.onnx").write_bytes(b"x")
    check_error(error_line(capsys, given(output, "Gemm_4\n")), "atc.convert", "model.onnx")
