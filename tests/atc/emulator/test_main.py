"""atc.emulator: the file, the screen text, and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from atc import atc_rules, graph
from atc.atc_command import render_aipp
from atc.emulator import main
from tests.support import ROOT
from tests.support.atc_arguments import command_of
from tests.support.onnx_models import classifier, images, interface, pyramid, results, saved, without_kernel

NORMAL = [0.5] * 3, [0.5] * 3  # mean and std


@pytest.fixture(autouse=True)
def source(tmp_path: Path) -> Path:
    """model.onnx, which the emulator's arguments name."""
    return saved(tmp_path, classifier())


def error_of(folder: Path, capsys: pytest.CaptureFixture[str], **changes: str) -> str:
    """The error line of a run that must fail, print ATC's text and write no file."""
    assert main.main(command_of(folder, **changes)) == 255
    start, dots, failure, error = capsys.readouterr().out.splitlines()
    assert (start, dots, failure) == (atc_rules.START, "...", atc_rules.FAILURE)
    assert [path.name for path in folder.iterdir() if path.name.startswith(("out", "."))] == []
    return error


@pytest.mark.parametrize("batch", [1, 16])
def test_static_batch_equals_the_dynamic_model(source: Path, batch: int, tmp_path: Path) -> None:
    assert main.main(command_of(tmp_path, input_shape=f"image:{batch},3,16,16")) == 0
    compiled = tmp_path / "out.onnx"
    wanted = results(source, images(batch))
    np.testing.assert_allclose(results(compiled, images(batch)), wanted, rtol=0, atol=1e-6)
    assert [shape for _, _, shape in interface(compiled)] == [[batch, 3, 16, 16], [batch, 10]]
    with pytest.raises(Exception, match="invalid dimensions"):
        results(compiled, images(batch + 1))


def test_the_file_has_metadata_operators_and_mode(tmp_path: Path) -> None:
    assert main.main(command_of(tmp_path, buffer_optimize="off_optimize", op_select_implmode="high_precision")) == 0
    path = tmp_path / "out.onnx"
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "model": "hrnet_w18",
        "weights_sha256": "ab" * 32,
        "atc.framework": "5",
        "atc.model": "model.onnx",
        "atc.input_format": "NCHW",
        "atc.input_shape": "image:16,3,16,16",
        "atc.output": "out",
        "atc.soc_version": "Ascend310P3",
        "atc.log": "error",
        "atc.buffer_optimize": "off_optimize",
        "atc.op_select_implmode": "high_precision",
    }
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 11)}
    assert {node.domain for node in model.graph.node} == {""}
    assert path.stat().st_mode & 0o777 == 0o640
    onnx.checker.check_model(model, full_check=True)


def test_the_same_model_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        saved(folder, classifier())
        assert main.main(command_of(folder)) == 0
        files.append((folder / "out.onnx").read_bytes())
    assert files[0] == files[1]


