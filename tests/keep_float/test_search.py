"""keep_float.search: in models that lose accuracy on purpose, the operators to keep in float are found, or the model is
rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amct import quantize
from atc import convert
from hrnet.io.records import read_record
from keep_float import search
from keep_float.steps import Step
from tests.support import broken_models
from tests.support.errors import check_error
from tests.support.onnx_models import classifier, results

pytestmark = pytest.mark.usefixtures("emulators_in_process")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(precision: str) -> list[str]:
    return Path(f"keep/{precision}.txt").read_text().splitlines()


def error(model: str, batch: int = 4) -> float:
    """The largest difference of a compiled model's outputs from float32, relative to the largest output."""
    values = np.concatenate([np.fromfile(f"inputs/img{i}.bin", np.float32) for i in range(batch)])
    values = values.reshape(batch, 3, broken_models.SIDE, broken_models.SIDE)
    expected, found = results(Path("model.onnx"), values), results(Path(model), values)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compile_model(output: str, *more: str) -> None:
    assert convert.main(["--model", "model.onnx", "--batch_size", "4", "--output", output, *more]) == 0


def test_an_overflow_in_float16_is_repaired(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_models.write(here, broken_models.overflowing())
    assert search.main(broken_models.arguments("fp16")) == 0
    assert lines("fp16") == ["/large/Mul", "/small/Mul"], (
        "the operator that overflows, and the one that reads its result"
    )
    assert "/large/Mul" in capsys.readouterr().out
    compile_model("plain.onnx", "--precision", "fp16")
    compile_model("kept.onnx", "--precision", "fp16", "--keep_float", "keep/fp16.txt")
    assert not np.isfinite(error("plain.onnx")) and error("kept.onnx") < 1e-3
    record = read_record("keep/fp16.json", "keep_float")
    first, second = record["steps"][:2]
    assert (first["operators"], first["divergence"], second["operators"]) == (0, None, 2)
    assert second["divergence"] < 1e-5 and second["images_per_second"] > 0
    assert record["operators"] == lines("fp16") and len(record["images"]) == broken_models.IMAGES


def test_an_overflow_that_a_convolution_reads_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_models.write(here, broken_models.unfixable())
    assert search.main(broken_models.arguments("fp16")) == 1
    check_error(
        capsys.readouterr().err, "keep_float.search", "no list of operators avoids", "/last/Conv", "at most 65504"
    )
    assert not Path("keep/fp16.txt").exists()


def test_an_outlier_channel_in_int8_is_repaired(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_models.write(here, broken_models.outlier())
    assert search.main(broken_models.arguments("int8")) == 0
    lines_of_steps = ("start: ", "try ", "keep ", "drop ")
    steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith(lines_of_steps)]
    assert steps[0].startswith("start: ")
    for line in steps:
        assert line.endswith("in float") == line.startswith(("start:", "try ")), (
            f"{line}: only lines that start with keep or drop end with `: accepted` or `: not accepted`"
        )
    assert [line for line in steps if "/last/Conv" in line and line.endswith(" 1 operator in float: accepted")]
    assert lines("int8") == ["/last/Conv"], "its input has the outlier"
    for output, more in (("a/model_deploy_model.onnx", []), ("b/model_deploy_model.onnx", ["keep/int8.txt"])):
        words = ["--model", "model.onnx", "--inputs", "inputs", "--output", output]
        assert quantize.main([*words, *(word for path in more for word in ("--keep_float", path))]) == 0
        compile_model(f"{output[0]}.onnx", "--precision", "int8", "--quantized", output)
    assert error("a.onnx") > 0.1 and error("b.onnx") < 0.02
    record = read_record("keep/int8.json", "keep_float")
    assert record["method"] in ("minmax", "percentile", "entropy") and record["candidates"] == 4
    divergences = [step["divergence"] for step in record["steps"] if step["accepted"]]
    assert divergences[-1] < divergences[0] / 100
    assert "/last/Conv" in Path("keep/int8.md").read_text()


def test_a_fixed_batch_is_never_cut(here: Path) -> None:
    """At least 8 images are compared operator by operator: with a fixed batch of 3, they are 9, in three whole batches.
    A smaller last batch once ended in a traceback of the Reshape."""
    model = broken_models.overflowing()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    reshape = onnx.helper.make_node("Reshape", [flatten.input[0], "shape"], list(flatten.output), "Reshape_3")
    model.graph.node[list(model.graph.node).index(flatten)].CopyFrom(reshape)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, -1]), "shape"))
    broken_models.write(here, model)
    assert search.main(broken_models.arguments("fp16")) == 0
    assert lines("fp16") == ["/large/Mul", "/small/Mul"]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_good_model_keeps_nothing(here: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken_models.write(here, classifier())
    assert search.main(broken_models.arguments(precision)) == 0
    record = read_record(f"keep/{precision}.json", "keep_float")
    if precision == "fp16":
        assert lines(precision) == [] == record["operators"] and len(record["steps"]) == 1
        assert "no operator needs to stay in float" in capsys.readouterr().out
    assert search.main(broken_models.arguments(precision)) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_printed_line_does_not_deny_gains_below_5_percent() -> None:
    """An operator that reduces the divergence by less than 5% is not kept. So the printed line reports only that no
    operator reduces it by 5% or more."""
    start = Step("start", 0, 0.5, 3, 1.0, accepted=True)
    expected = "divergence 5.00e-01 -> 5.00e-01; no operator that was tried reduces it by 5% or more"
    assert search.summary([], [start, Step("try /a/Conv", 1, 0.49, 3, 1.0)]) == expected
    kept = [start, Step("keep /a/Conv", 1, 0.1, 0, 1.0, accepted=True)]
    assert search.summary(["/a/Conv"], kept) == "divergence 5.00e-01 -> 1.00e-01; 1 operator in float: /a/Conv"


def test_fewer_images_than_a_usual_batch(here: Path) -> None:
    """A model that accepts any batch size works with any number of images."""
    broken_models.write(here, broken_models.outlier(), images=3)
    assert search.main(broken_models.arguments("int8")) == 0
    assert lines("int8") == ["/last/Conv"]
    assert len(read_record("keep/int8.json", "keep_float")["images"]) == 3


def test_a_changed_input_searches_again(here: Path) -> None:
    broken_models.write(here, broken_models.outlier())
    assert search.main(broken_models.arguments("int8")) == 0
    first = read_record("keep/int8.json", "keep_float")["steps"][0]["divergence"]
    np.zeros(3 * broken_models.SIDE**2, np.float32).tofile("inputs/img0.bin")
    assert search.main(broken_models.arguments("int8")) == 0
    assert read_record("keep/int8.json", "keep_float")["steps"][0]["divergence"] != first


def test_unsuitable_models_and_inputs_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_models.write(here, classifier(opset=18))
    assert search.main(broken_models.arguments("int8")) == 2
    check_error(capsys.readouterr().err, "keep_float.search", "model.onnx", "opset", 18)
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 32
    broken_models.write(here, model)
    assert search.main(broken_models.arguments("int8")) == 2
    check_error(capsys.readouterr().err, "keep_float.search", "inputs", "fewer images", "CALIB=32")
    model = classifier()
    for node in model.graph.node:
        node.name = ""
    broken_models.write(here, model)
    assert search.main(broken_models.arguments("int8")) == 2
    check_error(capsys.readouterr().err, "keep_float.search", "model.onnx", "no names")
    onnx.save(classifier(), "model.onnx")
    Path("inputs/img3.bin").write_bytes(b"short")
    assert search.main(broken_models.arguments("int8")) == 2
    check_error(capsys.readouterr().err, "keep_float.search", "img3.bin")
