"""Files that are cut, grown, empty, of an older run or changed by hand: the right result, or one clear line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from atc import convert
from hrnet import formats
from infer import run as infer_run
from postprocess import topn
from tests.atc.models import classifier, saved
from tests.hardening.harness import ROOT
from tests.infer.models import CLASSES, expected_logits, linear_model, prep_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a compiled model, five inputs and a config that goes with them."""
    monkeypatch.chdir(tmp_path)
    prep_folder(Path("in"), 5)
    linear_model(Path("m.onnx"), 2)
    return tmp_path


def infer() -> int:
    return infer_run.main(["--model", "m.onnx", "--input", "in", "--output", "out", "--output_dirname", "run"])


def refused(capfd: pytest.CaptureFixture[str], code: int, call: Callable[[], int]) -> list[str]:
    """What was said on stderr by a call that must fail."""
    capfd.readouterr()
    assert call() == code
    told = capfd.readouterr().err
    assert "Traceback" not in told
    return told.splitlines()


def test_an_onnx_file_cut_anywhere(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier()
    del model.metadata_props[:]  # the last of the file, without which the model is whole
    whole = model.SerializeToString()
    for cut in range(0, len(whole), 23):
        Path("cut.onnx").write_bytes(whole[:cut])
        line = refused(capfd, 2, lambda: convert.main(["--model", "cut.onnx", "--output", "om/a.onnx"]))
        told = "atc would refuse this: E10041: Failed to load the model from cut.onnx."
        assert line == [f"atc.convert: error: cut.onnx: {told}"], cut
    assert sorted(os.listdir("om")) == []


def test_the_twin_of_atc_does_not_blame_the_model_for_a_full_disk(place: Path) -> None:
    saved(place, classifier())
    half = len(classifier().SerializeToString()) // 2
    call = ["--framework=5", "--model=model.onnx", "--output=a", "--soc_version=Ascend310P3"]
    done = subprocess.run(
        [sys.executable, "-m", "atc.embedded", *call, "--input_format=NCHW", "--input_shape=image:2,3,16,16"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (half, half)),
        capture_output=True,
        text=True,
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 255 and last.startswith("E19999: Inner Error! "), done.stdout
    assert "/optimised.onnx: cannot be written: " in last and "E10041" not in done.stdout
    assert not Path("a.onnx").exists()


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_compiled_model_cut_anywhere(place: Path, fraction: float, capfd: pytest.CaptureFixture[str]) -> None:
    os.truncate("m.onnx", int(os.path.getsize("m.onnx") * fraction))
    line = f"m.onnx.json: speaks of another model (expected the hash of m.onnx); {REMAKE}"
    assert refused(capfd, 2, infer) == [f"infer.run: error: {line}"]
    assert not Path("out").exists()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(4))


SIZE = "size (expected 192 bytes, as the first input, found"
MEND = "remove it and manifest.json, then make preprocess"
REMAKE = "if make om made it: rm m.onnx; make om; if it is from elsewhere: python -m atc.adopt --om m.onnx"
NO_MATCH = "arg0 tensorsize: 384 filesize: {} not match; BATCH and INPUT as in make om"
BAD_INPUTS = {
    "shorter": (lambda: os.truncate("in/img2.bin", 188), f"in/img2.bin: {SIZE} 188); {MEND}"),
    "longer": (lambda: grow(Path("in/img2.bin")), f"in/img2.bin: {SIZE} 196); {MEND}"),
    "empty": (lambda: os.truncate("in/img2.bin", 0), f"in/img2.bin: {SIZE} 0); {MEND}"),
    "first shorter": (lambda: os.truncate("in/img0.bin", 188), NO_MATCH.format(188)),
    "first longer": (lambda: grow(Path("in/img0.bin")), NO_MATCH.format(196)),
    "first empty": (lambda: os.truncate("in/img0.bin", 0), NO_MATCH.format(0)),
}


@pytest.mark.parametrize("fault", BAD_INPUTS)
def test_an_input_of_another_size(place: Path, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, line = BAD_INPUTS[fault]
    spoil()
    assert refused(capfd, 1, infer) == [
        f"infer.embedded: failed: {line}",
        "infer.run: failed: -m infer.embedded exited with 1, see above; what it finished is kept for a rerun",
    ]
    assert not Path("out/run_run.json").exists()
    images = prep_folder(Path("in"), 5)
    assert infer() == 0
    found = np.stack([np.fromfile(f"out/run/img{i}_0.bin", np.float32) for i in range(5)])
    np.testing.assert_allclose(found, expected_logits(images), rtol=1e-5, atol=1e-5)


def test_an_input_of_nan_is_found_at_the_end(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing but its values tells that it is corrupt; they go through the model to where accuracy is counted."""
    Path("in/img2.bin").write_bytes(np.full(48, np.nan, np.float32).tobytes())
    assert infer() == 0
    record = formats.RunRecord.read("out/run_run.json")
    files = [Path("out/run", record.files[f"img{i}"][0]) for i in range(5)]
    with pytest.raises(formats.FormatError) as caught:
        topn.rank_files(files, [0] * 5, CLASSES)
    told = "is NaN (expected numbers, found 5 NaN of 5 values: the input, the weights or an overflow in fp16)"
    assert str(caught.value) == f"out/run/img2_0.bin: {told}"


EMPTY = "is no JSON: Expecting value: line 1 column 1 (char 0)"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("in/manifest.json", f"in/manifest.json: {EMPTY}; run make preprocess"),
        ("m.onnx.json", f"m.onnx.json: {EMPTY}; {REMAKE}"),
    ],
)
def test_an_empty_record(place: Path, name: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    os.truncate(name, 0)
    assert refused(capfd, 2, infer) == [f"infer.run: error: {line}"]


def test_a_copied_folder_that_the_group_may_write(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.move("in", "first")
    shutil.copytree("first", "in")
    os.chmod("in/img1.bin", 0o664)
    line = "in/img1.bin: group or world may write it, which ais_bench refuses; chmod go-w in/img1.bin"
    assert refused(capfd, 2, infer) == [
        f"infer.embedded: error: {line}",
        "infer.run: error: -m infer.embedded refused what it was given, see above",
    ]
    os.chmod("in/img1.bin", 0o640)
    assert infer() == 0


def test_a_manifest_edited_by_hand_is_another_one(place: Path) -> None:
    assert infer() == 0
    os.unlink("out/run_run.json")  # as of a killed run, whose outputs would be kept
    text = Path("in/manifest.json").read_text()
    Path("in/manifest.json").write_text(text.replace('"label": 1', '"label": 0'))
    assert infer() == 0
    assert formats.RunRecord.read("out/run_run.json").kept == 0


def test_an_older_summary_is_not_taken_for_the_tool_s(place: Path) -> None:
    assert infer() == 0
    os.unlink("out/run_run.json")
    start = [sys.executable, "-c", "pass"]
    outputs = infer_run.Place(Path("out"), "run", "BIN")
    with pytest.raises(formats.FormatError, match=r"^out/run_summary\.json: the tool left no summary"):
        infer_run.run(Path("m.onnx"), Path("in"), outputs, ["0"], start)


def test_inputs_that_change_while_they_are_inferred(place: Path) -> None:
    """Preprocessing takes no notice of who reads: the record must not speak for other inputs."""
    tool = place / "tool.py"
    tool.write_text(
        "import os, runpy, sys\nos.unlink('in/manifest.json')\nrunpy.run_module('infer.embedded', None, '__main__')\n"
    )
    outputs = infer_run.Place(Path("out"), "run", "BIN")
    with pytest.raises(infer_run.WorkFailed) as caught:
        infer_run.run(Path("m.onnx"), Path("in"), outputs, ["0"], [sys.executable, str(tool)])
    assert str(caught.value) == "in/manifest.json: changed while its inputs were inferred; rerun make infer"
    assert not Path("out/run_run.json").exists()


def test_the_record_lists_outputs_in_the_manifest_s_order_after_a_kill(place: Path) -> None:
    assert infer() == 0
    os.unlink("out/run_run.json")
    for i in (0, 3):
        os.unlink(f"out/run/img{i}_0.bin")
    assert infer() == 0
    record = json.loads(Path("out/run_run.json").read_text())
    assert (record["kept"], list(record["files"])) == (3, [f"img{i}" for i in range(5)])
