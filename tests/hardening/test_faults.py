"""Files that are cut, grown, empty, of an older run or changed by hand: the right result, or one clear line."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest

from atc import adopt, convert
from atc.emulator import main
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from infer.emulator import main as infer_embedded
from postprocess import classification
from tests.atc.models import classifier, pyramid, saved
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


def damaged(whole: bytes, seed: int) -> bytes:
    """One to four bits turned over, outside of large stored values, which may be any number."""
    source = random.Random(seed)
    spared: set[int] = set()
    for tensor in onnx.load_from_string(whole).graph.initializer:
        start = whole.find(tensor.raw_data)
        spared.update(range(start, start + len(tensor.raw_data)))
    places = [place for place in range(len(whole)) if place not in spared]
    content = bytearray(whole)
    for _ in range(source.choice([1, 1, 2, 4])):
        content[source.choice(places)] ^= 1 << source.randrange(8)
    return bytes(content)


POSE = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 64}\nINPUT: {GEARS: [[64, 64], [64, 128]]}\n"
PIXELS = "MODEL: {IMAGE_SIZE: [32, 32]}\nINPUT: {RESIZE: 40}\n"
SHAPED = ["--framework=5", "--soc_version=Ascend310P3", "--input_format=NCHW", "--input_shape=image:2,3,32,32"]
TWIN = [*SHAPED, "--model=f.onnx", "--output=om/f"]
CONVERT = ["--model", "f.onnx", "--output", "om/f.onnx", "--cfg", "c.yaml"]
ADOPT = ["--om", "f.onnx"]
INFER = ["--model", "f.onnx", "--input", "in", "--output", "out", "--output_dirname", "r", "--batchsize", "2"]
READERS: dict[str, tuple[Callable[..., int], list[str], Callable[[], onnx.ModelProto], str]] = {
    "twin of atc": (main.main, TWIN, lambda: classifier(size=32), PIXELS),
    "twin of atc, fp16": (main.main, [*TWIN, "--precision_mode=force_fp16"], lambda: classifier(size=32), PIXELS),
    "convert": (convert.main, [*CONVERT, "--batch", "2"], lambda: classifier(size=32), PIXELS),
    "convert with gears": (convert.main, [*CONVERT, "--batch", "1"], lambda: pyramid(4), POSE),
    "adopt": (adopt.main, ADOPT, lambda: onnx.load("m.onnx"), PIXELS),
    "twin of ais_bench": (infer_embedded.main, INFER, lambda: onnx.load("m.onnx"), PIXELS),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_an_onnx_file_with_flipped_bits(reader: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever reads it says so in a line, or takes it for what the bits now mean."""
    main, arguments, model, config = READERS[reader]
    Path("c.yaml").write_text(config)
    os.unlink("in/manifest.json")
    whole, codes = model().SerializeToString(), set()
    for seed in range(200):
        Path("f.onnx").write_bytes(damaged(whole, seed))
        Path("f.onnx").chmod(0o640)
        code = main(arguments)
        out, err = capfd.readouterr()
        codes.add(code)
        assert code in (0, 1, 2, 255), seed
        assert "Traceback" not in out + err, seed
        if main is main.main and code:
            assert re.match(r"E[0-9]{5}: \S", out.splitlines()[-1]), (seed, out)
        elif code:
            assert len(err.splitlines()) == 1, (seed, err)
    assert len(codes) > 1, "some flips do no harm"


NO_MODEL = "Failed to load the model from f.onnx."
OPERATOR = b'Conv_0"\x04Conv'
FLIPPED = {
    "a name that is no text": (OPERATOR, b'Con\xe1_0"\x04Conv', NO_MODEL),
    "an operator that is no text": (OPERATOR, b'Conv_0"\x04Co\xe1v', NO_MODEL),
    "an operator of two lines": (
        *(OPERATOR, b'Conv_0"\x04Co\nv'),
        "No parser is registered for Op [Conv_0, optype [ai.onnx::11::Co?v]].",
    ),
    "a type that there is not": (b"class\x12\x13\n\x11\x08\x01", b"class\x12\x13\n\x11\x08\x41", NO_MODEL),
}