def test_the_model_zoos_command_is_accepted(source: Path, tmp_path: Path) -> None:
    onnx.save(classifier(size=224), tmp_path / "hrnet_w18.onnx")
    source.unlink()
    words = (
        "--framework=5 --model=./hrnet_w18.onnx --input_format=NCHW --input_shape=image:16,3,224,224 "
        "--output=hrnet_bs16 --log=debug --soc_version=Ascend310"
    )
    done = subprocess.run(
        [sys.executable, "-m", "atc.emulator", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [atc_rules.START, "...", atc_rules.SUCCESS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hrnet_bs16.onnx", "hrnet_w18.onnx"]


def test_the_ending_is_always_added(tmp_path: Path) -> None:
    assert main.main(command_of(tmp_path, output=str(tmp_path / "new" / "x.onnx"))) == 0
    assert (tmp_path / "new" / "x.onnx.onnx").is_file()


def test_minus_one_without_gears_is_dynamic(source: Path, tmp_path: Path) -> None:
    assert main.main(command_of(tmp_path, input_shape="image:-1,3,16,16")) == 0
    for batch in (1, 5):
        found = results(tmp_path / "out.onnx", images(batch))
        np.testing.assert_allclose(found, results(source, images(batch)), rtol=0, atol=1e-6)


def test_a_fixed_batch_can_be_changed_as_by_atc(tmp_path: Path) -> None:
    model = classifier()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    saved(tmp_path, model)
    assert main.main(command_of(tmp_path)) == 0
    assert results(tmp_path / "out.onnx", images(16)).shape == (16, 10)


def test_precisions_that_are_float32_in_the_emulator(tmp_path: Path) -> None:
    for name, value in (
        ("precision_mode", "force_fp32"),
        ("precision_mode", "must_keep_origin_dtype"),
        ("precision_mode_v2", "origin"),
        ("output_type", "FP32"),
    ):
        assert main.main(command_of(tmp_path, **{name: value})) == 0
        assert "Cast" not in {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}


@pytest.mark.parametrize(("name", "value"), [("precision_mode", "force_fp16"), ("precision_mode_v2", "fp16")])
def test_float16_inside_and_float32_outside(source: Path, name: str, value: str, tmp_path: Path) -> None:
    assert main.main(command_of(tmp_path, **{name: value})) == 0
    compiled = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(compiled, full_check=True)
    assert graph.metadata_of(compiled)[f"atc.{name}"] == value
    shapes = [("image", "tensor(float)", [16, 3, 16, 16]), ("class", "tensor(float)", [16, 10])]
    assert interface(tmp_path / "out.onnx") == shapes
    found, wanted = (results(path, images(16)) for path in (tmp_path / "out.onnx", source))
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    assert 1e-5 < np.abs(found - wanted).max() < 2e-2


def test_invalid_aipp_files_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf, lost = tmp_path / "m.aipp.cfg", tmp_path / "none.cfg"
    invalid = "E10052: AIPP configuration is invalid. Reason:"
    missing = "is invalid. Reason: realpath error, errmsg:No such file or directory"
    assert error_of(tmp_path, capsys, insert_op_conf=str(lost)) == (
        f"E10001: Value {lost} for parameter --insert_op_conf {missing}"
    )
    conf.write_text(render_aipp(16, 32, *NORMAL))
    sizes = "aipp output_height:32, aipp output_width:16, data's height:16, data's width:16"
    assert error_of(tmp_path, capsys, insert_op_conf=str(conf)) == (
        f"{invalid} the data output H and W is not equal with aipp output H and W. {sizes}."
    )
    conf.write_text(render_aipp(16, 16, *NORMAL).replace("crop: false", "crop: true"))
    assert error_of(tmp_path, capsys, insert_op_conf=str(conf)).startswith(
        "E10055: The operation is not supported. Reason: The emulator of atc does not support crop: true in --insert_op"
    )
    conf.write_bytes(b"aipp_op { # \xff }")
    assert error_of(tmp_path, capsys, insert_op_conf=str(conf)) == f"{invalid} {conf} is not UTF-8 text."
    free = {"input_shape": "image:-1,3,16,16", "insert_op_conf": str(conf)}
    conf.write_text(render_aipp(16, 16, *NORMAL))
    assert error_of(tmp_path, capsys, **free).startswith(f"{invalid} static AIPP does not support an input with dyna")
    assert error_of(tmp_path, capsys, insert_op_conf=str(conf), input_format="ND").startswith(
        f"{invalid} aipp input fo"
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"precision_mode": "cube_fp16in_fp32out"}, "--precision_mode=cube_fp16in_fp32out"),
        ({"precision_mode": "allow_mix_precision"}, "--precision_mode=allow_mix_precision"),
        ({"precision_mode_v2": "mixed_float16"}, "--precision_mode_v2=mixed_float16"),
        ({"output_type": "FP16"}, "--output_type=FP16"),
        ({"out_nodes": "Gemm_4:0"}, "--out_nodes=Gemm_4:0, nodes instead of names of outputs"),
        ({"mode": "3"}, "--mode=3"),
        ({"input_shape": "image:-1,3,16,16", "dynamic_batch_size": "1,4"}, "--dynamic_batch_size=1,4"),
        ({"input_shape": "image:1~4,3,16,16"}, "a shape range (n1~n2) in --input_shape"),
    ],
)
def test_flags_that_are_not_emulated_are_rejected(
    changes: dict[str, str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = (
        f"E10055: The operation is not supported. Reason: The emulator of atc does not support {what}: remove it, or "
        "run atc itself."
    )
    assert error_of(tmp_path, capsys, **changes) == expected


def test_outputs_are_kept_by_name_and_in_that_order(tmp_path: Path) -> None:
    model = classifier()
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["batch", 8]))
    source = saved(tmp_path, model)
    wanted = onnxruntime.InferenceSession(str(source)).run(["f", "class"], {"image": images(16)})
    for names in (["f", "class"], ["class"]):
        assert main.main(command_of(tmp_path, out_nodes=";".join(names))) == 0
        session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"))
        assert [output.name for output in session.get_outputs()] == names
        for found, expected in zip(session.run(None, {"image": images(16)}), wanted[-len(names) :]):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


FREE = {"input_format": "ND", "input_shape": "image:1,3,-1,-1"}


