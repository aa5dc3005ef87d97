"""atc/convert.py: the command that it builds, the files that it writes, and errors of the tool."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from atc import atc_rules, convert, run_atc
from atc.atc_command import render_aipp
from atc.emulator import main
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from hrnet.io.files import sha256_file
from hrnet.io.records import write_record
from tests.atc.calls import arguments, error_line, files_in, product, seen_by_atc
from tests.support import ROOT, tiny
from tests.support.atc_arguments import HIGHER_HRNET_GEARS
from tests.support.onnx_models import classifier, images, pyramid, saved, without_kernel


@pytest.mark.parametrize(("batch", "backend"), [(1, "openvino"), (16, "onnxruntime")])
def test_the_emulator_writes_the_model_and_the_record(
    batch: int, backend: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"om/bs{batch}-float32-fp32.onnx"
    assert convert.main(arguments(output, "--batch_size", str(batch), "--backend", backend)) == 0
    printed, *log, closing = capsys.readouterr().out.splitlines()
    assert log == [atc_rules.START, "...", atc_rules.SUCCESS]
    command = [
        "python",
        "-m",
        "atc.emulator",
        "--framework=5",
        "--model=model.onnx",
        "--input_format=NCHW",
        f"--input_shape=image:{batch},3,16,16",
        f"--output=om/bs{batch}-float32-fp32",
        "--soc_version=Ascend310P3",
        "--log=error",
    ]
    assert printed == shlex.join(command)
    assert closing.startswith(f"wrote {output} (batch {batch}, 0.0 MB, ") and closing.endswith(" s)")
    assert files_in(here) == ["model.onnx", "om", *product(output)]
    assert (here / output).stat().st_mode & 0o777 == 0o640

    record = CompiledModel.read(output)
    assert (record.command, record.tool) == (command, "atc.emulator")
    assert record.inputs == [TensorInfo("image", "float32", [batch, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [batch, 10])]
    assert record.metadata == {"model": "hrnet_w18", "weights_sha256": "ab" * 32, "opset": "11", "precision": "fp32"}

    found = onnxruntime.InferenceSession(output).run(None, {"image": images(batch)})[0]
    wanted = onnxruntime.InferenceSession("model.onnx").run(None, {"image": images(batch)})[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_the_printed_command_can_be_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(arguments("a.onnx", "--batch_size", "2")) == 0
    first = capsys.readouterr().out.splitlines()[0]
    before = (here / "a.onnx").read_bytes()
    (here / "a.onnx").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(first, shell=True, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert (here / "a.onnx").read_bytes() == before


PRECISIONS = [("default", []), ("fp16", ["--precision_mode=force_fp16"]), ("fp32", ["--precision_mode=force_fp32"])]


@pytest.mark.parametrize(("precision", "flags"), PRECISIONS)
@pytest.mark.parametrize("output", ["a.onnx", "a.om"])
@pytest.mark.usefixtures("here", "atc", "emulators_in_process")
def test_precision_is_last_in_the_command(output: str, precision: str, flags: list[str]) -> None:
    assert convert.main(arguments(output, "--precision", precision)) == 0
    command = CompiledModel.read(output).command
    assert command[command.index("--log=error") + 1 :] == flags
    assert CompiledModel.read(output).outputs == [TensorInfo("class", "float32", [16, 10])]
    if output == "a.onnx":
        found = onnxruntime.InferenceSession(output).run(None, {"image": images(16)})[0]
        rounded = np.array_equal(found, found.astype(np.float16).astype(np.float32))
        assert rounded == (precision == "fp16")
    else:
        seen = seen_by_atc(output)
        assert [f"--{name}={seen[name]}" for name in seen if name.startswith("precision")] == flags


@pytest.mark.parametrize("output", ["om/a.onnx", "om/a.om"])
@pytest.mark.usefixtures("atc", "emulators_in_process")
def test_uint8_inputs_get_an_aipp_file(output: str, here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(arguments(output, "--batch_size", "4", "--input_dtype", "uint8", "--cfg", cfg)) == 0
    assert files_in(here) == sorted(["m.yaml", "model.onnx", "om", "om/a.aipp.cfg", *product(output)])
    text = (here / "om/a.aipp.cfg").read_text()
    assert text == render_aipp(32, 32, [0.5, 0, 1], [0.229, 0.224, 0.225])
    assert "    min_chn_0: 127.5\n    min_chn_1: 0\n    min_chn_2: 255\n" in text
    assert (here / "om/a.aipp.cfg").stat().st_mode & 0o777 == 0o640
    record = CompiledModel.read(output)
    assert record.inputs == [TensorInfo("image", "uint8", [4, 32, 32, 3])]
    assert record.outputs == [TensorInfo("class", "float32", [4, 10])]
    assert record.command[record.command.index("--framework=5") :] == [
        "--framework=5",
        "--model=model.onnx",
        "--input_format=NCHW",
        "--input_shape=image:4,3,32,32",
        "--output=om/a",
        "--insert_op_conf=om/a.aipp.cfg",
        "--soc_version=Ascend310P3",
        "--log=error",
    ]
    printed = capsys.readouterr().out.splitlines()[0]
    assert printed == shlex.join(record.command)
    if output.endswith(".om"):
        seen = seen_by_atc(output)
        assert seen["insert_op_conf"] == "../a.aipp.cfg", "relative to the directory where atc runs"
        assert seen["aipp"]["min"] == [127.5, 0.0, 255.0]
    else:
        before = (here / output).read_bytes()
        (here / output).unlink()
        assert main.main(shlex.split(printed)[3:]) == 0
        assert (here / output).read_bytes() == before, "the printed command can be run"


def test_uint8_needs_a_config_that_fits_the_model(here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    saved(here, classifier())
    line = error_line(capsys, arguments("a.onnx", "--input_dtype", "uint8", "--cfg", cfg))
    assert "(expected [3, 32, 32], found [3, 16, 16])" in line
    assert files_in(here) == ["m.yaml", "model.onnx"]
    with pytest.raises(SystemExit) as caught:
        convert.main(arguments("a.onnx", "--input_dtype", "uint8"))
    assert caught.value.code == 2 and "needs --cfg" in capsys.readouterr().err


def test_a_model_of_another_config_is_rejected(here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Recognised by the shapes of its input and output, or by the metadata that the exporter wrote."""
    saved(here, classifier(size=16))
    assert "(expected [3, 32, 32], found [3, 16, 16])" in error_line(capsys, arguments("a.onnx", "--cfg", cfg))
    model = saved(here, classifier(size=32))
    Path(cfg).write_text(Path(cfg).read_text().replace("NUM_CLASSES: 10", "NUM_CLASSES: 12"))
    line = error_line(capsys, arguments("a.onnx", "--cfg", cfg))
    assert "(expected 12 classes, found class [10])" in line and "MODEL: {NAME: onnx}" in line
    Path(cfg).write_text(Path(cfg).read_text().replace("12", "10"))
    assert convert.main(arguments("a.onnx", "--cfg", cfg)) == 0
    exported = onnx.load(model)
    onnx.helper.set_model_props(exported, {"model": "hrnet_w30", "config_sha256": "0" * 64})
    onnx.save(exported, model)
    line = error_line(capsys, arguments("b.onnx", "--cfg", cfg))
    assert "exported from another config" in line and "give MODEL=hrnet_w30" in line


