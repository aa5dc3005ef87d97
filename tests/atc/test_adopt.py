"""atc/adopt.py: the record of a model that was compiled elsewhere. It is made from the ONNX file, from arguments, or
from the compiled model itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc import adopt, convert
from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.tensor_names import DTYPES
from tests.support import ROOT
from tests.support.onnx_models import classifier, saved

IMAGE, CLASS = TensorInfo("image", "float32", [16, 3, 16, 16]), TensorInfo("class", "float32", [16, 10])
TENSORS = ["--input_tensor", "image:float32:16,3,16,16", "--output_tensor", "class:float32:16,10"]
FROM_ONNX = ["--model", "model.onnx", "--batch_size", "16"]


@pytest.fixture
def here(here: Path) -> Path:
    """The current directory, with model.onnx and a my.om."""
    (here / "my.om").write_bytes(b"IMOD and more")
    return here


def test_the_record_is_made_from_the_onnx_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt.main(["--om", "my.om", *FROM_ONNX]) == 0
    line = "wrote my.om.json: image float32[16, 3, 16, 16] -> class float32[16, 10]\n"
    assert capsys.readouterr().out == line
    assert CompiledModel.read("my.om") == CompiledModel(
        model_sha256=sha256_file("my.om"),
        source_sha256=sha256_file("model.onnx"),
        command=["python", "-m", "atc.adopt", "--om", "my.om", *FROM_ONNX],
        tool="atc.adopt",
        inputs=[IMAGE],
        outputs=[CLASS],
        gears=[],
        metadata={"model": "hrnet_w18", "weights_sha256": "ab" * 32, "opset": "11"},
    )


def test_the_record_is_made_from_arguments_without_onnx(here: Path) -> None:
    """As on a board where onnx is not installed."""
    (here / "onnx.py").write_text("raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')")
    start = [sys.executable, "-m", "atc.adopt", "--om", "my.om"]
    environment = {"PYTHONPATH": f"{here}:{ROOT}"}
    subprocess.run([*start, *TENSORS], check=True, env=environment, stdout=subprocess.DEVNULL)
    record = CompiledModel.read("my.om")
    assert (record.inputs, record.outputs, record.source_sha256, record.metadata) == ([IMAGE], [CLASS], "", {})
    done = subprocess.run([*start, *FROM_ONNX], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "model.onnx: onnx is not installed" in done.stderr
    assert "give --input_tensor and --output_tensor" in done.stderr
    (here / "my.onnx").touch()
    done = subprocess.run([*start[:-1], "my.onnx"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "my.onnx: onnx is not installed" in done.stderr
    assert "pip install" in done.stderr and "--input_tensor" not in done.stderr, "not accepted with an .onnx"


def test_the_record_is_made_from_a_compiled_onnx_file_alone(here: Path) -> None:
    assert convert.main(["--model", "model.onnx", "--output", "a.onnx", "--batch_size", "16"]) == 0
    by_convert = CompiledModel.read("a.onnx")
    assert adopt.main(["--om", "a.onnx"]) == 0
    record = CompiledModel.read("a.onnx")
    assert (record.inputs, record.outputs) == (by_convert.inputs, by_convert.outputs) == ([IMAGE], [CLASS])
    # precision comes from the arguments of atc.convert, not from the file
    known = {name: value for name, value in by_convert.metadata.items() if name != "precision"}
    assert record.metadata.items() >= known.items()


def test_files_that_do_not_fit_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error_of(*arguments: str) -> str:
        assert adopt.main(["--om", *arguments]) == 2
        return capsys.readouterr().err

    assert "none.om: no such model" in error_of("none.om", *TENSORS)
    (here / "zip.om").write_bytes(b"PK")
    assert "zip.om: not an .om file (expected b'IMOD' at the start, found b'PK')" in error_of("zip.om", *TENSORS)
    assert "make om ONNX=model.onnx" in error_of("model.onnx")
    line = error_of("my.om", *TENSORS[:3], "class:float32:8,10")
    assert "found image [16, 3, 16, 16], class [8, 10]" in line
    line = error_of("my.om", "--model", "none.onnx", "--batch_size", "1")
    assert "none.onnx: cannot be read: E10001: Value none.onnx for parameter --model is invalid." in line
    model = classifier()
    model.graph.node.append(onnx.helper.make_node("NonZero", ["class"], ["where"], "NonZero_5"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("where", onnx.TensorProto.INT64, None))
    saved(here, model)
    line = error_of("my.om", "--model", "model.onnx", "--batch_size", "1")
    assert line.startswith("atc.adopt: error: my.om: ")
    assert "where [2, 10]" in line, "the computed shape, whose first size is not the batch size"
    assert not (here / "my.om.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["my.om"],
        ["my.om", "--model", "model.onnx"],
        ["my.om", *TENSORS, "--batch_size", "1"],
        ["my.onnx", *TENSORS],
        *(["my.om", "--input_tensor", text, *TENSORS[2:]] for text in ("image", "image:16,3", ":float32:1")),
        *(["my.om", "--input_tensor", text, *TENSORS[2:]] for text in ("a:float64:1", "a:float32:0", "a:float32:-1,3")),
    ],
)
def test_incomplete_or_invalid_arguments_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        adopt.main(["--om", *arguments])
    line = capsys.readouterr().err
    assert caught.value.code == 2 and ("error: give " in line or "give only --om" in line or "name:dtype:sizes" in line)


@given(
    st.text("ab:/._0", min_size=1),
    st.sampled_from(list(DTYPES)),
    st.lists(st.integers(1, 9999), min_size=1, max_size=5),
)
def test_every_tensor_can_be_written_as_text(name: str, dtype: str, sizes: list[int]) -> None:
    assert adopt.tensor(f"{name}:{dtype}:{','.join(map(str, sizes))}") == TensorInfo(name, dtype, sizes)
