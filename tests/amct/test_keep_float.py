"""amct.quantize --keep_float and --method: the config file for amct_onnx, the record, and reruns."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from amct import quantize
from hrnet.io.quantized import QuantizedModel
from tests.amct.calls import OUTPUT, arguments
from tests.support.errors import check_error

pytestmark = pytest.mark.usefixtures("emulators_in_process")

CONFIG = Path("int8/calibration.cfg")


def keep(*names: str) -> list[str]:
    Path("keep.txt").write_text("".join(f"{name}\n" for name in names))
    return ["--keep_float", "keep.txt"]


@pytest.mark.usefixtures("here", "tools")
@pytest.mark.parametrize("backend", ["ascend", "onnxruntime"])
def test_layers_are_skipped(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A ReLU is not a layer that amct_onnx quantizes."""
    assert quantize.main(arguments(*keep("Gemm_4", "Relu_1"), backend=backend)) == 0
    assert CONFIG.read_text() == 'skip_layers: "Gemm_4"\n'
    assert f"--calibration_config {CONFIG}" in capsys.readouterr().out
    record = QuantizedModel.read(OUTPUT, "model.onnx")
    assert record.metadata()["keep_float"] == "1" and record.command[-2:] == ["--calibration_config", str(CONFIG)]
    model = onnx.load(OUTPUT)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if backend == "ascend":
        assert metadata["fake_amct.skipped"] == "Gemm_4"
    else:
        (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
        assert gemm.input[1] == "linear" and metadata["amct.calibration_config"] == "calibration.cfg"


@pytest.mark.usefixtures("here", "tools")
@pytest.mark.parametrize("names", [(), ("Relu_1",)])
def test_without_layers_there_is_no_file(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments(*keep(*names), backend="ascend")) == 0
    assert "--calibration_config" not in capsys.readouterr().out and not CONFIG.exists()
    assert QuantizedModel.read(OUTPUT, "model.onnx").metadata()["keep_float"] == "0"


@pytest.mark.usefixtures("here")
def test_all_layers_may_be_kept() -> None:
    assert quantize.main(arguments(*keep("OpType::Conv2D", "Gemm_4"))) == 0
    assert not any(node.op_type == "QuantizeLinear" for node in onnx.load(OUTPUT).graph.node)


@pytest.mark.usefixtures("here")
def test_a_changed_list_quantizes_again(capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for names in (("Gemm_4",), ("Gemm_4", "Relu_1"), ("Conv_0",)):
        assert quantize.main(arguments(*keep(*names))) == 0
        made.append((Path(OUTPUT).read_bytes(), "up to date" in capsys.readouterr().out))
    assert [current for _, current in made] == [False, True, False], "a ReLU changes nothing"
    assert made[0][0] == made[1][0] != made[2][0]


@pytest.mark.usefixtures("here")
def test_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments("--method", "entropy")) == 0
    assert QuantizedModel.read(OUTPUT, "model.onnx").metadata()["int8.method"] == "entropy"
    assert quantize.main(arguments("--method", "minmax")) == 0
    assert QuantizedModel.read(OUTPUT, "model.onnx").metadata()["int8.method"] == "minmax"
    capsys.readouterr()
    assert quantize.main(arguments("--method", "minmax", backend="ascend")) == 2
    check_error(capsys.readouterr().err, "amct.quantize", "--method minmax", "PRECISION=int8")


@pytest.mark.usefixtures("here")
def test_an_unknown_operator_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(arguments(*keep("Conv_9"))) == 2
    check_error(capsys.readouterr().err, "amct.quantize", "keep.txt", "Conv_9")
    assert quantize.main(arguments("--keep_float", "none.txt")) == 2
    check_error(capsys.readouterr().err, "amct.quantize", "none.txt", "KEEP_FLOAT=auto")
