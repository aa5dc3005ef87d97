"""convert: the command that it spells, what it leaves, and what it does when the tool does not."""

from __future__ import annotations

import json
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

from atc import aipp, atc_rules, convert, run_atc
from atc.emulator import main
from hrnet.io.compiled import CompiledModel, Gear, TensorInfo
from tests import fakes, tiny
from tests.atc.models import classifier, images, pyramid, saved

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with model.onnx."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    return tmp_path


@pytest.fixture
def atc(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The double on PATH as `atc`."""
    folder = tmp_path_factory.mktemp("bin")
    fakes.atc(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return monkeypatch


def words(output: str, *more: str) -> list[str]:
    backend = "ascend" if output.endswith(".om") else "onnxruntime"
    return ["--model", "model.onnx", "--output", output, "--backend", backend, *more]


def litter(folder: Path) -> list[str]:
    """What lies in `folder`, but for the lock, which stays."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith("_lock"))


@pytest.mark.parametrize("batch", [1, 16])
def test_the_twin_compiles_and_the_record_says_what(batch: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"om/bs{batch}-float32-fp32.onnx"
    assert convert.main(words(output, "--batch", str(batch))) == 0
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
    assert litter(here) == ["model.onnx", "om", output, f"{output}.json"]
    assert (here / output).stat().st_mode & 0o777 == 0o640

    record = CompiledModel.read(output)
    assert record.command == command
    assert record.tool == "atc.emulator"
    assert record.inputs == [TensorInfo("image", "float32", [batch, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [batch, 10])]
    assert record.metadata == {"model": "hrnet_w18", "weights_sha256": "ab" * 32, "opset": "11"}

    found = onnxruntime.InferenceSession(output).run(None, {"image": images(batch)})[0]
    wanted = onnxruntime.InferenceSession("model.onnx").run(None, {"image": images(batch)})[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_the_printed_command_can_be_pasted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(words("a.onnx", "--batch", "2")) == 0
    first = capsys.readouterr().out.splitlines()[0]
    whole = (here / "a.onnx").read_bytes()
    (here / "a.onnx").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(first, shell=True, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert (here / "a.onnx").read_bytes() == whole


def test_a_second_run_gives_the_same_bytes(here: Path) -> None:
    assert convert.main(words("a.onnx")) == 0
    first = (here / "a.onnx").read_bytes()
    assert convert.main(words("a.onnx")) == 0
    assert (here / "a.onnx").read_bytes() == first
    assert CompiledModel.read("a.onnx").inputs[0].shape[0] == 16


def test_names_and_sizes_come_from_the_model(here: Path) -> None:
    saved(here, classifier(name="input", size=8))
    assert convert.main(words("a.onnx", "--batch", "4")) == 0
    assert "--input_shape=input:4,3,8,8" in CompiledModel.read("a.onnx").command


PRECISIONS = [("default", []), ("fp16", ["--precision_mode=force_fp16"]), ("fp32", ["--precision_mode=force_fp32"])]


@pytest.mark.parametrize(("precision", "flags"), PRECISIONS)
@pytest.mark.parametrize("output", ["a.onnx", "a.om"])
def test_precision_stands_last_in_the_command(
    output: str, precision: str, flags: list[str], here: Path, atc: pytest.MonkeyPatch
) -> None:
    assert convert.main(words(output, "--precision", precision)) == 0
    command = CompiledModel.read(output).command
    assert command[command.index("--log=error") + 1 :] == flags
    assert CompiledModel.read(output).outputs == [TensorInfo("class", "float32", [16, 10])]
    if output == "a.onnx":
        found = onnxruntime.InferenceSession(output).run(None, {"image": images(16)})[0]
        rounded = np.array_equal(found, found.astype(np.float16).astype(np.float32))
        assert rounded == (precision == "fp16")
    else:
        seen = json.loads((here / output).read_bytes().partition(b"\n")[0][4:])
        assert [f"--{name}={seen[name]}" for name in seen if name.startswith("precision")] == flags


@pytest.fixture
def cfg(here: Path) -> str:
    """A config whose images are those of a model of 32 pixels, and that model."""
    saved(here, classifier(size=32))
    (here / "m.yaml").write_text("MODEL: {IMAGE_SIZE: [32, 32]}\nINPUT: {RESIZE: 32, MEAN: [0.5, 0, 1]}\n")
    return "m.yaml"


@pytest.mark.parametrize("output", ["om/a.onnx", "om/a.om"])
def test_uint8_is_told_by_an_aipp_file_beside_the_model(
    output: str, here: Path, cfg: str, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main(words(output, "--batch", "4", "--input", "uint8", "--cfg", cfg)) == 0
    assert litter(here) == sorted(["m.yaml", "model.onnx", "om", "om/a.aipp.cfg", output, f"{output}.json"])
    text = (here / "om/a.aipp.cfg").read_text()
    assert text == aipp.render(32, 32, [0.5, 0, 1], [0.229, 0.224, 0.225])
    assert "    min_chn_0: 127.5\n    min_chn_1: 0\n    min_chn_2: 255\n" in text
    assert (here / "om/a.aipp.cfg").stat().st_mode & 0o777 == 0o640
    record = CompiledModel.read(output)
    assert record.inputs == [TensorInfo("image", "uint8", [4, 32, 32, 3])]
    assert record.outputs == [TensorInfo("class", "float32", [4, 10])]
    command = record.command[record.command.index("--framework=5") :]
    assert command == [
        "--framework=5",
        "--model=model.onnx",
        "--input_format=NCHW",
        "--input_shape=image:4,3,32,32",
        "--output=om/a",
        "--insert_op_conf=om/a.aipp.cfg",
        "--soc_version=Ascend310P3",
        "--log=error",
    ]
    assert capsys.readouterr().out.splitlines()[0] == shlex.join(record.command)
    if output.endswith(".om"):
        seen = json.loads((here / output).read_bytes().partition(b"\n")[0][4:])
        assert seen["insert_op_conf"] == "../a.aipp.cfg", "as atc sees it from its own folder"
        assert seen["aipp"]["min"] == [127.5, 0.0, 255.0]


def test_the_printed_command_of_uint8_can_be_pasted(here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.main(words("a.onnx", "--batch", "2", "--input", "uint8", "--cfg", cfg)) == 0
    whole = (here / "a.onnx").read_bytes()
    (here / "a.onnx").unlink()
    first = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert main.main(first[3:]) == 0
    assert (here / "a.onnx").read_bytes() == whole


def test_uint8_needs_the_model_of_the_config(here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    saved(here, classifier())
    assert refused(capsys, words("a.onnx", "--input", "uint8", "--cfg", cfg)) == (
        "atc.convert: error: model.onnx: the input is not that of the config (expected [16, 3, 32, 32], found "
        "{'image': [16, 3, 16, 16]}); give the config that it was exported by\n"
    )
    assert litter(here) == ["m.yaml", "model.onnx"]


def test_uint8_takes_mean_and_std_from_a_config(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main(words("a.onnx", "--input", "uint8"))
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: --input uint8 takes its mean and std from --cfg\n")


def test_a_precision_that_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main(words("a.onnx", "--precision", "fp8"))
    assert caught.value.code == 2
    assert "argument --precision: invalid choice: 'fp8'" in capsys.readouterr().err


@pytest.mark.parametrize("habit", ["", "host"])
def test_atc_itself(habit: str, here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    atc.setenv("ATC_DOUBLE", habit)
    output = "om/bs8-float32-Ascend310P3.om"
    assert convert.main(words(output, "--batch", "8", "--log", "debug")) == 0
    printed, *log, closing = capsys.readouterr().out.splitlines()
    assert log == [atc_rules.START, "[DEBUG] GE(1,atc.bin):one of a million lines", "...", atc_rules.SUCCESS]
    assert printed == (
        "atc --framework=5 --model=model.onnx --input_format=NCHW --input_shape=image:8,3,16,16 "
        "--output=om/bs8-float32-Ascend310P3 --soc_version=Ascend310P3 --log=debug"
    )
    assert closing.startswith(f"wrote {output} (batch 8, ")
    assert litter(here) == ["model.onnx", "om", output, f"{output}.json"]
    assert (here / output).stat().st_mode & 0o777 == 0o640
    record = CompiledModel.read(output)
    assert record.tool == "atc"
    assert shlex.join(record.command) == printed
    assert record.inputs == [TensorInfo("image", "float32", [8, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [8, 10])]
    seen = json.loads((here / output).read_bytes().partition(b"\n")[0][4:])
    # Relative to the scratch folder: whatever the checkout's own path holds, atc does not see it.
    assert (seen["model"], seen["output"]) == ("../../model.onnx", "bs8-float32-Ascend310P3")
    assert {name: value for name, value in seen.items() if name not in ("model", "output")} == {
        "framework": "5",
        "input_format": "NCHW",
        "input_shape": "image:8,3,16,16",
        "soc_version": "Ascend310P3",
        "log": "debug",
    }


def test_atc_that_refuses_is_shown(here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.om").write_bytes(b"before")
    assert convert.main(words("a.om", "--soc_version", "Ascend910B4")) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[1:] == [
        atc_rules.START,
        "...",
        atc_rules.FAILURE,
        "EZ3003: No supported Ops kernel and engine are found for [Conv_0, optype [Conv]].",
        "        TraceBack (most recent call last):",
    ]
    assert told.err == (
        "atc.convert: failed: atc exited with 255, see above; EZ3003: this chip has no such operator: is SOC the chip "
        "of npu-smi info, and this CANN made for it?\n"
    )
    assert litter(here) == ["a.om", "model.onnx"]
    assert (here / "a.om").read_bytes() == b"before"


def test_atc_that_crashes_is_shown(here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    atc.setenv("ATC_DOUBLE", "crash")
    assert convert.main(words("a.om")) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "terminate called after throwing an instance of 'std::bad_alloc'"
    assert told.err == "atc.convert: failed: atc exited with 134, see above\n"


def test_the_log_is_on_the_screen_while_atc_runs(here: Path, atc: pytest.MonkeyPatch) -> None:
    atc.setenv("ATC_DOUBLE", "waits")
    command = [sys.executable, "-m", "atc.convert", *words("a.om")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout)
        assert [next(lines), next(lines)][1] == f"{atc_rules.START}\n", "told while atc waits for the file"
        (here / "go_on").touch()
        assert list(lines)[:2] == ["...\n", f"{atc_rules.SUCCESS}\n"]
    assert running.returncode == 0


@pytest.mark.parametrize("output", ["a.om", "a.onnx"])
def test_the_chip_as_npu_smi_prints_it(
    output: str, here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main(words(output, "--soc_version", "310P3")) == 0
    first, command = capsys.readouterr().out.splitlines()[:2]
    assert first == "--soc_version=310P3 is taken as Ascend310P3"
    assert " --soc_version=Ascend310P3 " in command
    assert "--soc_version=Ascend310P3" in CompiledModel.read(output).command


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["E10016: Opname x specified in --input_shape is not found"], f"; E10016: {run_atc.HINTS['E10016']}"),
        (["E10041: [PID: 7] 2024-01-01 Failed", "E19999: Inner Error!"], f"; E10041: {run_atc.HINTS['E10041']}"),
        (["E19999: Inner Error!", "E19010: No parser is registered"], f"; E19010: {run_atc.HINTS['E19010']}"),
        (["E19999: Inner Error!", "E100160 is no code"], ""),
        ([], ""),
    ],
)
def test_hints(lines: list[str], expected: str) -> None:
    assert run_atc.hint(lines) == expected


def test_every_code_of_our_rules_has_a_hint() -> None:
    """Those of the gears and shapes too, which `convert` itself does not spell."""
    codes = {"E10001", "E10003", "E10007", "E10009", "E10016", "E10022", "E10041", "E10052", "E10054", "E19010"}
    codes |= {f"E100{number}" for number in (18, 19, 20, 31, 35, 36, 37, 38, 39)}
    assert codes <= set(run_atc.HINTS)


def test_atc_that_leaves_nothing(here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    atc.setenv("ATC_DOUBLE", "nothing")
    assert convert.main(words("a.om")) == 1
    expected = "atc.convert: failed: the tool ended well, but of a*.om it left none\n"
    assert capsys.readouterr().err == expected
    assert litter(here) == ["model.onnx"]


def test_no_atc_on_path(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(here))
    assert convert.main(words("a.om")) == 2
    assert capsys.readouterr().err == (
        "atc.convert: error: atc is not on PATH; source /usr/local/Ascend/ascend-toolkit/set_env.sh, or use "
        "--backend onnxruntime\n"
    )


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 2) -> str:
    assert convert.main(arguments) == code
    return capsys.readouterr().err


def test_faults_of_the_user(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = "atc.convert: error: "
    chips = ", ".join(atc_rules.SOC_VERSIONS)
    assert refused(capsys, words("a.onnx", "--soc_version", "P3")) == (
        f"{start}model.onnx: atc would refuse this: E10001: Value P3 for parameter --soc_version is invalid. "
        f"Reason: The value must be Ascend and the name that npu-smi info prints: {chips}.\n"
    )
    assert refused(capsys, words("a.onnx", "--log", "loud")) == (
        f"{start}model.onnx: atc would refuse this: E10010: Value loud for parameter --log is invalid.\n"
    )
    assert refused(capsys, ["--model", "model.onnx", "--output", "a.om", "--backend", "onnxruntime"]) == (
        f"{start}a.om: wrong ending (expected .onnx for onnxruntime, found '.om')\n"
    )
    assert refused(capsys, ["--model", "none.onnx", "--output", "a.onnx"]) == (
        f"{start}none.onnx: no such model; run make onnx\n"
    )
    (here / "model.onnx").write_bytes(b"no model")
    assert refused(capsys, words("a.onnx")) == (
        f"{start}model.onnx: atc would refuse this: E10041: Failed to load the model from model.onnx.\n"
    )
    assert litter(here) == ["model.onnx"]


def test_a_batch_below_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main(words("a.onnx", "--batch", "0"))
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: --batch 0: expected at least 1\n")


def test_axes_that_do_not_allow_the_batch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    saved(here, model)
    assert refused(capsys, words("a.onnx")) == (
        "atc.convert: error: model.onnx: the batch of image is fixed (expected 16 or a free axis, found [1, 3, 16, 16])"
        "; export it with a dynamic batch: make onnx\n"
    )
    saved(here, classifier(size="side"))
    assert refused(capsys, words("a.onnx")) == (
        "atc.convert: error: model.onnx: image has 2 free axes besides the batch (expected [-1, C, H, W], or --cfg "
        "with INPUT.GEARS, found [-1, 3, -1, -1])\n"
    )
    saved(here, classifier())
    cfg = tiny.write_pose_config(here)
    assert refused(capsys, words("a.onnx", "--cfg", str(cfg), "--batch", "1")) == (
        "atc.convert: error: model.onnx: image has no free axes besides the batch (expected [-1, C, -1, -1] for the "
        "gears of --cfg, found [-1, 3, 16, 16])\n"
    )
    assert refused(capsys, words("a.onnx", "--cfg", str(cfg))) == (
        "atc.convert: error: --batch with gears (expected 1, found 16); ais_bench sets the shape anew for each file\n"
    )


SEED_004 = (  # its atc command, but for the names of the outputs' nodes
    "--framework=5 --model=model.onnx --input_format=ND --input_shape=input:1,3,-1,-1 --output={output} "
    '"--dynamic_dims='
    "1024,512;960,512;896,512;832,512;768,512;704,512;640,512;576,512;512,512;512,576;512,640;512,704;512,768;512,832;"
    '512,896;512,960;512,1024" --out_nodes={outputs} --soc_version=Ascend310P3 --log=error'
)


@pytest.mark.parametrize("output", ["a.onnx", "a.om"])
def test_the_seeds_gears_come_from_the_config(
    output: str, here: Path, atc: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(here, classifier(name="input", size="side"))
    assert convert.main(words(output, "--cfg", str(ROOT / "configs/higher_hrnet_w32_512.yaml"), "--batch", "1")) == 0
    *_, closing = capsys.readouterr().out.splitlines()
    assert closing.startswith(f"wrote {output} (17 gears, ")
    record = CompiledModel.read(output)
    tool_words = 1 if output == "a.om" else 3
    assert record.command[tool_words:] == shlex.split(SEED_004.format(output="a", outputs="class"))
    assert record.inputs == [TensorInfo("input", "float32", [1, 3, -1, -1])]
    assert record.outputs == [TensorInfo("class", "float32", [1, 10])]
    assert len(record.gears) == 17
    assert record.gears[0] == Gear([1, 3, 1024, 512], [[1, 10]])
    if output == "a.om":
        seen = json.loads((here / output).read_bytes().partition(b"\n")[0][4:])
        assert seen["dynamic_dims"].startswith("1024,512;960,512;") and seen["out_nodes"] == "class"


def test_shapes_at_each_gear(here: Path) -> None:
    model = classifier(size="side")
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    saved(here, model)
    assert convert.main(words("a.onnx", "--cfg", str(tiny.write_pose_config(here)), "--batch", "1")) == 0
    record = CompiledModel.read("a.onnx")
    assert record.outputs == [TensorInfo("class", "float32", [1, 10]), TensorInfo("r", "float32", [1, 8, -1, -1])]
    assert record.gears == [
        Gear([1, 3, height, width], [[1, 10], [1, 8, height // 2, width // 2]]) for height, width in tiny.GEARS
    ]


def test_a_config_of_classification_has_no_gears(here: Path) -> None:
    assert convert.main(words("a.onnx", "--cfg", str(tiny.write_config(here)), "--batch", "4")) == 0
    assert CompiledModel.read("a.onnx").gears == []
    assert "--input_format=NCHW" in CompiledModel.read("a.onnx").command


def test_a_gear_that_the_model_does_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(here, pyramid(40))
    told = refused(capsys, words("a.onnx", "--cfg", str(tiny.write_pose_config(here)), "--batch", "1"))
    assert told.startswith("atc.convert: error: model.onnx: does not fit the gear [96, 64]: ") and "Sum" in told


def test_a_twin_that_fails_is_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.graph.node.append(helper.make_node("AveragePool", ["double"], ["pooled"], "Pool_6", kernel_shape=[1, 1]))
    model.graph.node.insert(2, helper.make_node("Cast", ["r"], ["double"], "Cast_5", to=TensorProto.DOUBLE))
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.DOUBLE, None))
    onnx.save(model, "model.onnx")
    assert convert.main(words("a.onnx")) == 1
    told = capsys.readouterr()
    failure, error = told.out.splitlines()[-2:]
    assert failure == atc_rules.FAILURE
    assert error.startswith("E10041: Failed to load the model from ") and "Pool_6" in error
    assert told.err == f"atc.convert: failed: atc.emulator exited with 255, see above{run_atc.hint(['E10041'])}\n"
    assert litter(here) == ["model.onnx"]


@pytest.fixture
def aoe(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The double on PATH as `aoe`; there is no atc."""
    folder = tmp_path_factory.mktemp("bin")
    fakes.aoe(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return monkeypatch


@pytest.mark.parametrize("habit", ["", "host"])
def test_aoe_tunes_subgraphs_then_operators(
    habit: str, here: Path, aoe: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aoe.setenv("AOE_DOUBLE", habit)
    output = "om/bs8-float32-Ascend310P3-aoe.om"
    assert convert.main(words(output, "--batch", "8", "--tune", "aoe")) == 0
    first, log, second, again, closing = capsys.readouterr().out.splitlines()
    command = (
        "aoe --framework=5 --model=model.onnx --input_format=NCHW --input_shape=image:8,3,16,16 "
        "--output=om/bs8-float32-Ascend310P3-aoe --job_type="
    )
    assert (first, second) == (f"{command}1", f"{command}2")
    assert log == again == "[Aoe]Aoe process finished,cost time 1s."
    assert closing.startswith(f"wrote {output} (batch 8, ")
    assert litter(here) == ["model.onnx", "om", output, f"{output}.json"]
    assert json.loads((here / output).read_bytes().partition(b"\n")[0][4:])["job_type"] == "2"
    record = CompiledModel.read(output)
    assert (record.tool, shlex.join(record.command)) == ("aoe", f"{command}2")
    assert record.inputs == [TensorInfo("image", "float32", [8, 3, 16, 16])]
    assert record.outputs == [TensorInfo("class", "float32", [8, 10])]


def test_aoe_that_fails(here: Path, aoe: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    aoe.setenv("AOE_DOUBLE", "no_device")
    assert refused(capsys, words("a.om", "--tune", "aoe"), 1) == "atc.convert: failed: aoe exited with 1, see above\n"
    aoe.setenv("AOE_DOUBLE", "nothing")
    line = "atc.convert: failed: the tool ended well, but of a*.om it left none\n"
    assert refused(capsys, words("a.om", "--tune", "aoe"), 1) == line, "that of the subgraphs is not the result"
    aoe.setenv("PATH", str(here))
    line = "aoe is not on PATH; source /usr/local/Ascend/ascend-toolkit/set_env.sh, or use --tune none\n"
    assert refused(capsys, words("a.om", "--tune", "aoe")) == f"atc.convert: error: {line}"
    assert litter(here) == ["model.onnx"]


def test_aoe_needs_the_device_and_chooses_the_precision(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, words("a.onnx", "--tune", "aoe")) == (
        "atc.convert: error: aoe tunes on the device (expected --backend ascend, found onnxruntime); TUNE=none\n"
    )
    assert refused(capsys, words("a.om", "--tune", "aoe", "--precision", "fp32")) == (
        "atc.convert: error: aoe is given no precision (expected --precision default, found fp32); PRECISION=default, "
        "or TUNE=none\n"
    )