@pytest.mark.parametrize("precision", [{}, {"precision_mode": "force_fp16"}], ids=str)
def test_gear_axes_stay_dynamic_and_gears_are_recorded(tmp_path: Path, precision: dict[str, str]) -> None:
    source = saved(tmp_path, classifier(size="side"))
    assert main.main(command_of(tmp_path, **FREE, dynamic_dims="16,32;64,16", **precision)) == 0
    assert graph.metadata_of(onnx.load(tmp_path / "out.onnx"))["atc.dynamic_dims"] == "16,32;64,16"
    shape, result = (shape for _, _, shape in interface(tmp_path / "out.onnx"))
    assert shape[:2] == [1, 3] and not any(isinstance(size, int) for size in shape[2:]) and result == [1, 10]
    for height, width in ((16, 32), (64, 16)):
        image = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
        found, wanted = (results(path, image) for path in (tmp_path / "out.onnx", source))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-2 if precision else 1e-6)


def test_gears_that_do_not_fit_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, pyramid(2))
    assert main.main(command_of(tmp_path, **FREE, dynamic_dims="16,16;16,18")) == 0
    capsys.readouterr()
    (tmp_path / "out.onnx").unlink()
    error = error_of(tmp_path, capsys, **FREE, dynamic_dims="16,16;16,17")
    start = (
        "E10001: Value 16,17 for parameter --dynamic_dims is invalid. Reason: The model does not run with this shape"
    )
    assert error.startswith(start) and "Sum" in error
    error = error_of(tmp_path, capsys, **FREE, dynamic_dims="16,16")
    assert error.startswith("E10035: ") and "has 1 profiles, which is less than the minimum 2." in error


def test_rules_are_checked_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(tmp_path, capsys, input_shape="img:16,3,16,16")
    assert error.startswith("E10016: Opname img specified in --input_shape is not found in the model.")
    assert main.main(["--modle=x"]) == 255
    assert capsys.readouterr().out.splitlines()[-1] == "E19999: unknown command line flag 'modle'"


@pytest.mark.parametrize("kept", [0, 1, 40, 0.5, -1], ids=str)
def test_a_truncated_model_is_rejected(
    source: Path, kept: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    assert error_of(tmp_path, capsys) == f"E10041: Failed to load the model from {source}."


def test_a_missing_file_and_another_kind_of_file_are_rejected(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.unlink()
    missing = "is invalid. Reason: realpath error, errmsg:No such file or directory"
    assert error_of(tmp_path, capsys) == f"E10001: Value {source} for parameter --model {missing}"
    source.write_bytes(b"\x89PNG\r\n" * 50)
    assert error_of(tmp_path, capsys) == f"E10041: Failed to load the model from {source}."
    source.unlink()
    source.mkdir()
    assert error_of(tmp_path, capsys) == f"E10041: Failed to load the model from {source}."


def test_unknown_operators_and_opsets_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.graph.node[1].op_type = "Reluu"
    saved(tmp_path, model)
    assert error_of(tmp_path, capsys) == "E19010: No parser is registered for Op [Relu_1, optype [ai.onnx::11::Reluu]]."
    model = classifier()
    model.graph.node[1].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    saved(tmp_path, model)
    error = error_of(tmp_path, capsys)
    assert error == "E19010: No parser is registered for Op [Relu_1, optype [com.microsoft::1::Relu]]."
    saved(tmp_path, classifier(opset=99))
    assert error_of(tmp_path, capsys) == "E19010: No parser is registered for Op [Conv_0, optype [ai.onnx::99::Conv]]."


def test_an_operator_without_a_kernel_in_onnxruntime_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path, without_kernel())
    error = error_of(tmp_path, capsys)
    assert error.startswith(f"E10041: Failed to load the model from {source}. onnxruntime: Could not find an implement")
    assert "Pool_6" in error


def test_a_shape_at_which_the_model_does_not_run_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(tmp_path, capsys, input_shape="image:16,5,16,16")
    start = "E10001: Value image:16,5,16,16 for parameter --input_shape is invalid. Reason: The model does not run"
    assert error.startswith(start) and "Conv_0" in error


def test_weights_in_another_file_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(classifier(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert main.main(command_of(tmp_path)) == 0
    wanted = results(source, images(16))
    np.testing.assert_allclose(results(tmp_path / "out.onnx", images(16)), wanted, rtol=0, atol=1e-6)
    capsys.readouterr()
    (tmp_path / "out.onnx").unlink()
    (tmp_path / "weights.bin").unlink()
    assert error_of(tmp_path, capsys) == f"E10041: Failed to load the model from {source}."


def test_a_failure_keeps_an_older_file(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_text("before")
    assert main.main(command_of(tmp_path, input_shape="image:16,5,16,16")) == 255
    assert (tmp_path / "out.onnx").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "out.onnx"]
