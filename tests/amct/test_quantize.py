"""amct.quantize: the command for amct_onnx or its emulator, its checks, its record, and reruns."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amct import quantize
from atc import convert
from hrnet.calibration import IMAGES, name_hash
from hrnet.io.compiled import CompiledModel
from hrnet.io.quantized import QuantizedModel
from tests.amct.calls import OUTPUT, arguments, inputs
from tests.support.errors import check_error
from tests.support.gear_model import gear_folder
from tests.support.onnx_models import classifier, maps, saved
from tests.support.reference_pixels import normalise

OM = ["--model", "model.onnx", "--batch_size", "4", "--precision", "int8", "--quantized", OUTPUT]


def shown(out: str) -> list[str]:
    """The command that was printed, without the tool."""
    line = next(line for line in out.splitlines() if " calibration " in line)
    return shlex.split(line.partition(" calibration ")[2])


@pytest.mark.usefixtures("here")
def test_the_emulator_gets_whole_batches(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments()) == 0
    words = shown(capsys.readouterr().out)
    given = dict(zip(words[::2], words[1::2]))
    assert given == {
        "--model": "model.onnx",
        "--save_path": "int8/model",
        "--input_shape": "image:8,3,16,16",
        "--data_dir": "int8/batches",
        "--data_types": "float32",
        "--batch_num": "1",
    }
    joined = np.concatenate([np.fromfile(f"inputs/img{i}.bin", np.float32) for i in range(8)])
    assert np.array_equal(np.fromfile("int8/batches/batch_00000.bin", np.float32), joined)
    record = QuantizedModel.read(OUTPUT, "model.onnx")
    assert record.tool == "amct.emulator" and record.batch == 8 and len(record.images) == 8
    assert record.calibration["int8.method"] in ("percentile", "entropy", "minmax")
    assert not list(Path("int8").glob(".amct*"))


@pytest.mark.parametrize(("count", "batch"), [(64, 16), (63, 9), (17, 1), (6, 6)])
def test_all_images_are_used(count: int, batch: int) -> None:
    assert quantize.batch_size(None, count, Path("inputs")) == batch


@pytest.mark.usefixtures("here", "emulators_in_process")
def test_a_rerun_does_nothing_until_something_changes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments()) == 0
    before = Path(OUTPUT).read_bytes()
    assert quantize.main(arguments()) == 0
    assert "up to date" in capsys.readouterr().out
    np.zeros(3 * 16 * 16, np.float32).tofile("inputs/img0.bin")
    assert quantize.main(arguments()) == 0
    assert Path(OUTPUT).read_bytes() != before
    inputs(here / "inputs", 6)
    assert quantize.main(arguments()) == 0
    assert len(QuantizedModel.read(OUTPUT, "model.onnx").images) == 6


@pytest.mark.usefixtures("here", "tools")
def test_atc_compiles_the_deploy_model_of_amct_onnx(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments(backend="ascend")) == 0
    assert "\namct_onnx calibration --model model.onnx" in "\n" + capsys.readouterr().out
    assert convert.main([*OM, "--output", "m.om", "--backend", "ascend"]) == 0
    out = capsys.readouterr().out
    command = next(line for line in out.splitlines() if line.startswith("atc "))
    assert f"--model={OUTPUT}" in command.split() and "--precision_mode" not in command
    head = json.loads(Path("m.om").read_bytes().partition(b"\n")[0][4:])
    assert Path(head["model"]).name == "model_deploy_model.onnx"
    compiled = CompiledModel.read("m.om")
    assert [each.shape for each in compiled.outputs] == [[4, 10]] and compiled.metadata["int8.tool"] == "amct_onnx"
    assert name_hash("train/3/img3.png") in compiled.metadata[IMAGES].split()


@pytest.mark.usefixtures("here", "tools")
@pytest.mark.parametrize(
    ("mode", "part"),
    [("nothing", "wrote no"), ("crash", "exit code 1"), ("float", "quantized no"), ("renamed", "class_new")],
)
def test_a_tool_that_fails(mode: str, part: str, tools: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tools.setenv("FAKE_AMCT", mode)
    assert quantize.main(arguments(backend="ascend")) == 1
    check_error(capsys.readouterr().err, "amct.quantize", "amct_onnx", part)
    assert not Path(OUTPUT).exists()


@pytest.mark.usefixtures("here")
def test_a_missing_amct_onnx(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert quantize.main(arguments(backend="ascend")) == 2
    check_error(capsys.readouterr().err, "amct.quantize", "amct_onnx is not on PATH", "set_env.sh")


def test_unsuitable_models_and_inputs_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rejected(*parts: object) -> None:
        assert quantize.main(arguments()) == 2
        check_error(capsys.readouterr().err, "amct.quantize", *parts)

    inputs(here / "inputs", 8, "uint8")
    rejected("float32", "found uint8")
    inputs(here / "inputs", 8)
    Path("inputs/img3.bin").write_bytes(b"short")
    rejected("inputs/img3.bin", "make quantize")
    inputs(here / "inputs", 8)
    saved(here, classifier(size=32))
    rejected("inputs/manifest.json", "[3, 32, 32]")
    saved(here, classifier(size="side"))
    rejected("inputs/manifest.json", "float32 in .npy", "found float32 in .bin")
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "w"
    saved(here, model)
    rejected("model.onnx", "fixed C, H and W")
    saved(here, classifier(opset=18))
    rejected("model.onnx", "opset", "8 to 14", 18)
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    saved(here, model)
    rejected("fewer images", "at least 16", "found 8", "CALIB=16")
    nodes = [onnx.helper.make_node("QuantizeLinear", ["c", "scale"], ["q"], "Quantize_9")]
    model = classifier(opset=13)
    model.graph.node.extend(nodes)
    saved(here, model)
    rejected("model.onnx", "already quantized", "Quantize_9", "float32 ONNX file")


GEARS_YAML = """
MODEL: {NAME: pose_higher_hrnet}
DATASET: {INPUT_SIZE: 64}
TEST: {PROJECT2IMAGE: true, NMS_KERNEL: 5, NMS_PADDING: 2}
INPUT: {GEARS: [[64, 64], [64, 128]]}
"""


@pytest.fixture
def pose(here: Path) -> list[str]:
    """A model with gears, its calibration inputs and config; the arguments of atc.convert."""
    saved(here, maps())
    shutil.rmtree("inputs")
    gear_folder(here / "inputs", 8)
    (here / "pose.yaml").write_text(GEARS_YAML)
    return ["--cfg", "pose.yaml", *OM[:2], "--batch_size", "1", *OM[4:]]


@pytest.mark.usefixtures("emulators_in_process")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_model_with_gears_is_quantized_by_the_emulator(
    pose: list[str], dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize.main(arguments()) == 0
    out = capsys.readouterr().out
    assert "--input_shape image:1,3,-1,-1" in out and len(list(Path("int8/batches").glob("*.npy"))) == 8
    assert convert.main([*pose, "--output", "m.onnx", "--input_dtype", dtype]) == 0
    record = CompiledModel.read("m.onnx")
    assert [gear.input[-2:] for gear in record.gears] == [[64, 64], [64, 128]] or dtype == "uint8"
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == ("tensor(float)" if dtype == "float32" else "tensor(uint8)")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 128, 3)).astype(np.uint8)
    planes = normalise(pixels[0])[None]
    given = planes if dtype == "float32" else pixels
    found = session.run(["low", "high"], {"image": given})
    plain = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    for wanted, got in zip(plain.run(["low", "high"], {"image": planes}), found):
        assert 0 < np.abs(got - wanted).mean() < 0.1 * np.abs(wanted).mean()
        assert np.unique(got).size > 256, "maps are not rounded to 256 values"


@pytest.mark.usefixtures("tools", "emulators_in_process")
def test_models_with_gears_are_rejected_for_amct_onnx_and_atc(
    pose: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize.main(arguments(backend="ascend")) == 2
    check_error(capsys.readouterr().err, "amct.quantize", "model.onnx", "gears", "PRECISION=fp16")
    assert quantize.main(arguments()) == 0
    assert convert.main([*pose, "--output", "m.om", "--backend", "ascend"]) == 2
    check_error(capsys.readouterr().err, "atc.convert", OUTPUT, "gears", "PRECISION=fp16")


@pytest.mark.usefixtures("here", "tools", "emulators_in_process")
@pytest.mark.parametrize("backend", ["onnxruntime", "ascend"])
def test_uint8_pixels_are_normalised_in_the_int8_model_for_chips_without_aipp(here: Path, backend: str) -> None:
    (here / "net.yaml").write_text("MODEL: {NAME: onnx, NUM_CLASSES: 10, IMAGE_SIZE: [16, 16]}\nINPUT: {RESIZE: 16}\n")
    assert quantize.main(arguments(backend=backend)) == 0
    output = "m.om" if backend == "ascend" else "m.onnx"
    words = ["--cfg", "net.yaml", *OM, "--output", output, "--input_dtype", "uint8", "--backend", backend]
    assert convert.main([*words, "--soc_version", "Ascend950PR_9599"]) == 0
    given = onnx.load("m.pixels.onnx")
    assert [node.op_type for node in given.graph.node[:4]] == ["Transpose", "Cast", "Sub", "Mul"]
    (reader,) = (node for node in given.graph.node if given.graph.node[3].output[0] in node.input)
    assert reader.op_type == ("AscendQuant" if backend == "ascend" else "QuantizeLinear")
    assert CompiledModel.read(output).inputs[0].shape == [4, 16, 16, 3]
    Path("m.pixels.onnx").unlink()
    assert convert.main([*words, "--soc_version", "Ascend950PR_9599"]) == 0
    assert Path("m.pixels.onnx").is_file(), "the printed command needs it"


@pytest.mark.usefixtures("here", "emulators_in_process")
def test_the_emulator_of_atc_compiles_int8_models_but_rejects_gears_and_force_fp32(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from atc.emulator import main as emulator

    assert quantize.main(arguments()) == 0
    assert convert.main([*OM, "--output", "m.onnx"]) == 0
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load("m.onnx").graph.node)
    common = ["--framework=5", f"--model={OUTPUT}", "--output=x", "--soc_version=Ascend310P3"]
    capsys.readouterr()
    for shape, rejected in (
        ("image:4,3,16,16", "--precision_mode=force_fp32"),
        ("image:-1,3,16,16", "--dynamic_dims=1;4"),
    ):
        assert emulator.main([*common, "--input_format=ND", f"--input_shape={shape}", rejected]) == 255
        assert "E10055: The operation is not supported. Reason: A quantized model" in capsys.readouterr().out
    assert not Path("x.onnx").exists()


@pytest.mark.usefixtures("here", "emulators_in_process")
def test_convert_rejects_an_int8_model_that_does_not_belong_to_the_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize.main(arguments()) == 0
    for words, parts in (
        (["--model", "model.onnx", "--precision", "int8"], ("--quantized",)),
        (["--model", "model.onnx", "--precision", "fp32", "--quantized", OUTPUT], ("--precision fp32",)),
    ):
        assert convert.main([*words, "--output", "m.onnx"]) == 2
        check_error(capsys.readouterr().err, "atc.convert", *parts)
    saved(here, classifier(opset=12))
    assert convert.main([*OM, "--output", "m.onnx"]) == 2
    check_error(capsys.readouterr().err, "atc.convert", OUTPUT, "another ONNX file", "make quantize")
    saved(here, classifier())
    Path(OUTPUT).write_bytes(b"x")
    assert convert.main([*OM, "--output", "m.onnx"]) == 2
    check_error(capsys.readouterr().err, "atc.convert", OUTPUT, "damaged")
