"""Files that are truncated, too long, empty, old or changed by hand: the right result, or an error in one line."""

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
from hrnet.cli import WorkFailed
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord
from infer import run as infer_run
from infer.emulator import main as infer_emulator
from infer.passes import plan_passes
from infer.run_ais_bench import Tool
from postprocess import topn
from tests.support import ROOT, coco_sets
from tests.support.errors import check_error
from tests.support.linear_model import CLASSES, check_logits, linear_model, prep_folder, remove_records
from tests.support.onnx_models import classifier, pyramid, saved


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a compiled model and five inputs."""
    monkeypatch.chdir(tmp_path)
    prep_folder(Path("in"), 5)
    linear_model(Path("m.onnx"), 2)
    return tmp_path


def infer() -> int:
    return infer_run.main(["--model", "m.onnx", "--inputs", "in", "--output", "out/run"])


def errors(capfd: pytest.CaptureFixture[str], code: int, call: Callable[[], int]) -> list[str]:
    """The lines on stderr of a call that must fail."""
    capfd.readouterr()
    assert call() == code
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()


def test_an_onnx_file_truncated_anywhere_is_rejected(
    workdir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier()
    del model.metadata_props[:]  # the end of the file; the model is complete without it
    whole = model.SerializeToString()
    for cut in range(0, len(whole), 23):
        Path("cut.onnx").write_bytes(whole[:cut])
        (line,) = errors(capfd, 2, lambda: convert.main(["--model", "cut.onnx", "--output", "om/a.onnx"]))
        check_error(line, "atc.convert", "cut.onnx", "ONNX file")
    assert set(os.listdir("om")) <= {"a.onnx_lock"}


def damaged(whole: bytes, seed: int) -> bytes:
    """`whole` with one to four flipped bits, but none in the stored weights: there any bits are a valid number."""
    source = random.Random(seed)
    spared: set[int] = set()
    for tensor in onnx.load_from_string(whole).graph.initializer:
        start = whole.find(tensor.raw_data)
        spared.update(range(start, start + len(tensor.raw_data)))
    positions = [position for position in range(len(whole)) if position not in spared]
    content = bytearray(whole)
    for _ in range(source.choice([1, 1, 2, 4])):
        content[source.choice(positions)] ^= 1 << source.randrange(8)
    return bytes(content)


POSE = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 64}\nINPUT: {GEARS: [[64, 64], [64, 128]]}\n"
POSE += coco_sets.DECODING
PIXELS = "MODEL: {IMAGE_SIZE: [32, 32], NUM_CLASSES: 10}\nINPUT: {RESIZE: 40}\n"
SHAPED = ["--framework=5", "--soc_version=Ascend310P3", "--input_format=NCHW", "--input_shape=image:2,3,32,32"]
EMULATOR = [*SHAPED, "--model=f.onnx", "--output=om/f"]
CONVERT = ["--model", "f.onnx", "--output", "om/f.onnx", "--cfg", "c.yaml"]
ADOPT = ["--om", "f.onnx"]
FP16 = "--precision_mode=force_fp16"
INFER = ["--model", "f.onnx", "--input", "in", "--output", "out", "--output_dirname", "r", "--batchsize", "2"]
READERS: dict[str, tuple[Callable[..., int], list[str], Callable[[], onnx.ModelProto], str]] = {
    "emulator of atc": (main.main, EMULATOR, lambda: classifier(size=32), PIXELS),
    "emulator of atc, fp16": (main.main, [*EMULATOR, FP16], lambda: classifier(size=32), PIXELS),
    "convert": (convert.main, [*CONVERT, "--batch_size", "2"], lambda: classifier(size=32), PIXELS),
    "convert with gears": (convert.main, [*CONVERT, "--batch_size", "1"], lambda: pyramid(4), POSE),
    "adopt": (adopt.main, ADOPT, lambda: onnx.load("m.onnx"), PIXELS),
    "emulator of ais_bench": (infer_emulator.main, INFER, lambda: onnx.load("m.onnx"), PIXELS),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_an_onnx_file_with_flipped_bits_is_valid_or_reported_in_one_line(
    reader: str, workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each reader reports an error in one line, or uses what the bits now mean."""
    call, arguments, model, config = READERS[reader]
    Path("c.yaml").write_text(config)
    os.unlink("in/manifest.json")
    whole, codes = model().SerializeToString(), set()
    for seed in range(200):
        Path("f.onnx").write_bytes(damaged(whole, seed))
        Path("f.onnx").chmod(0o640)
        code = call(arguments)
        out, err = capfd.readouterr()
        codes.add(code)
        assert code in (0, 1, 2, 255), seed
        assert "Traceback" not in out + err, seed
        if call is main.main and code:
            assert re.match(r"E[0-9]{5}: \S", out.splitlines()[-1]), (seed, out)
        elif code:
            assert len(err.splitlines()) == 1, (seed, err)
    assert len(codes) > 1, "some flipped bits are harmless"