@pytest.mark.parametrize("mode", ["", "host"])
def test_atc_writes_the_model_and_the_record(
    mode: str, here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    atc.setenv("FAKE_ATC", mode)
    output = "om/bs8-float32-Ascend310P3.om"
    assert convert.main(arguments(output, "--batch_size", "8", "--log", "debug")) == 0
    printed, *log, closing = capsys.readouterr().out.splitlines()
    assert log == [atc_rules.START, "[DEBUG] GE(1,atc.bin):one of a million lines", "...", atc_rules.SUCCESS]
    assert printed == (
        "atc --framework=5 --model=model.onnx --input_format=NCHW --input_shape=image:8,3,16,16 "
        "--output=om/bs8-float32-Ascend310P3 --soc_version=Ascend310P3 --log=debug"
    )
    assert closing.startswith(f"wrote {output} (batch 8, ")
    assert files_in(here) == ["model.onnx", "om", *product(output)]
    assert (here / output).stat().st_mode & 0o777 == 0o640
    record = CompiledModel.read(output)
    assert (record.tool, shlex.join(record.command)) == ("atc", printed)
    assert record.inputs == [TensorInfo("image", "float32", [8, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [8, 10])]
    assert seen_by_atc(output) == {
        "framework": "5",
        "model": "../../model.onnx",  # relative to the directory where atc runs, whatever the checkout's own path is
        "input_format": "NCHW",
        "input_shape": "image:8,3,16,16",
        "output": "bs8-float32-Ascend310P3",
        "soc_version": "Ascend310P3",
        "log": "debug",
    }


def test_an_error_of_atc_is_reported_in_one_line_and_leaves_no_model(
    here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.om").write_bytes(b"older")
    atc.setenv("FAKE_ATC", "operators")
    assert convert.main(arguments("a.om")) == 1
    printed = capsys.readouterr()
    *head, error, traceback = printed.out.splitlines()[1:]
    assert head == [atc_rules.START, "...", atc_rules.FAILURE]
    assert error.startswith("EZ3003: [PID: ") and "SocVersion = Ascend310P3" in error
    assert traceback == "        TraceBack (most recent call last):"
    assert "ops package" in printed.err
    assert "atc failed" in printed.err and "found exit code 255" in printed.err and "; EZ3003: " in printed.err
    atc.setenv("FAKE_ATC", "crash")
    assert convert.main(arguments("a.om")) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "terminate called after throwing an instance of 'std::bad_alloc'"
    assert printed.err.endswith("(found exit code 134)\n")
    atc.setenv("FAKE_ATC", "nothing")
    assert "atc succeeded but wrote no a*.om" in error_line(capsys, arguments("a.om"), 1)
    assert files_in(here) == ["a.om", "model.onnx"] and (here / "a.om").read_bytes() == b"older"


def test_the_log_is_printed_while_atc_runs(here: Path, atc: pytest.MonkeyPatch) -> None:
    atc.setenv("FAKE_ATC", "waits")
    command = [sys.executable, "-m", "atc.convert", *arguments("a.om")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout)
        assert [next(lines), next(lines)][1] == f"{atc_rules.START}\n", "while atc waits for the file"
        (here / "go_on").touch()
        assert list(lines)[:2] == ["...\n", f"{atc_rules.SUCCESS}\n"]
    assert running.returncode == 0


@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
@pytest.mark.usefixtures("here", "atc", "emulators_in_process")
def test_a_chip_name_as_printed_by_npu_smi_is_accepted(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(arguments(output, "--soc_version", "310P3")) == 0
    first, command = capsys.readouterr().out.splitlines()[:2]
    assert first == "--soc_version=310P3: using Ascend310P3"
    assert " --soc_version=Ascend310P3 " in command
    assert "--soc_version=Ascend310P3" in CompiledModel.read(output).command


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["E10016: Opname x specified in --input_shape is not found"], "E10016"),
        (["E10041: [PID: 7] 2024-01-01 Failed", "E19999: Inner Error!"], "E10041"),
        (["E19999: Inner Error!", "E19010: No parser is registered"], "E19010"),
        (["E10007: [PID: 10490] 2025-12-18-10:00:00.123.456 --framework is required."], "E10007"),
        (["E10016: [PID: 7] 2025-12-18-10:00:00.123.456 Op name x specified in --input_shape is"], "E10016"),
        (["EC0010: [PID: 7] Failed to import Python module [No module named 'decorator']."], "EC0010"),
        (["EZ3003: [PID: 7] No supported Ops kernel and engine are found, SocVersion = Ascend310P3"], "EZ3003"),
        (["E19999: Inner Error!", "E100160 is no code"], None),
        ([], None),
    ],
)
def test_the_first_known_error_code_gets_its_hint(lines: list[str], code: str | None) -> None:
    assert run_atc.find_hint(lines) == (code and f"{code}: {run_atc.HINTS[code]}")


@pytest.mark.parametrize(
    ("chip", "hint"),
    [("Ascend310P33", "did you mean SOC=Ascend310P3?"), ("Ascend950PR_9599", "compare SOC with npu-smi info")],
)
def test_the_hint_for_a_rejected_chip_does_not_propose_the_same_chip(chip: str, hint: str) -> None:
    """CANN versions that are older than a chip reject its correct name."""
    found = run_atc.find_hint([f"E10001: Value [{chip}] for parameter [--soc_version] is invalid. Reason: ..."])
    assert found and found.startswith(f"this CANN does not support the chip {chip}: {hint}")


def test_every_code_of_our_rules_has_a_hint() -> None:
    codes = {"E10001", "E10003", "E10007", "E10009", "E10016", "E10022", "E10041", "E10052", "E10054", "E19010"}
    codes |= {f"E100{number}" for number in (18, 19, 20, 31, 35, 36, 37, 38, 39)}
    assert codes <= set(run_atc.HINTS)


def test_a_missing_atc_is_reported_with_a_hint(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(here))
    line = error_line(capsys, arguments("a.om"))
    assert "atc is not on PATH; source /usr/local/Ascend/" in line
    assert "--backend onnxruntime" in line


def test_invalid_arguments_and_files_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = error_line(capsys, arguments("a.onnx", "--soc_version", "P3"))
    assert "model.onnx: " in line and "E10001: Value P3 for parameter --soc_version is invalid." in line
    assert "E10010: Value loud for parameter --log" in error_line(capsys, arguments("a.onnx", "--log", "loud"))
    assert "a.om: " in error_line(capsys, arguments("a.om", "--backend", "onnxruntime"))
    assert "none.onnx: no such model" in error_line(capsys, ["--model", "none.onnx", "--output", "a.onnx"])
    (here / "model.onnx").write_bytes(b"no model")
    assert "model.onnx: not an ONNX file (found text that begins with" in error_line(capsys, arguments("a.onnx"))
    for name, value in (("--batch_size", "0"), ("--precision", "fp8")):
        with pytest.raises(SystemExit) as caught:
            convert.main(arguments("a.onnx", name, value))
        assert caught.value.code == 2 and f"argument {name}: " in capsys.readouterr().err
    assert files_in(here) == ["model.onnx"]


def test_axes_that_do_not_fit_are_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    saved(here, model)
    assert "(expected 16 or a dynamic axis, found [1, 3, 16, 16])" in error_line(capsys, arguments("a.onnx"))
    saved(here, classifier(size="side"))
    line = error_line(capsys, arguments("a.onnx"))
    assert "(expected [-1, C, H, W], found [-1, 3, -1, -1]); dynamic H and W need a config with INPUT.GEARS" in line
    saved(here, classifier())
    cfg = str(tiny.write_pose_config(here))
    line = error_line(capsys, arguments("a.onnx", "--cfg", cfg, "--batch_size", "1"))
    assert "(expected [-1, C, -1, -1] for the gears of --cfg, found [-1, 3, 16, 16])" in line
    line = error_line(capsys, arguments("a.onnx", "--cfg", cfg))
    assert "--batch_size for a model with gears (expected 1, found 16)" in line


HIGHER_HRNET_COMMAND = [  # the model zoo's atc command, with names of outputs instead of node names
    "--framework=5",
    "--model=model.onnx",
    "--input_format=ND",
    "--input_shape=input:1,3,-1,-1",
    "--output=a",
    f"--dynamic_dims={HIGHER_HRNET_GEARS}",
    "--out_nodes=class",
    "--soc_version=Ascend310P3",
    "--log=error",
]


@pytest.mark.parametrize("output", ["a.onnx", "a.om"])
@pytest.mark.usefixtures("atc", "emulators_in_process")
def test_gears_of_the_config_reach_atc_and_the_record(
    output: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(here, classifier(name="input", size="side"))
    cfg = str(ROOT / "configs/higher_hrnet_w32_512.yaml")
    assert convert.main(arguments(output, "--cfg", cfg, "--batch_size", "1")) == 0
    *_, closing = capsys.readouterr().out.splitlines()
    assert closing.startswith(f"wrote {output} (17 gears, ")
    record = CompiledModel.read(output)
    assert record.command[record.command.index("--framework=5") :] == HIGHER_HRNET_COMMAND
    assert record.inputs == [TensorInfo("input", "float32", [1, 3, -1, -1])]
    assert record.outputs == [TensorInfo("class", "float32", [1, 10])]
    assert len(record.gears) == 17
    assert record.gears[0] == Gear([1, 3, 1024, 512], [[1, 10]])
    if output == "a.om":
        seen = seen_by_atc(output)
        assert str(seen["dynamic_dims"]).startswith("1024,512;960,512;") and seen["out_nodes"] == "class"


@pytest.mark.usefixtures("emulators_in_process")
def test_the_record_has_the_output_shapes_at_each_gear(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg, model = str(tiny.write_pose_config(here)), classifier(size="side")
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    saved(here, model)
    assert convert.main(arguments("a.onnx", "--cfg", cfg, "--batch_size", "1")) == 0
    record = CompiledModel.read("a.onnx")
    assert record.outputs == [TensorInfo("class", "float32", [1, 10]), TensorInfo("r", "float32", [1, 8, -1, -1])]
    assert record.gears == [
        Gear([1, 3, height, width], [[1, 10], [1, 8, height // 2, width // 2]]) for height, width in tiny.GEARS
    ]
    saved(here, pyramid(40))
    capsys.readouterr()
    line = error_line(capsys, arguments("a.onnx", "--cfg", cfg, "--batch_size", "1"))
    assert "model.onnx: does not support the gear [96, 64]: " in line and "Sum" in line


def test_an_error_of_the_emulator_is_reported_in_one_line_with_a_hint(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(here, without_kernel())
    assert convert.main(arguments("a.onnx")) == 1
    printed = capsys.readouterr()
    failure, error = printed.out.splitlines()[-2:]
    assert failure == atc_rules.FAILURE
    assert error.startswith("E10041: Failed to load the model from ") and "Pool_6" in error
    assert "atc.emulator failed" in printed.err and f"; {run_atc.find_hint(['E10041'])}\n" in printed.err
    assert files_in(here) == ["model.onnx"]


def test_a_damaged_exported_model_is_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file differs from its record. An ONNX file of another tool has no record."""
    write_record("model.onnx.json", "export", {"model_sha256": sha256_file("model.onnx")})
    assert convert.main(arguments("a.onnx")) == 0
    with open("model.onnx", "ab") as file:
        file.write(b"x")
    assert convert.main(arguments("b.onnx")) == 2
    error = capsys.readouterr().err
    assert "atc.convert: error: model.onnx: " in error and "rm model.onnx; make onnx" in error
