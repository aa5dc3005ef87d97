"""adopt: the record of a model that was compiled elsewhere, from its ONNX file, from what is given, or from itself."""

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
from hrnet.io.tensors import DTYPES
from tests.atc.models import classifier, saved

ROOT = Path(__file__).resolve().parents[2]
IMAGE, CLASS = TensorInfo("image", "float32", [16, 3, 16, 16]), TensorInfo("class", "float32", [16, 10])
GIVEN = ["--input", "image:float32:16,3,16,16", "--output", "class:float32:16,10"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with model.onnx and a my.om."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    (tmp_path / "my.om").write_bytes(b"IMOD and more")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert adopt.main(["--om", *words]) == 2
    return capsys.readouterr().err.removeprefix("atc.adopt: error: ").rstrip("\n")


def test_from_its_onnx_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--om", "my.om", "--model", "model.onnx", "--batch", "16"]
    assert adopt.main(words) == 0
    told = "wrote my.om.json: image float32[16, 3, 16, 16] -> class float32[16, 10]\n"
    assert capsys.readouterr().out == told
    assert CompiledModel.read("my.om") == CompiledModel(
        model_sha256=sha256_file("my.om"),
        source_sha256=sha256_file("model.onnx"),
        command=["python", "-m", "atc.adopt", *words],
        tool="atc.adopt",
        inputs=[IMAGE],
        outputs=[CLASS],
        gears=[],
        metadata={"model": "hrnet_w18", "weights_sha256": "ab" * 32, "opset": "11"},
    )


def test_from_what_is_given_without_onnx(here: Path) -> None:
    """As on a board that has no onnx."""
    (here / "onnx.py").write_text("raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')")
    start = [sys.executable, "-m", "atc.adopt", "--om", "my.om"]
    environment = {"PYTHONPATH": f"{here}:{ROOT}"}
    subprocess.run([*start, *GIVEN], check=True, env=environment, stdout=subprocess.DEVNULL)
    record = CompiledModel.read("my.om")
    assert (record.inputs, record.outputs, record.source_sha256, record.metadata) == ([IMAGE], [CLASS], "", {})
    words = [*start, "--model", "model.onnx", "--batch", "16"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    line = "atc.adopt: error: model.onnx: no onnx here to read it with; give --input and --output\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_a_compiled_onnx_tells_itself(here: Path) -> None:
    assert convert.main(["--model", "model.onnx", "--output", "twin.onnx", "--batch", "16"]) == 0
    by_convert = CompiledModel.read("twin.onnx")
    assert adopt.main(["--om", "twin.onnx"]) == 0
    record = CompiledModel.read("twin.onnx")
    assert (record.inputs, record.outputs) == (by_convert.inputs, by_convert.outputs) == ([IMAGE], [CLASS])
    assert record.metadata.items() >= by_convert.metadata.items()


def test_what_cannot_be(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "none.om", *GIVEN) == "none.om: no such model"
    (here / "zip.om").write_bytes(b"PK")
    assert refused(capsys, "zip.om", *GIVEN) == "zip.om: is no .om (expected b'IMOD' at its start, found b'PK')"
    assert refused(capsys, "model.onnx") == "model.onnx: leaves its batch open; compile it: make om ONNX=model.onnx"
    assert refused(capsys, "my.om", *GIVEN[:3], "class:float32:8,10") == (
        "my.om: inputs and outputs differ in their first size, the batch (found image [16, 3, 16, 16], class [8, 10])"
    )
    assert refused(capsys, "my.om", "--model", "none.onnx", "--batch", "1") == (
        "none.onnx: cannot be read: E10001: Value none.onnx for parameter --model is invalid. Reason: realpath error, "
        "errmsg:No such file or directory"
    )
    model = classifier()
    model.graph.node.append(onnx.helper.make_node("NonZero", ["class"], ["where"], "NonZero_5"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("where", onnx.TensorProto.INT64, None))
    saved(here, model)
    assert refused(capsys, "my.om", "--model", "model.onnx", "--batch", "1") == (
        "my.om: the sizes of where cannot be told (found [2, -1]); give --input and --output instead of --model"
    )
    assert not (here / "my.om.json").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["my.om"], "give --model and --batch, or --input and --output"),
        (["my.om", "--model", "model.onnx"], "give --model and --batch, or --input and --output"),
        (["my.om", *GIVEN, "--batch", "1"], "give --model and --batch, or --input and --output"),
        (["my.onnx", *GIVEN], "an .onnx tells its inputs and outputs itself: give --om alone"),
    ],
)
def test_what_is_asked_must_be_clear(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        adopt.main(["--om", *words])
    assert caught.value.code == 2 and f"error: {line}\n" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["image", "image:16,3", ":float32:1", "a:float64:1", "a:float32:0", "a:float32:-1,3"])
def test_tensors_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        adopt.main(["--om", "my.om", "--input", text, "--output", "class:float32:1,10"])
    assert "argument --input: expected name:dtype:sizes such as image:float32:16,3,224,224" in capsys.readouterr().err


@given(st.text("ab:/._0", min_size=1), st.sampled_from(DTYPES), st.lists(st.integers(1, 9999), min_size=1, max_size=5))
def test_every_tensor_can_be_spelled(name: str, dtype: str, sizes: list[int]) -> None:
    spelled = f"{name}:{dtype}:{','.join(map(str, sizes))}"
    assert adopt.tensor(spelled) == TensorInfo(name, dtype, sizes)
