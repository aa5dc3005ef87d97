"""`infer.run`: one command spelled, run and checked; a killed run resumes; nothing old is taken for new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from hrnet.cli import UserError
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import locked, make_folder, sha256_file
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from tests.infer.models import expected_logits, linear_model, prep_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def call(*more: str) -> int:
    arguments = ["--model", "m.onnx", "--input", "in", "--output", "out", "--output_dirname", "run"]
    return infer_run.main([*arguments, *more])


def logits(count: int) -> np.ndarray:
    return np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(count)])


def test_record_says_what_was_run_on_what(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = prep_folder(Path("in"), 6)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    np.testing.assert_allclose(logits(6), expected_logits(images), rtol=1e-5, atol=1e-5)
    record = RunRecord.read("out/run_run.json")
    assert " ".join(record.command[1:]) == (
        "-m infer.emulator --runtime onnxruntime --model m.onnx --input in --output out --output_dirname run "
        "--outfmt BIN --batchsize 4 --device 0"
    )
    assert record.model_sha256 == sha256_file("m.onnx")
    assert record.manifest_sha256 == sha256_file("in/manifest.json")
    assert record.metadata == {"model": "linear"}
    assert record.tool.startswith("onnxruntime ")
    assert (record.images, record.kept, record.batch) == (6, 0, 4)
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(6)}
    assert sorted(record.seconds) == ["infer", "read", "total", "write"]
    assert record.images_per_second == pytest.approx(6 / record.seconds["total"])
    assert [output.name for output in record.outputs] == ["class"]
    told = capfd.readouterr().out
    assert "-m infer.emulator --runtime onnxruntime --model m.onnx --input in" in told, "the command can be pasted"
    assert "inferred 6 images into out/run (" in told


def interrupt(finished: int, count: int) -> None:
    """Make `out` what a kill leaves: settings, some outputs, no summary, no record."""
    for i in range(finished, count):
        os.unlink(f"out/run/img{i}_0.bin")
    os.unlink("out/run_summary.json")
    os.unlink("out/run_run.json")


def test_killed_run_does_only_what_is_left(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    whole = logits(7)
    interrupt(finished=3, count=7)
    times = {name: os.stat(f"out/run/{name}").st_mtime_ns for name in os.listdir("out/run")}
    assert call() == 0
    assert "3 of 7 inputs were finished before and are kept" in capfd.readouterr().out
    assert {name: os.stat(f"out/run/{name}").st_mtime_ns for name in times} == times
    assert logits(7).tobytes() == whole.tobytes()
    np.testing.assert_allclose(whole, expected_logits(images), rtol=1e-5, atol=1e-5)
    record = RunRecord.read("out/run_run.json")
    assert (record.images, record.kept) == (7, 3)
    assert record.files == {f"img{i}": [f"img{i}_0.bin"] for i in range(7)}
    assert not Path("out/run_chunk").exists()


def test_other_inputs_start_afresh(place: Path) -> None:
    prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    interrupt(finished=3, count=7)
    for name in os.listdir("in"):
        os.unlink(f"in/{name}")
    images = prep_folder(Path("in"), 4)
    assert call() == 0
    assert RunRecord.read("out/run_run.json").kept == 0
    assert sorted(os.listdir("out/run")) == [f"img{i}_0.bin" for i in range(4)]
    np.testing.assert_allclose(logits(4), expected_logits(images), rtol=1e-5, atol=1e-5)


def test_finished_run_is_done_anew_without_its_old_outputs(place: Path) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    Path("out/run/stranger_0.bin").write_bytes(b"old")
    assert call() == 0
    assert sorted(os.listdir("out/run")) == ["img0_0.bin", "img1_0.bin", "img2_0.bin"]


def test_pixels_go_to_a_model_that_takes_them_alone(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = prep_folder(Path("in"), 3, pixels=True)
    linear_model(Path("m.onnx"), 2, pixels=True)
    assert call() == 0
    expected = expected_logits(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(logits(3), expected, rtol=1e-5, atol=1e-3)
    linear_model(Path("m.onnx"), 2)
    capfd.readouterr()
    assert call() == 2
    assert capfd.readouterr().err == (
        "infer.run: error: in: inputs do not fit m.onnx (expected float32[3, 4, 4], found uint8[4, 4, 3]); "
        "give make om and make preprocess the same MODEL and INPUT\n"
    )


def test_inputs_of_another_shape_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    record = json.loads(Path("m.onnx.json").read_text())
    record["inputs"][0]["shape"] = [4, 3, 8, 8]
    Path("m.onnx.json").write_text(json.dumps(record))
    assert call() == 2
    assert capsys.readouterr().err == (
        "infer.run: error: in: inputs do not fit m.onnx (expected float32[3, 8, 8], found float32[3, 4, 4]); "
        "give make om and make preprocess the same MODEL and INPUT\n"
    )


def test_no_manifest_no_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    os.unlink("in/manifest.json")
    assert call() == 2
    assert capsys.readouterr().err == "infer.run: error: in/manifest.json: no manifest record; run make preprocess\n"


def test_failing_tool_leaves_no_record_and_exits_1(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    os.truncate("in/img1.bin", 8)
    assert call() == 1
    told = capfd.readouterr().err
    assert "infer.emulator: failed: in/img1.bin: size (expected 192 bytes, as the first input, found 8)" in told
    assert "infer.run: failed: -m infer.emulator exited with 1, see above; what it finished is kept for a rerun" in told
    assert not Path("out/run_run.json").exists()


def test_missing_interpreter(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    assert call("--backend", "ascend", "--ais_python", "python_of_nobody") == 2
    message = "python_of_nobody: no such interpreter; set AIS_PYTHON to the python that has ais_bench"
    assert message in capsys.readouterr().err


def fake_tool(place: Path, body: str) -> list[str]:
    """An interpreter whose `-m ais_bench` is `body`: a tool that leaves other files than it should."""
    script = place / "tool.py"
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
    return [sys.executable, str(script)]


def run_fake(place: Path, body: str) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 1)
    outputs = infer_run.OutputDir(Path("out"), "run", "BIN")
    infer_run.run(Path("m.onnx"), Path("in"), outputs, ["0"], fake_tool(place, body))


def test_tool_without_host_times_is_recorded_as_not_told(place: Path) -> None:
    run_fake(place, "pass")
    record = RunRecord.read("out/run_run.json")
    assert record.tool == "ais_bench"
    assert record.seconds["read"] is None and record.seconds["write"] is None
    assert record.seconds["infer"] == pytest.approx(0.006)
    assert record.device["throughput"] == 500.0


COUNTS = "out/run: expected 1 outputs for each of 3 inputs and nothing else"


@pytest.mark.parametrize(
    "body, message",
    [
        ("files.pop('img1.bin')", f"{COUNTS}, found 1 inputs without theirs, 0 foreign files: img1; rerun make infer"),
        (
            "open(os.path.join(folder, 'x_0.bin'), 'wb')",
            f"{COUNTS}, found 0 inputs without theirs, 1 foreign files: x_0.bin; rerun make infer",
        ),
        (
            "files['img1.bin'] = 'img1_1.bin'",
            f"{COUNTS}, found 1 inputs without theirs, 1 foreign files: img1, img1_1.bin; rerun make infer",
        ),
        ("sys.exit(3)", "exited with 3"),
    ],
)
def test_counts_must_agree(place: Path, body: str, message: str) -> None:
    with pytest.raises(infer_run.WorkFailed) as failure:
        run_fake(place, body)
    assert message in str(failure.value)
    assert not Path("out/run_run.json").exists()


def test_tool_that_leaves_no_summary(place: Path) -> None:
    with pytest.raises(FormatError) as failure:
        run_fake(place, "sys.exit(0)")
    assert str(failure.value) == "out/run_summary.json: the tool left no summary; read its messages above"


def test_record_of_another_model_is_refused(place: Path) -> None:
    linear_model(Path("m.onnx"), 1)
    linear_model(Path("other.onnx"), 2)
    os.replace("other.onnx", "m.onnx")
    with pytest.raises(FormatError) as failure:
        CompiledModel.read("m.onnx")
    assert (
        str(failure.value) == "m.onnx.json: speaks of another model (expected the hash of m.onnx); if make om made it: "
        "rm m.onnx; make om; if it is from elsewhere: python -m atc.adopt --om m.onnx"
    )


def test_free_disk_is_asked_for_what_is_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 4)
    asked = []
    monkeypatch.setattr(infer_run, "check_free_disk", lambda folder, need: asked.append(need))
    assert call() == 0
    interrupt(finished=3, count=7)
    assert call() == 0
    assert asked == [7 * 5 * 4, 4 * 5 * 4]


def test_batch_is_the_model_s(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 2)
    assert call() == 0
    assert RunRecord.read("out/run_run.json").batch == 2
    assert " --batchsize 2 " in capfd.readouterr().out


def test_half_outputs_of_a_killed_run_are_done_again(place: Path) -> None:
    images = prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    interrupt(finished=4, count=7)
    os.truncate("out/run/img2_0.bin", 8)  # as a killed ais_bench leaves it
    Path("out/run/.img5_0.bin.1234.tmp").write_bytes(b"half")  # as our killed twin leaves it
    assert call() == 0
    assert RunRecord.read("out/run_run.json").kept == 3
    np.testing.assert_allclose(logits(7), expected_logits(images), rtol=1e-5, atol=1e-5)
    assert len(os.listdir("out/run")) == 7


def test_run_killed_before_its_record_does_one_input_again(place: Path) -> None:
    prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0
    os.unlink("out/run_run.json")
    assert call() == 0
    assert RunRecord.read("out/run_run.json").kept == 6


def test_unreadable_settings_are_other_settings(place: Path) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    for text in ("", "{}", '{"kind": "settings", "format_version": 1}'):
        make_folder("out")
        Path("out/run_settings.json").write_text(text)
        assert call() == 0
        assert RunRecord.read("out/run_run.json").kept == 0


def test_records_go_before_what_they_speak_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    assert call() == 0

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infer.output_dir.shutil.rmtree", killed)
    assert call() == 130
    assert not Path("out/run_run.json").exists(), "nothing speaks for outputs that are half removed"


@pytest.mark.parametrize(
    "spoil, found",
    [
        (lambda: os.unlink("in/img1.bin"), "1 missing, 0 foreign: img1.bin"),
        (lambda: os.link("in/img1.bin", "in/other.bin"), "0 missing, 1 foreign: other.bin"),
    ],
)
def test_inputs_must_be_those_of_the_manifest(
    place: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], found: str
) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    spoil()
    assert call() == 2
    assert capsys.readouterr().err == (
        f"infer.run: error: in: inputs are not those of the manifest (found {found}); "
        "rm in/manifest.json; make preprocess\n"
    )


def test_two_runs_at_once_exclude_each_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(Path("in"), 3)
    linear_model(Path("m.onnx"), 4)
    make_folder("out")
    with locked("out/run_lock"):
        assert call() == 2
    assert "out/run_lock: another run, or the tool of a killed one, is still at work" in capsys.readouterr().err
    assert call() == 0


def test_lock_lives_as_long_as_the_tool(place: Path) -> None:
    """A tool that outlives `infer.run` keeps the lock: its descriptor was inherited."""
    make_folder("out")
    with locked("out/run_lock") as lock:
        tool = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    try:
        with pytest.raises(UserError), locked("out/run_lock"):
            pass
    finally:
        tool.communicate(b"\n")
    with locked("out/run_lock"):
        pass