@pytest.mark.parametrize(("before", "after", "told"), FLIPPED.values(), ids=FLIPPED)
def test_an_onnx_file_with_a_flipped_byte(
    before: bytes, after: bytes, told: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = classifier().SerializeToString()
    assert whole.count(before) == 1
    Path("f.onnx").write_bytes(whole.replace(before, after))
    (line,) = refused(capfd, 2, lambda: convert.main(["--model", "f.onnx", "--output", "om/f.onnx"]))
    assert line.startswith("atc.convert: error: f.onnx: atc would refuse this: E") and line.endswith(told)
    (line,) = refused(capfd, 2, lambda: adopt.main(ADOPT))
    assert line.startswith("atc.adopt: error: f.onnx: cannot be read: E") and line.endswith(told)


def test_a_model_that_cannot_be_run(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("m.onnx")
    del model.graph.output[:]
    onnx.save(model, "f.onnx")
    Path("f.onnx").chmod(0o640)
    os.unlink("in/manifest.json")
    (line,) = refused(capfd, 1, lambda: infer_embedded.main(INFER))
    assert line.startswith("infer.emulator: failed: onnxruntime cannot run the model: [ONNXRuntimeError] : ")


def test_the_twin_of_atc_does_not_blame_the_model_for_a_full_disk(place: Path) -> None:
    saved(place, classifier())
    half = len(classifier().SerializeToString()) // 2
    call = ["--framework=5", "--model=model.onnx", "--output=a", "--soc_version=Ascend310P3"]
    done = subprocess.run(
        [sys.executable, "-m", "atc.emulator", *call, "--input_format=NCHW", "--input_shape=image:2,3,16,16"],
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
HINT = "remove it and manifest.json, then make preprocess"
REMAKE = "if make om made it: rm m.onnx; make om; if it is from elsewhere: python -m atc.adopt --om m.onnx"
NO_MATCH = "arg0 tensorsize: 384 filesize: {} not match; BATCH and INPUT as in make om"
BAD_INPUTS = {
    "shorter": (lambda: os.truncate("in/img2.bin", 188), f"in/img2.bin: {SIZE} 188); {HINT}"),
    "longer": (lambda: grow(Path("in/img2.bin")), f"in/img2.bin: {SIZE} 196); {HINT}"),
    "empty": (lambda: os.truncate("in/img2.bin", 0), f"in/img2.bin: {SIZE} 0); {HINT}"),
    "first shorter": (lambda: os.truncate("in/img0.bin", 188), NO_MATCH.format(188)),
    "first longer": (lambda: grow(Path("in/img0.bin")), NO_MATCH.format(196)),
    "first empty": (lambda: os.truncate("in/img0.bin", 0), NO_MATCH.format(0)),
}


@pytest.mark.parametrize("error", BAD_INPUTS)
def test_an_input_of_another_size(place: Path, error: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, line = BAD_INPUTS[error]
    spoil()
    assert refused(capfd, 1, infer) == [
        f"infer.emulator: failed: {line}",
        "infer.run: failed: -m infer.emulator exited with 1, see above; what it finished is kept for a rerun",
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
    record = RunRecord.read("out/run_run.json")
    files = [Path("out/run", record.files[f"img{i}"][0]) for i in range(5)]
    with pytest.raises(FormatError) as caught:
        classification.rank_files(files, [0] * 5, CLASSES)
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
        f"infer.emulator: error: {line}",
        "infer.run: error: -m infer.emulator refused what it was given, see above",
    ]
    os.chmod("in/img1.bin", 0o640)
    assert infer() == 0


def test_a_manifest_edited_by_hand_is_another_one(place: Path) -> None:
    assert infer() == 0
    os.unlink("out/run_run.json")  # as of a killed run, whose outputs would be kept
    text = Path("in/manifest.json").read_text()
    Path("in/manifest.json").write_text(text.replace('"label": 1', '"label": 0'))
    assert infer() == 0
    assert RunRecord.read("out/run_run.json").kept == 0


def test_an_older_summary_is_not_taken_for_the_tool_s(place: Path) -> None:
    assert infer() == 0
    os.unlink("out/run_run.json")
    start = [sys.executable, "-c", "pass"]
    outputs = infer_run.OutputDir(Path("out"), "run", "BIN")
    with pytest.raises(FormatError, match=r"^out/run_summary\.json: the tool left no summary"):
        infer_run.run(Path("m.onnx"), Path("in"), outputs, ["0"], start)


def test_inputs_that_change_while_they_are_inferred(place: Path) -> None:
    """Preprocessing takes no notice of who reads: the record must not speak for other inputs."""
    tool = place / "tool.py"
    tool.write_text(
        "import os, runpy, sys\nos.unlink('in/manifest.json')\nrunpy.run_module('infer.emulator', None, '__main__')\n"
    )
    outputs = infer_run.OutputDir(Path("out"), "run", "BIN")
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