NO_MODEL = "a damaged or truncated ONNX file"
OPERATOR = b'Conv_0"\x04Conv'
CHANGED = {
    "a name that is not UTF-8": (OPERATOR, b'Con\xe1_0"\x04Conv', NO_MODEL),
    "an operator that is not UTF-8": (OPERATOR, b'Conv_0"\x04Co\xe1v', NO_MODEL),
    "an operator with a line break": (
        *(OPERATOR, b'Conv_0"\x04Co\nv'),
        "No parser is registered for Op [Conv_0, optype [ai.onnx::11::Co?v]].",
    ),
    "an unknown type": (b"class\x12\x13\n\x11\x08\x01", b"class\x12\x13\n\x11\x08\x41", NO_MODEL),
}


@pytest.mark.parametrize(("before", "after", "message"), CHANGED.values(), ids=CHANGED)
def test_a_changed_byte_of_an_onnx_file_is_reported_in_one_line(
    before: bytes, after: bytes, message: str, workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = classifier().SerializeToString()
    assert whole.count(before) == 1
    Path("f.onnx").write_bytes(whole.replace(before, after))
    (line,) = errors(capfd, 2, lambda: convert.main(["--model", "f.onnx", "--output", "om/f.onnx"]))
    check_error(line, "atc.convert", "f.onnx: ", message)
    (line,) = errors(capfd, 2, lambda: adopt.main(ADOPT))
    check_error(line, "atc.adopt", "f.onnx: ", message)


def test_a_model_that_cannot_run_is_reported_in_one_line(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("m.onnx")
    del model.graph.output[:]
    onnx.save(model, "f.onnx")
    Path("f.onnx").chmod(0o640)
    os.unlink("in/manifest.json")
    (line,) = errors(capfd, 1, lambda: infer_emulator.main(INFER))
    check_error(line, "infer.emulator", "[ONNXRuntimeError]")


def test_emulator_of_atc_does_not_blame_the_model_for_a_full_disk(workdir: Path) -> None:
    saved(workdir, classifier())
    half = len(classifier().SerializeToString()) // 2
    call = ["--framework=5", "--model=model.onnx", "--output=a", "--soc_version=Ascend310P3"]
    done = subprocess.run(
        [sys.executable, "-m", "atc.emulator", *call, "--input_format=NCHW", "--input_shape=image:2,3,16,16"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(workdir)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (half, half)),
        capture_output=True,
        text=True,
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 255 and last.startswith("E19999: Inner Error! "), done.stdout
    assert "/optimised.onnx: cannot be written: " in last and "E10041" not in done.stdout
    assert not Path("a.onnx").exists()


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_compiled_model_is_rejected(
    workdir: Path, fraction: float, capfd: pytest.CaptureFixture[str]
) -> None:
    os.truncate("m.onnx", int(os.path.getsize("m.onnx") * fraction))
    (line,) = errors(capfd, 2, infer)
    check_error(line, "infer.run", "m.onnx.json: ", "the hash of m.onnx", *REMAKE)
    assert not Path("out").exists()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(4))


REMAKE = ("rm m.onnx; make om", f"{sys.executable} -m atc.adopt --om m.onnx")
BAD_INPUTS: dict[str, tuple[Callable[[Path], object], int]] = {
    "shorter": (lambda path: os.truncate(path, 188), 188),
    "longer": (grow, 196),
    "empty": (lambda path: os.truncate(path, 0), 0),
}


@pytest.mark.parametrize("name", ["img0.bin", "img2.bin"])
@pytest.mark.parametrize("error", BAD_INPUTS)
def test_an_input_of_another_size_is_rejected(
    workdir: Path, error: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change, size = BAD_INPUTS[error]
    change(Path("in", name))
    (line,) = errors(capfd, 2, infer)
    check_error(line, "infer.run", f"in/{name}: ", "expected 192 bytes", f"found {size}", "rm in/manifest.json; make")
    assert not Path("out").exists()
    images = prep_folder(Path("in"), 5)
    assert infer() == 0
    check_logits(images)


def test_an_input_of_nan_is_found_by_postprocessing(workdir: Path) -> None:
    """Only its values are wrong: they pass through the model, and postprocessing reports the output."""
    Path("in/img2.bin").write_bytes(np.full(48, np.nan, np.float32).tobytes())
    assert infer() == 0
    record = RunRecord.read("out/run_run.json")
    files = [Path("out/run", record.files[f"img{i}"][0]) for i in range(5)]
    with pytest.raises(FormatError) as caught:
        topn.rank_files(files, [0] * 5, CLASSES)
    assert str(caught.value.where) == "out/run/img2_0.bin" and "5 of 5 values" in str(caught.value.found)


@pytest.mark.parametrize(
    ("name", "hints"), [("in/manifest.json", ("rm in/manifest.json; make preprocess",)), ("m.onnx.json", REMAKE)]
)
def test_an_empty_record_is_rejected(
    workdir: Path, name: str, hints: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    os.truncate(name, 0)
    (line,) = errors(capfd, 2, infer)
    check_error(line, "infer.run", f"{name}: ", "JSON", *hints)


def test_group_writable_inputs_are_rejected(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.move("in", "first")
    shutil.copytree("first", "in")
    os.chmod("in/img1.bin", 0o664)
    first, second = errors(capfd, 2, infer)
    check_error(first, "infer.emulator", "in/img1.bin: ", "chmod go-w in/img1.bin")
    check_error(second, "infer.run", "infer.emulator failed", "exit 2")
    os.chmod("in/img1.bin", 0o640)
    assert infer() == 0


def test_an_edited_manifest_counts_as_another_one(workdir: Path) -> None:
    assert infer() == 0
    remove_records()
    text = Path("in/manifest.json").read_text()
    Path("in/manifest.json").write_text(text.replace('"label": 1', '"label": 0'))
    assert infer() == 0
    assert RunRecord.read("out/run_run.json").kept == 0


def run_tool(*words: str) -> None:
    tool = Tool([sys.executable, *words], ())
    infer_run.run(Path("m.onnx"), plan_passes(Path("in"), Path("out/run"), None, None, "", tool), tool, "0")


def test_an_old_summary_is_not_used(workdir: Path) -> None:
    assert infer() == 0
    remove_records()
    with pytest.raises(FormatError) as caught:
        run_tool("-c", "pass")
    assert str(caught.value.where) == "out/run_summary.json"


def test_inputs_that_change_during_inference_are_an_error(workdir: Path) -> None:
    """Preprocessing does not wait for readers: the record must not describe other inputs."""
    tool = workdir / "tool.py"
    tool.write_text(
        "import os, runpy, sys\nos.unlink('in/manifest.json')\nrunpy.run_module('infer.emulator', None, '__main__')\n"
    )
    with pytest.raises(WorkFailed) as caught:
        run_tool(str(tool))
    assert str(caught.value.where) == "in/manifest.json" and "make infer" in str(caught.value.hint)
    assert not Path("out/run_run.json").exists()


def test_record_after_a_kill_has_the_order_of_the_manifest(workdir: Path) -> None:
    assert infer() == 0
    remove_records()
    for i in (0, 3):
        os.unlink(f"out/run/img{i}_0.bin")
    assert infer() == 0
    record = json.loads(Path("out/run_run.json").read_text())
    assert (record["kept"], list(record["files"])) == (3, [f"img{i}" for i in range(5)])
