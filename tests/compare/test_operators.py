"""compare.operators: its record and tables, reruns, rejected files, and msprobe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from atc import convert
from compare import operators
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import read_record
from tests.compare.small_chain import IMAGES, arguments
from tests.support import ROOT, fakes
from tests.support.errors import check_error

pytestmark = pytest.mark.usefixtures("emulators_in_process")

OUTPUT = "compare/operators.json"


def compare(name: str = "float32-fp16", **changes: object) -> int:
    given = {"cfg": "small.yaml", "onnx": "m.onnx", "model": f"om/{name}.onnx", "inputs": f"in-{name.split('-')[0]}"}
    return operators.main(arguments(**{**given, "output": OUTPUT, **changes}))


def record_of(model: Path, source: Path) -> None:
    """Write the record of a compiled model: a copy of the record `source` with the hash of the model."""
    text, old = source.read_text(), read_record(source, "compiled")["model_sha256"]
    Path(f"{model}.json").write_text(text.replace(old, sha256_file(model)))


def record() -> dict[str, Any]:
    return read_record(OUTPUT, "operators")


def test_equal_graphs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("float32-fp32") == 0
    found = record()["operators"]
    assert [each["node"] for each in found] == ["Conv_0", "Relu_1", "Pool_2", "Flatten_3", "Gemm_4"]
    assert {(each["error"], each["own_error"]) for each in found} == {(0, 0)}
    assert "All 5 operators" in capsys.readouterr().out


def test_float16(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(images=4) == 0
    content = record()
    assert content["model_sha256"] == sha256_file("om/float32-fp16.onnx")
    assert content["images"] == [f"val/img{i}.JPEG" for i in (0, 2, 5, 8)], "at equal distances"
    own = {each["node"]: each["own_error"] for each in content["operators"]}
    assert own["Relu_1"] == own["Flatten_3"] == 0
    assert all(0 < own[name] < 1e-3 for name in ("Conv_0", "Pool_2", "Gemm_4"))
    screen = capsys.readouterr().out
    assert "Worst 3 of 5 operators" in screen and "Conv_0" in screen and "Relu_1" not in screen
    assert "| Conv_0 | Conv |" in Path("compare/operators.md").read_text()


def test_pixels_are_normalised_for_the_onnx_file(folder: Path) -> None:
    assert compare("uint8-fp16") == 0
    assert all(each["error"] < 2e-3 for each in record()["operators"])


def test_an_overflow_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("m.onnx")
    kernel = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1e4)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, "kernel"))
    onnx.save(model, "large.onnx")
    for precision in ("fp16", "fp32"):
        given = {"cfg": "small.yaml", "model": "large.onnx", "output": f"om/large-{precision}.onnx"}
        assert convert.main(arguments(**given, batch_size=4, precision=precision)) == 0
    assert compare(onnx="large.onnx", model="om/large-fp16.onnx") == 0
    first = record()["operators"][0]
    assert first["own_overflow"] == first["overflow"] > 0 and first["largest_value"] > 65504
    screen = capsys.readouterr().out
    assert re.search("overflow although their inputs do not: [0-9], first Conv_0", screen)
    assert " operators, by own error (first those that overflow although their inputs do not)" in screen
    assert compare(onnx="large.onnx", model="om/large-fp32.onnx", inputs="in-float32") == 0
    assert "above 65504" in " ".join(record()["findings"])


def test_a_graph_with_a_batch_size_in_it(folder: Path) -> None:
    """A Reshape to [4, 8] does not accept a single image."""
    model = onnx.load("om/float32-fp32.onnx")
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    reshape = onnx.helper.make_node("Reshape", [flatten.input[0], "shape"], list(flatten.output), "Reshape_3")
    model.graph.node[list(model.graph.node).index(flatten)].CopyFrom(reshape)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4, 8]), "shape"))
    onnx.save(model, "om/float32-fp32.onnx")
    record_of(Path("om/float32-fp32.onnx"), Path("om/float32-fp32.onnx.json"))
    assert compare("float32-fp32", images=2) == 0
    found = record()["operators"]
    assert {each["own_error"] for each in found} == {0} and found[-1]["values"] == 2 * 4 * 10


def test_a_second_run_computes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare() == 0
    first = Path(OUTPUT).read_bytes()
    assert compare() == 0
    assert "is up to date" in capsys.readouterr().out
    os.unlink("compare/.operators.json.stamp")
    assert compare() == 0
    assert Path(OUTPUT).read_bytes() == first
    assert compare(images=IMAGES) == 0
    assert len(record()["images"]) == IMAGES


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"onnx": "none.onnx"}, ("none.onnx", "make onnx")),
        ({"onnx": "small.yaml"}, ("small.yaml", "make onnx")),
        ({"model": "m.ts"}, ("m.ts", "BACKEND=onnxruntime")),
        ({"inputs": "in-uint8"}, ("in-uint8", "float32[3, 32, 32]", "uint8[32, 32, 3]")),
    ],
)
def test_unsuitable_files(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], parts: tuple[str, ...]
) -> None:
    assert compare(**changes) == 2
    check_error(capsys.readouterr().err, "compare.operators", *parts)


def test_other_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("m.onnx")
    onnx.helper.set_model_props(model, {"weights_sha256": "cd" * 32})
    onnx.save(model, "m.onnx")
    assert compare() == 2
    check_error(capsys.readouterr().err, "compare.operators", "weights_sha256", "rm om/float32-fp16.onnx; make om")


def test_other_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read("in-float32/manifest.json")
    shutil.copy("small.yaml", "other.yaml")
    Path("other.yaml").write_text(Path("small.yaml").read_text().replace("0.4", "0.3"))
    assert compare(cfg="other.yaml") == 2 and manifest.images
    check_error(capsys.readouterr().err, "compare.operators", "in-float32/manifest.json", "make preprocess")


# --- msprobe ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def om(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An .om in the format of the fake atc, with the record of the emulator's file; the fake msprobe is on PATH."""
    fakes.msprobe(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    path = Path("om/m.om")
    path.write_bytes(b"IMOD{}\n" + Path("om/float32-fp32.onnx").read_bytes())
    record_of(path, Path("om/float32-fp32.onnx.json"))
    return path


def test_msprobe(om: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert compare(model=om, inputs="in-float32", device="3") == 0
    screen = capfd.readouterr().out
    command = "msprobe compare -m offline_model -gp m.onnx -tp om/m.om -o compare/operators "
    assert f"{command}--input_data compare/operators/batch.bin --input_shape image:4,3,32,32 --rank 3" in screen
    content = record()
    assert content["tool"] == "msprobe"
    found = content["operators"]
    assert [each["node"] for each in found] == ["Conv_0", "Relu_1", "Pool_2", "Flatten_3", "Gemm_4"]
    assert all(each["own_error"] is None and each["cosine"] > 0.999 for each in found)
    assert "by error after" in screen
    assert np.fromfile("compare/operators/batch.bin", np.float32).size == 4 * 3 * 32 * 32


@pytest.mark.parametrize(("mode", "code", "part"), [("nothing", 1, "no result_*.csv"), ("fails", 1, "exit code 1")])
def test_msprobe_fails(
    om: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, code: int, part: str
) -> None:
    monkeypatch.setenv("FAKE_MSPROBE", mode)
    assert compare(model=om, inputs="in-float32") == code
    check_error(capsys.readouterr().err, "compare.operators", part)
    assert not Path(OUTPUT).exists()


def test_msprobe_is_not_installed(
    om: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert compare(model=om, inputs="in-float32") == 2
    check_error(capsys.readouterr().err, "compare.operators", "msprobe", "pip install mindstudio-probe", "set_env.sh")


def test_the_fake_rejects_what_msprobe_rejects(om: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, str(fakes.MSPROBE), "compare", "-m", "offline_model", "-tp", "om/m.om"]
        return subprocess.run([*start, *words], capture_output=True, text=True, cwd=Path.cwd())

    with_equals = call("-gp", "m.onnx", "--rank=0")
    assert with_equals.returncode == 1 and "--rank=0" in with_equals.stdout
    without = call("--rank", "0")
    assert without.returncode == 0 and "-gp" in without.stdout
    assert ROOT.exists()
