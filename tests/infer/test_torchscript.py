"""The runtimes of TorchScript: numbers, devices, and the calls of Torch-AIE."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.cli import UserError
from hrnet.io.compiled import CompiledModel, TensorInfo
from infer import runtimes
from infer.emulator import main
from infer.run_ais_bench import find_tool
from infer.runtimes import torchscript_runtime
from tests.support import fakes, tiny
from tests.support.errors import check_error
from tests.support.linear_model import CLASSES, SHAPE, check_logits, expected_logits, prep_folder, torchscript_model

FP16 = {"torchscript.precision": "fp16"}
NPU = {**FP16, "torchscript.soc_version": "Ascend310P3"}


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def call(*more: str, runtime: str = "torchscript", model: str = "m.ts") -> int:
    words = ["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", "--runtime", runtime]
    return main.main([*words, *more])


def test_inputs_and_outputs_are_those_of_the_record(workdir: Path) -> None:
    runtime = runtimes.load("torchscript", str(torchscript_model(workdir / "m.ts", 2)), 2)
    assert runtime.inputs == [TensorInfo("image", "float32", [2, *SHAPE])]
    assert runtime.outputs == [TensorInfo("class", "float32", [2, CLASSES])]
    assert runtime.requests == 2 and runtime.gears == []
    assert runtime.version == f"torchscript by torch {torch.__version__.split('+')[0]}"


def test_concurrent_requests_give_the_same_outputs(workdir: Path) -> None:
    runtime = runtimes.load("torchscript", str(torchscript_model(workdir / "m.ts", 3)), 2)
    batches = np.random.default_rng(2).standard_normal((6, 3, *SHAPE)).astype(np.float32)
    with ThreadPoolExecutor(3) as pool:  # one more than there are requests
        found = list(pool.map(lambda batch: runtime.compute(batch)[0], batches))
    for batch, output in zip(batches, found):
        np.testing.assert_allclose(output, expected_logits(batch), rtol=1e-4, atol=1e-4)


def test_the_emulator_pads_the_last_batch(workdir: Path) -> None:
    """Seven images and batch 2: the last batch is padded, and the outputs of the padding are dropped."""
    images = prep_folder(Path("in"), 7)
    torchscript_model(Path("m.ts"), 2)
    assert call() == 0
    check_logits(images, tolerance=1e-4)
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert summary["NPU_compute_time"]["count"] == 4 and summary["runtime"].startswith("torchscript by torch ")


def check_rejected(
    capsys: pytest.CaptureFixture[str],
    *parts: str,
    more: tuple[str, ...] = (),
    code: int = 1,
    runtime: str = "torchscript",
) -> None:
    assert call(*more, runtime=runtime) == code
    err = capsys.readouterr().err
    check_error(err, "infer.emulator", *parts)
    assert err.count("\n") == 1 and not Path("out/run_summary.json").exists()


def test_models_that_cannot_be_loaded_are_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2)
    torchscript_model(Path("m.ts"), 2, **FP16)
    check_rejected(capsys, "m.ts: ", "float16", "PRECISION=fp32", "BACKEND=onnxruntime")
    Path("m.ts.json").unlink()
    check_rejected(capsys, "m.ts.json: ", "rm m.ts; make om", "make om OM= BACKEND=<torchscript or torch_aie> TS=m.ts")
    torchscript_model(Path("m.ts"), 2)
    record = CompiledModel.read("m.ts")
    Path("m.ts").write_bytes(b"text")
    check_rejected(capsys, "m.ts.json: ", "the hash of m.ts")
    rewritten = json.loads(Path("m.ts.json").read_text())
    rewritten["model_sha256"] = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"  # of `text`
    Path("m.ts.json").write_text(json.dumps(rewritten))
    assert record.model_sha256 != rewritten["model_sha256"]
    check_rejected(capsys, "m.ts: ", "PytorchStreamReader failed")


def test_a_record_of_another_net_is_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2)
    torchscript_model(Path("m.ts"), 2)
    record = json.loads(Path("m.ts.json").read_text())
    record["outputs"][0]["shape"] = [2, 9]
    Path("m.ts.json").write_text(json.dumps(record))
    check_rejected(capsys, "output class", "float32[2, 9]", "float32[2, 5]")


def test_devices_are_rejected_without_cuda(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2)
    torchscript_model(Path("m.ts"), 2)
    check_rejected(capsys, "no CUDA", "expected 0", "found 1", "DEVICE=0", more=("--device", "1"))
    with pytest.raises(UserError) as error:
        find_tool("torchscript", "python3", ["0", "1"])
    assert error.value.found == "0,1" and "BACKEND=ascend" in str(error.value.hint)


def test_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [torchscript_runtime.find_device(device) for device in (0, 1)] == ["cuda:0", "cuda:1"]
    with pytest.raises(UserError) as error:
        torchscript_runtime.find_device(2)
    assert (error.value.expected, error.value.found) == ("0 to 1", 2)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_constants_are_converted_to_the_dtype(torchscript_files: Path, dtype: torch.dtype, tolerance: float) -> None:
    """Constants of a frozen graph, which `to` does not convert; the CPU computes float16 too, slowly."""
    module, plain = (torchscript_runtime.load_module(str(torchscript_files / "model.ts")) for _ in range(2))
    torchscript_runtime.prepare_constants(module, dtype)
    image = torch.randn(1, 3, tiny.SIDE, tiny.SIDE)
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        found = module(image.to(dtype).contiguous(memory_format=torch.channels_last))
        expected = plain(image)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.float(), expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def test_convolutions_do_not_use_tf32(torchscript_files: Path) -> None:
    """Tracing records the option allow_tf32 as an argument of each convolution."""
    module, plain = (torchscript_runtime.load_module(str(torchscript_files / "model.ts")) for _ in range(2))
    torchscript_runtime.forbid_tf32(module)
    arguments = [list(node.inputs()) for node in module.graph.findAllNodes("aten::_convolution")]
    assert {values[-1].toIValue() for values in arguments} == {False}
    assert {values[-2].toIValue() for values in arguments} == {True}, (
        "cudnn_enabled stays True, although it shared one constant with allow_tf32"
    )
    image = torch.randn(1, 3, tiny.SIDE, tiny.SIDE)
    with torch.inference_mode():
        assert torch.equal(module(image), plain(image))


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_gpu_computes_in_the_precision_of_the_model_one_batch_after_another(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, precision: str, tolerance: float
) -> None:
    """The CPU replaces a GPU: the model's precision inside, float32 outside, one batch after another."""
    monkeypatch.setattr(torchscript_runtime, "find_device", lambda device: f"cpu:{device}")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    model = torchscript_model(workdir / "m.ts", 2, **{"torchscript.precision": precision})
    runtime = runtimes.load("torchscript", str(model), 2)
    assert runtime.requests == 1 and runtime.version.endswith(" on GPU 0")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    image = np.random.default_rng(5).standard_normal((2, *SHAPE)).astype(np.float32)
    (found,) = runtime.compute(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_logits(image), rtol=0, atol=tolerance)
    assert bool(np.abs(found - expected_logits(image)).max() > 1e-4) == (precision == "fp16")


