"""`infer.run`: one command is built, run and checked; killed runs resume; a pass that is up to date is only touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.io.files import locked, make_folder, sha256_file
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord
from hrnet.io.stamp import stamp_path
from infer import run as infer_run
from infer.passes import plan_passes
from infer.run_ais_bench import Tool
from tests.support import ROOT, in_process
from tests.support.errors import check_error
from tests.support.linear_model import check_logits, linear_model, prep_folder, remove_records

in_this_process = pytest.mark.usefixtures("emulators_in_process")


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def call(*more: str) -> int:
    return infer_run.main(["--model", "m.onnx", "--inputs", "in", "--output", "out/run", *more])


def prepare(count: int, batch: int = 4) -> np.ndarray:
    linear_model(Path("m.onnx"), batch)
    return prep_folder(Path("in"), count)


def interrupt(finished: int, count: int) -> None:
    """Make the state after a killed run: settings and some outputs, but no summary and no record."""
    remove_records()
    os.unlink("out/run_summary.json")
    for i in range(finished, count):
        os.unlink(f"out/run/img{i}_0.bin")


def kept() -> int:
    return RunRecord.read("out/run_run.json").kept


def test_the_record_describes_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    images = prepare(6)
    assert call() == 0
    check_logits(images)
    record = RunRecord.read("out/run_run.json")
    assert " ".join(record.command[1:]) == (
        "-m infer.emulator --runtime onnxruntime --model m.onnx --input in --output out --output_dirname run "
        "--outfmt BIN --batchsize 4 --device 0"
    )
    assert record.model_sha256 == sha256_file("m.onnx")
    assert record.manifest_sha256 == sha256_file("in/manifest.json")
    assert record.metadata == {"model": "linear"}
    assert record.tool.startswith("onnxruntime ")
    assert (record.images, record.kept, record.batch, record.flipped) == (6, 0, 4, False)
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(6)}
    assert sorted(record.seconds) == ["infer", "read", "total", "write"]
    assert record.images_per_second == pytest.approx(6 / record.seconds["total"])
    assert [output.name for output in record.outputs] == ["class"]
    out = capfd.readouterr().out
    assert " ".join(record.command) in out, "the command can be pasted"
    assert "inferred 6 images into out/run (" in out


@in_this_process
def test_an_up_to_date_pass_is_only_touched(capfd: pytest.CaptureFixture[str]) -> None:
    prepare(6)
    assert call() == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("out").rglob("*") if path.is_file()}
    capfd.readouterr()
    assert call() == 0
    out = capfd.readouterr().out
    assert "infer.emulator" not in out and "rm out/run_run.json" in out
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns > time) == (path.name == "run_run.json")


def npy_inputs(_: Optional[pytest.MonkeyPatch] = None) -> None:
    for path in Path("in").glob("*.bin"):
        path.unlink()
    prep_folder(Path("in"), 6, suffix="npy")


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "the model": lambda _: linear_model(Path("m.onnx"), 2),
    "the inputs": npy_inputs,
    "one input, of the same size": lambda _: Path("in/img2.bin").write_bytes(Path("in/img3.bin").read_bytes()),
    "own code": lambda patch: patch.setattr(infer_run, "code_sha256", lambda *modules: "0" * 64),
    "no record": lambda _: os.unlink("out/run_run.json"),
    "a changed record": lambda _: os.truncate("out/run_run.json", 9),
    "a missing output": lambda _: os.unlink("out/run/img2_0.bin"),
    "a shorter output": lambda _: os.truncate("out/run/img2_0.bin", 8),
    "a foreign file": lambda _: Path("out/run/other_0.bin").write_bytes(b"old"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished run on six inputs."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        in_process.run_emulators(patch)
        patch.setenv("PYTHONPATH", str(ROOT))
        prepare(6)
        assert call() == 0
    return folder


@pytest.mark.parametrize("change", CHANGES)
@in_this_process
def test_a_pass_that_is_not_up_to_date_runs_again(
    change: str, finished: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, workdir, dirs_exist_ok=True)
    assert call() == 0 and "infer.emulator" not in capfd.readouterr().out, "up to date before the change"
    CHANGES[change](monkeypatch)
    assert call() == 0
    assert kept() == 0
    assert sorted(os.listdir("out/run")) == [f"img{i}_0.bin" for i in range(6)]


@in_this_process
def test_another_format_or_tool_runs_again(capfd: pytest.CaptureFixture[str]) -> None:
    prepare(3)
    for more in ([], ["--outfmt", "NPY"], ["--outfmt", "NPY", "--backend", "openvino"]):
        if "openvino" in more:
            pytest.importorskip("openvino")
        assert call(*more) == 0
        assert "inferred 3 images" in capfd.readouterr().out
        runtime = "openvino" if "openvino" in more else "onnxruntime"
        assert RunRecord.read("out/run_run.json").tool.startswith(f"{runtime} "), "the runtime that computed"


@in_this_process
def test_a_killed_run_only_computes_what_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    images = prepare(7)
    assert call() == 0
    interrupt(finished=3, count=7)
    times = {name: os.stat(f"out/run/{name}").st_mtime_ns for name in os.listdir("out/run")}
    assert call() == 0
    assert "3 of 7 inputs were finished before and are kept" in capfd.readouterr().out
    assert {name: os.stat(f"out/run/{name}").st_mtime_ns for name in times} == times
    check_logits(images)
    record = RunRecord.read("out/run_run.json")
    assert (record.images, record.kept) == (7, 3)
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(7)}
    assert not Path("out/run_chunk").exists()


@in_this_process
def test_other_inputs_keep_nothing() -> None:
    prepare(7)
    assert call() == 0
    interrupt(finished=3, count=7)
    for name in os.listdir("in"):
        os.unlink(f"in/{name}")
    images = prep_folder(Path("in"), 4)
    assert call() == 0
    assert kept() == 0
    check_logits(images)


@in_this_process
def test_other_code_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(7)
    assert call() == 0
    interrupt(finished=3, count=7)
    monkeypatch.setattr(infer_run, "code_sha256", lambda *modules: "0" * 64)
    assert call() == 0
    assert kept() == 0


@in_this_process
def test_partial_outputs_of_a_killed_run_are_computed_again() -> None:
    images = prepare(7)
    assert call() == 0
    interrupt(finished=4, count=7)
    os.truncate("out/run/img2_0.bin", 8)  # by a killed ais_bench
    Path("out/run/.img5_0.bin.1234.tmp").write_bytes(b"half")  # by the killed emulator
    assert call() == 0
    assert kept() == 3
    check_logits(images)


@in_this_process
def test_a_run_killed_before_its_record_computes_one_input_again() -> None:
    prepare(7)
    assert call() == 0
    remove_records()
    assert call() == 0
    assert kept() == 6


@in_this_process
def test_unreadable_settings_keep_nothing() -> None:
    prepare(3)
    for text in ("", "{}", '{"kind": "settings", "format_version": 1}'):
        make_folder("out")
        Path("out/run_settings.json").write_text(text)
        Path("out/run_run.json").unlink(missing_ok=True)
        stamp_path("out/run").unlink(missing_ok=True)
        assert call() == 0
        assert kept() == 0


@in_this_process
def test_records_are_removed_before_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(3)
    assert call() == 0

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infer.output_dir.shutil.rmtree", killed)
    assert call("--outfmt", "NPY") == 130
    assert not Path("out/run_run.json").exists() and not stamp_path("out/run").exists()


@in_this_process
def test_free_disk_is_checked_for_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(7)
    needs: list[int] = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: needs.append(need))
    assert call() == 0
    interrupt(finished=3, count=7)
    assert call() == 0
    assert needs == [7 * 5 * 4, 4 * 5 * 4]


@in_this_process
def test_inputs_must_fit_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    pixels = prep_folder(Path("in"), 3, pixels=True)
    linear_model(Path("m.onnx"), 2, pixels=True)
    assert call() == 0
    check_logits(pixels.transpose(0, 3, 1, 2).astype(np.float32), tolerance=1e-3)
    linear_model(Path("m.onnx"), 2)
    assert call() == 2
    parts = ("in: ", "m.onnx", "float32[3, 4, 4]", "uint8[4, 4, 3]", "; compile and preprocess with the same")
    check_error(capfd.readouterr().err, "infer.run", *parts)
    prep_folder(Path("in"), 3)
    record = json.loads(Path("m.onnx.json").read_text())
    record["inputs"][0]["shape"] = [4, 3, 8, 8]
    Path("m.onnx.json").write_text(json.dumps(record))
    assert call() == 2
    check_error(capfd.readouterr().err, "infer.run", "in: ", "m.onnx", "float32[3, 8, 8]", "float32[3, 4, 4]")


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda: os.unlink("in/img1.bin"), "1 missing, 0 unexpected: img1.bin"),
        (lambda: os.link("in/img1.bin", "in/other.bin"), "0 missing, 1 unexpected: other.bin"),
    ],
)
def test_inputs_must_match_the_manifest(
    capsys: pytest.CaptureFixture[str], change: Callable[[], None], found: str
) -> None:
    prepare(3)
    change()
    assert call() == 2
    check_error(capsys.readouterr().err, "infer.run", "in: ", found, "rm in/manifest.json; make preprocess")


def test_a_missing_manifest_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    prepare(3)
    os.unlink("in/manifest.json")
    assert call() == 2
    check_error(capsys.readouterr().err, "infer.run", "in/manifest.json", "run make preprocess")


def test_a_failing_tool_leaves_no_record(capfd: pytest.CaptureFixture[str]) -> None:
    prepare(1)
    prep_folder(Path("in"), 1, suffix="npy")
    os.unlink("in/img0.bin")
    np.save("in/img0.npy", np.zeros((3, 5, 5), np.float32))
    assert call() == 2, "exit 2 since the tool wrote nothing: make does not remember the variables of this call"
    err = capfd.readouterr().err
    check_error(err.splitlines()[0], "infer.emulator", "filesize: 300 not match")
    check_error(err, "infer.run", "infer.emulator failed", "found exit 1", "no output")
    assert not Path("out/run_run.json").exists()


def run_fake_tool(workdir: Path, body: str) -> None:
    """Run with a tool that writes 20 bytes for each input. `body`: code that changes what it writes."""
    prepare(3, batch=1)
    script = workdir / "tool.py"
    script.write_text(
        "import json, os, sys\n"
        "args = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "folder = os.path.join(args['--output'], args['--output_dirname'])\n"
        "names = sorted(name for name in os.listdir(args['--input']) if name.endswith('.bin'))\n"
        "files = {name: name[:-4] + '_0.bin' for name in names}\n"
        f"{body}\n"
        "for output in files.values(): open(os.path.join(folder, output), 'wb').write(bytes(20))\n"
        "info = {i: {'infiles': [n], 'outfiles': [files[n]]} for i, n in enumerate(files)}\n"
        "times = {'mean': 2.0, 'count': len(names)}\n"
        "summary = {'filesinfo': info, 'NPU_compute_time': times, 'throughput': 500.0}\n"
        "json.dump(summary, open(folder + '_summary.json', 'w'))\n"
    )
    tool = Tool([sys.executable, str(script)], ())
    infer_run.run(Path("m.onnx"), plan_passes(Path("in"), Path("out/run"), None, None, "", tool), tool, "0")


def test_a_tool_without_host_times_is_accepted(workdir: Path) -> None:
    run_fake_tool(workdir, "pass")
    record = RunRecord.read("out/run_run.json")
    assert record.tool == "ais_bench"
    assert record.seconds["read"] is None and record.seconds["write"] is None
    assert record.seconds["infer"] == pytest.approx(0.006)
    assert record.device["throughput"] == 500.0


@pytest.mark.parametrize(
    "body, found",
    [
        ("files.pop('img1.bin')", "1 input without outputs, 0 unexpected files: img1"),
        ("open(os.path.join(folder, 'x_0.bin'), 'wb')", "0 inputs without outputs, 1 unexpected file: x_0.bin"),
        ("files['img1.bin'] = 'img1_1.bin'", "1 input without outputs, 1 unexpected file: img1, img1_1.bin"),
        ("open(os.path.join(folder, 'img0_0.bin'), 'wb'); sys.exit(3)", "exit 3"),
    ],
)
def test_counts_must_agree(workdir: Path, body: str, found: str) -> None:
    with pytest.raises(WorkFailed) as failure:
        run_fake_tool(workdir, body)
    assert failure.value.found == found
    assert not Path("out/run_run.json").exists()


@pytest.mark.parametrize("body, found", [("sys.exit(3)", "exit 3"), ("os.kill(os.getpid(), 11)", "exit -11")])
def test_a_tool_that_fails_before_its_first_output_is_a_user_error(workdir: Path, body: str, found: str) -> None:
    with pytest.raises(UserError) as failure:
        run_fake_tool(workdir, body)
    assert failure.value.found == found


def test_a_tool_without_summary_is_an_error(workdir: Path) -> None:
    with pytest.raises(FormatError) as failure:
        run_fake_tool(workdir, "sys.exit(0)")
    assert str(failure.value.where) == "out/run_summary.json"


def test_two_runs_at_once_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    prepare(3)
    make_folder("out")
    with locked("out/run_lock"):
        assert call() == 2
    check_error(capsys.readouterr().err, "infer.run", "out/run_lock")
    assert call() == 0
