"""--atc_flags: passed to atc unchanged, and recorded; a changed flag makes the compiled model out of date."""

from __future__ import annotations

from pathlib import Path

import pytest

from atc import convert, flags
from hrnet.cli import UserError
from hrnet.io.compiled import CompiledModel, TensorInfo
from tests.atc.calls import arguments, error_line, seen_by_atc
from tests.support.onnx_models import classifier

pytestmark = pytest.mark.usefixtures("emulators_in_process")


def given(text: str, output: str = "a.om") -> list[str]:
    return arguments(output, "--batch_size", "1", f"--atc_flags={text}")


@pytest.mark.usefixtures("atc")
def test_flags_reach_atc_and_the_record(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--op_select_implmode=high_precision", "--host_env_cpu=aarch64", "--input_hint_shape=image:1,3,16,16;x:2"]
    assert convert.main(given(" ".join(words))) == 0
    assert CompiledModel.read("a.om").command[-3:] == words
    assert "'--input_hint_shape=image:1,3,16,16;x:2'" in capsys.readouterr().out, "the printed command can be pasted"
    seen = seen_by_atc("a.om")
    assert (seen["op_select_implmode"], seen["host_env_cpu"]) == ("high_precision", "aarch64")
    assert seen["input_hint_shape"] == "image:1,3,16,16;x:2"


@pytest.mark.usefixtures("atc")
def test_a_changed_flag_or_file_compiles_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "ops.cfg").write_text("Conv_0\n")
    words = given("--keep_dtype=ops.cfg")
    assert convert.main(words) == 0
    seen = seen_by_atc("a.om")
    assert (seen["keep_dtype_content"], seen["keep_dtype"]) == ("Conv_0\n", "../ops.cfg"), "atc runs elsewhere"
    assert "--keep_dtype=ops.cfg" in CompiledModel.read("a.om").command
    assert convert.main(words) == 0
    assert "a.om is up to date" in capsys.readouterr().out
    (here / "ops.cfg").write_text("Conv_0\nGemm_4\n")
    assert convert.main(words) == 0
    assert seen_by_atc("a.om")["keep_dtype_content"] == "Conv_0\nGemm_4\n"
    capsys.readouterr()
    assert convert.main(given("")) == 0
    assert "keep_dtype" not in seen_by_atc("a.om")


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("FP16", "float16"), ("FP32", "float32"), ("Gemm_4:0:FP16", "float16"), ("UINT8", "uint8")],
)
@pytest.mark.usefixtures("here", "atc")
def test_output_type_sets_the_dtype_in_the_record(text: str, dtype: str) -> None:
    assert convert.main(given(f"--output_type={text}")) == 0
    assert CompiledModel.read("a.om").outputs == [TensorInfo("class", dtype, [1, 10])]


def test_the_last_output_type_is_used() -> None:
    outputs = [TensorInfo("class", "float32", [1, 10])]
    words = ["--output_type=FP32", "--output_type=FP16"]
    assert flags.output_dtypes(words, outputs, classifier()) == [TensorInfo("class", "float16", [1, 10])]
    for text in ("Conv_0:0:FP16", "Gemm_4:1:FP16", "none:0:FP16"):
        with pytest.raises(UserError) as caught:
            flags.output_dtypes([f"--output_type={text}"], outputs, classifier())
        assert caught.value.found == text


@pytest.mark.parametrize(
    ("text", "part", "hint"),
    [
        ("--soc_version=Ascend310", "--soc_version", "SOC="),
        ("--input-shape=image:1,3,16,16", "--input_shape", "BATCH="),
        ("--model=x.onnx", "--model", "ONNX="),
        ("--insert_op_conf=a.cfg", "--insert_op_conf", "INPUT=uint8"),
        ("--dynamic_dims=1;2", "--dynamic_dims", "GEARS"),
        ("--mode=1", "--mode", "OM="),
        ("--external_weight=1", "--external_weight", "OM="),
        ("--input_fp16_nodes=image", "--input_fp16_nodes", "OM="),
        ("keep_dtype=x", "keep_dtype=x", ""),
        ("--keep_dtype", "--keep_dtype", ""),
        ("--keep_dtype=none.cfg", "none.cfg", ""),
        ("--log=error -x", "-x", ""),
    ],
)
@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
@pytest.mark.usefixtures("here", "atc")
def test_flags_that_the_pipeline_sets_itself_are_rejected(
    output: str, text: str, part: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, given(text, output))
    assert part in line and hint in line and line.count("\n") == 1


@pytest.mark.usefixtures("atc")
def test_a_second_choice_of_precision_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "--precision_mode=allow_mix_precision"
    assert convert.main(given(text)) == 0
    assert seen_by_atc("a.om")["precision_mode"] == "allow_mix_precision"
    assert "PRECISION=default" in error_line(capsys, [*given(text), "--precision", "fp16"])
    assert "TUNE=none" in error_line(capsys, [*given("--log=debug"), "--tune", "aoe"])


@pytest.mark.parametrize(
    ("text", "output", "precision"),
    [
        ("", "a.om", "fp16"),
        ("", "a.onnx", "fp32"),
        ("--precision_mode=allow_mix_precision", "a.om", "allow_mix_precision"),
        ("--log=info --precision-mode-v2=fp16", "a.om", "fp16"),
        ("--precision_mode=force_fp32", "a.om", "force_fp32"),
        ("--precision_mode=force_fp32 --precision_mode=force_fp16", "a.onnx", "force_fp16"),
    ],
)
@pytest.mark.usefixtures("here", "atc")
def test_the_record_has_the_precision_of_the_flags(text: str, output: str, precision: str) -> None:
    assert convert.main(given(text, output)) == 0
    assert CompiledModel.read(output).metadata["precision"] == precision


@pytest.mark.usefixtures("here")
def test_the_emulator_checks_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(given("--op_select_implmode=high_precision --oo_level=O3", "a.onnx")) == 0
    assert "unknown command line flag 'keepdtype'" in error_line(capsys, given("--keepdtype=1", "a.onnx"))
    assert convert.main(given("--output_type=FP16", "a.onnx")) == 1
    assert "E10055" in capsys.readouterr().out, "not emulated"


@pytest.mark.usefixtures("here", "atc")
def test_an_unknown_flag_reaches_atc(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that is not in our rules is passed to atc, and its error is shown."""
    assert convert.main(given("--of_a_later_release=1")) == 1
    assert "unknown command line flag 'of_a_later_release'" in capsys.readouterr().out