@pytest.fixture
def torch_aie(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake of Torch-AIE; torch is restored afterwards."""
    for name in ("to", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, getattr(torch.Tensor, name))
    for module in ("torch_aie", "infer.runtimes.torch_aie_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(str(fakes.TORCH_AIE))


@pytest.mark.usefixtures("torch_aie")
def test_torch_aie_gives_the_outputs_of_torchscript(workdir: Path) -> None:
    images = prep_folder(Path("in"), 7)
    torchscript_model(Path("m.ts"), 2, **NPU)
    assert call("--device", "3", runtime="torch_aie") == 0
    check_logits(images, tolerance=1e-4)
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert summary["runtime"] == "torch_aie fake on Ascend310P3"


@pytest.mark.usefixtures("torch_aie")
def test_mindietorch_is_tried_first(workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the package in newer releases."""
    shutil.copytree(fakes.TORCH_AIE / "torch_aie", tmp_path / "newer/mindietorch")
    monkeypatch.setitem(sys.modules, "mindietorch", None)
    monkeypatch.delitem(sys.modules, "mindietorch")
    monkeypatch.syspath_prepend(str(tmp_path / "newer"))
    images = prep_folder(Path("in"), 3)
    torchscript_model(Path("m.ts"), 2, **NPU)
    assert call(runtime="torch_aie") == 0
    check_logits(images, tolerance=1e-4)
    summary = json.loads(Path("out/run_summary.json").read_text())
    assert summary["runtime"] == "mindietorch fake on Ascend310P3" and "torch_aie" not in sys.modules


@pytest.mark.usefixtures("torch_aie")
def test_errors_of_torch_aie_are_reported_in_one_line(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 2)
    torchscript_model(Path("m.ts"), 2)
    check_rejected(capsys, "m.ts: ", "make om BACKEND=torch_aie SOC=<chip>", runtime="torch_aie")
    torchscript_model(Path("m.ts"), 2, **{**NPU, "torchscript.soc_version": "310P3"})
    check_rejected(capsys, "m.ts: ", "compile: soc_version '310P3'", runtime="torch_aie")


@pytest.mark.usefixtures("torch_aie")
def test_the_fake_torch_aie_rejects_wrong_calls(workdir: Path) -> None:
    """The errors of a runtime that forgets a call."""
    import torch_aie as aie

    torchscript_model(Path("m.ts"), 2)
    module, image, given = torchscript_runtime.load_module("m.ts"), torch.zeros(2, *SHAPE), aie.Input((2, *SHAPE))
    policy = {"precision_policy": aie.PrecisionPolicy.FP16, "allow_tensor_replace_int": True}
    with pytest.raises(RuntimeError, match="is not set in this thread"):
        aie.compile(module, inputs=[given], soc_version="Ascend310P3", **policy)
    aie.set_device(0)
    with pytest.raises(RuntimeError, match="compile: soc_version ''"):
        aie.compile(module, inputs=[given], **policy)
    with pytest.raises(RuntimeError, match="device 1 is not set"):
        image.to("npu:1")
    compiled = aie.compile(module, inputs=[given], soc_version="Ascend310P3", **policy)
    with pytest.raises(RuntimeError, match="is on the CPU"):
        compiled(image)
    with pytest.raises(RuntimeError, match="compiled for"):
        compiled(image[:1].to("npu:0"))
    stream = aie.npu.Stream("npu:0")
    with aie.npu.stream(stream):
        output = compiled(image.to("npu:0"))
        assert output.to("cpu").isnan().all()
        with pytest.raises(TypeError, match="can't convert"):
            output.numpy()
        stream.synchronize()
        assert output.to("cpu").numpy().shape == (2, CLASSES)


def test_a_missing_torch_aie_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "infer.runtimes.torch_aie_runtime", raising=False)
    monkeypatch.setitem(sys.modules, "torch_aie", None)
    with pytest.raises(UserError) as error:
        runtimes.load("torch_aie", "m.ts", 1)
    assert "torch_aie" in error.value.what and "Torch-AIE" in str(error.value.hint)
