"""Chips: their names for atc, names that only atc knows, and what some of them lack: AIPP, tuning, 256 gears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from atc import atc_rules, convert
from atc.emulator import main
from atc.shapes import AtcError
from hrnet import cann
from hrnet.io.compiled import CompiledModel, TensorInfo
from tests.atc.calls import arguments, error_line, seen_by_atc
from tests.atc.rule_calls import DIMS, check, rule_error
from tests.support.atc_arguments import command_of
from tests.support.onnx_models import pixels, results

pytestmark = pytest.mark.usefixtures("emulators_in_process")

# fmt: off
NAMES = [
    "310", "310P1", "310P2", "310P3", "310P4", "310P5", "310P7", "310P3Vir01", "310P3Vir08", "310B1", "310B4", "910",
    "910A", "910B", "910B1", "910B2C", "910B4", "910B4-1", "910ProA", "910PremiumA", "910_9391", "910_9363",
    "950PR_9589", "950DT_9582",
]
# fmt: on


@pytest.mark.parametrize("name", NAMES)
def test_chip_names_are_read_in_any_case_with_or_without_ascend(name: str) -> None:
    for text in (name, f"Ascend{name}", f"ascend{name.lower()}", name.lower(), f"ASCEND{name.upper()}"):
        assert cann.chip_name(text) == f"Ascend{name}"
    atc_rules.check_arguments({"framework": "5", "model": "m", "output": "o", "soc_version": f"Ascend{name}"})


@pytest.mark.parametrize(
    ("text", "name"),
    [("Ascend310P9", "Ascend310P9"), ("ascend960x", "Ascend960x"), ("v100", "v100"), ("P3", "P3"), ("", "")],
)
def test_an_unknown_chip_name_is_passed_on(text: str, name: str) -> None:
    assert cann.chip_name(text) == name


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("Acsend310P3", "Ascend310P3"),
        ("Ascend31OP3", "Ascend310P3"),
        ("310PE3", "Ascend310P3"),
        ("Ascend910B4_1", "Ascend910B4-1"),
        ("Ascend910-9391", "Ascend910_9391"),
        ("asend310b4", "Ascend310B4"),
    ],
)
def test_a_misspelt_chip_name_gets_the_nearest_one(text: str, nearest: str) -> None:
    assert cann.nearest_chip(text) == nearest


@pytest.mark.parametrize(
    "chip",
    [
        "310P5",
        "Ascend910_9391",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ascend910b4-1", "950PR_9589")),
    ],
)
@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
@pytest.mark.usefixtures("here", "atc")
def test_atc_and_its_emulator_get_the_name(chip: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(arguments(output, "--soc_version", chip, "--batch_size", "1")) == 0
    name = cann.chip_name(chip)
    assert f"--soc_version={name}" in CompiledModel.read(output).command
    assert (f"using {name}" in capsys.readouterr().out) == (chip != name)
    if output.endswith(".om"):
        assert seen_by_atc(output)["soc_version"] == name


@pytest.mark.usefixtures("here", "atc")
def test_atc_decides_on_a_chip_that_is_not_in_our_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(arguments("a.om", "--soc_version", "Ascend310P33")) == 1
    out, err = capsys.readouterr()
    assert "Ascend310P33" in out.splitlines()[0] and "did you mean Ascend310P3?" in out.splitlines()[0]
    assert "E10001: [PID: " in out, "atc was asked"
    assert "SOC=Ascend310P3?" in err and err.count("\n") == 1
    assert convert.main(arguments("a.onnx", "--soc_version", "Ascend310P33", "--batch_size", "1")) == 0


@pytest.mark.usefixtures("here", "atc")
def test_a_value_that_is_not_a_chip_name_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("a.om", "a.onnx"):
        line = error_line(capsys, arguments(output, "--soc_version", "Acsend310P3"))
        assert "Acsend310P3" in line and "did you mean Ascend310P3?" in line


@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
@pytest.mark.usefixtures("atc")
def test_a_chip_without_aipp_normalises_in_the_graph(output: str, here: Path, cfg: str) -> None:
    words = ["--batch_size", "4", "--input_dtype", "uint8", "--cfg", cfg, "--soc_version", "950PR_9589"]
    assert convert.main(arguments(output, *words)) == 0
    assert (here / "a.pixels.onnx").is_file() and not (here / "a.aipp.cfg").exists()
    record = CompiledModel.read(output)
    assert record.inputs == [TensorInfo("image", "uint8", [4, 32, 32, 3])]
    assert record.outputs == [TensorInfo("class", "float32", [4, 10])]
    assert "--input_format=ND" in record.command and "--input_shape=image:4,32,32,3" in record.command
    assert not [word for word in record.command if word.startswith("--insert_op_conf")]
    if output == "a.onnx":
        given = pixels(4, 32)
        low, factor = np.array([0.5, 0, 1]), np.array([0.229, 0.224, 0.225])
        planes = ((given / 255 - low) / factor).transpose(0, 3, 1, 2).astype(np.float32)
        wanted = onnxruntime.InferenceSession("model.onnx").run(None, {"image": planes})[0]
        np.testing.assert_allclose(results(here / output, given), wanted, atol=1e-4)
    before = (here / "a.pixels.onnx").read_bytes()
    (here / "a.pixels.onnx").unlink()
    assert convert.main(arguments(output, *words)) == 0
    assert (here / "a.pixels.onnx").read_bytes() == before, "written again, since the printed command reads it"
    assert onnx.load(str(here / "a.pixels.onnx")).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_sizes_that_differ_from_the_config_are_rejected_without_aipp(
    here: Path, cfg: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / cfg).write_text("MODEL: {IMAGE_SIZE: [64, 64]}\nINPUT: {RESIZE: 64}\n")
    words = ["--input_dtype", "uint8", "--cfg", cfg, "--soc_version", "950PR_9589"]
    assert "(expected [3, 64, 64]" in error_line(capsys, arguments("a.onnx", *words))


def test_a_950_accepts_256_gears() -> None:
    gears = [";".join(f"{32 * (n + 1)},512" for n in range(count)) for count in (256, 257)]
    check({**DIMS, "dynamic_dims": gears[0], "soc_version": "Ascend950PR_9589"})
    assert "257 profiles, which is greater than the maximum 256" in rule_error(
        {**DIMS, "dynamic_dims": gears[1], "soc_version": "Ascend950DT_9582"}
    )
    assert "256 profiles, which is greater than the maximum 100" in rule_error({**DIMS, "dynamic_dims": gears[0]})


@pytest.mark.parametrize("chip", ["910B4", "Ascend910B1", "910b4-1", "910B2C", "Ascend910_9391", "910_9362"])
def test_aoe_is_rejected_for_a2_and_a3(
    chip: str, here: Path, aoe: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, arguments("a.om", "--tune", "aoe", "--soc_version", chip))
    assert "aoe" in line and cann.chip_name(chip) in line and "TUNE=none" in line


@pytest.mark.parametrize("chip", ["310", "310P3", "310B1", "910A", "910ProB"])
def test_aoe_is_accepted_for_other_chips(chip: str, here: Path, aoe: pytest.MonkeyPatch) -> None:
    assert convert.main(arguments("a.om", "--tune", "aoe", "--soc_version", chip, "--batch_size", "1")) == 0


# fmt: off
VALID = [
    "host_env_os", "host_env_cpu", "input_hint_shape", "op_debug_config", "deterministic_level", "status_check",
    "shape_generalized_build_mode", "sparsity", "oo_level", "optimization_switch", "build_config", "cluster_config",
    "allow_hf32", "jit_compile",
]
# fmt: on


@pytest.mark.parametrize("flag", VALID)
def test_the_emulator_accepts_flags_that_only_concern_atc(flag: str, here: Path) -> None:
    assert main.main(command_of(here, input_shape="image:1,3,16,16", **{flag: "1"})) == 0
    compiled = onnx.load(str(here / "out.onnx"))
    assert {entry.key: entry.value for entry in compiled.metadata_props}[f"atc.{flag}"] == "1"


def test_singleop_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(command_of(here, singleop="op.json")) == 255
    assert "E10055" in capsys.readouterr().out
    with pytest.raises(AtcError, match="unknown command line flag"):
        atc_rules.parse(["--single_op=op.json"])
