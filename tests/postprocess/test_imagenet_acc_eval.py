"""The seed's bare call: a directory of outputs and a label file, joined by names."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io import tensors
from postprocess.imagenet_acc_eval import main
from tests.postprocess.runs import labels_of, logits_of, seed_result

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(folder: str, ending: str, logits: np.ndarray, labels: list[int], names: str = "img_{}", k: int = 0) -> None:
    """Outputs as benchmark.x86_64 leaves them (`<stem>_<k>`), and the data set's labels in another order."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(logits):
        tensors.write_output(Path(folder, f"{names.format(i)}_{k}.{ending}"), row)
    lines = [f"{names.format(i)}.JPEG {label}\n" for i, label in enumerate(labels)]
    Path("val_label.txt").write_text("".join(lines[::-1]))


CALL = ["result/dumpOutput_device0/", "val_label.txt", "./", "result.json"]


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("ending", ["txt", "bin", "npy"])
def test_the_seed_s_call(ending: str, k: int, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = logits_of(40, 1000), labels_of(40, 1000)
    for i in range(30):
        logits[i, labels[i]] = np.sort(logits[i])[-1 - i % 5] + 0.005
    write("result/dumpOutput_device0", ending, logits.round(3), labels, "ILSVRC2012_val_{:08d}", k)
    assert main(CALL) == 0
    assert Path("result.json").read_bytes() == seed_result(logits.round(3), labels).encode()
    told = "Top1 30.00%, Top2 40.00%, Top3 50.00%, Top4 60.00%, Top5 75.00%"
    assert capsys.readouterr() == (f"evaluated 40 images into result.json: {told}\n", "")


@pytest.mark.parametrize("binary", [False, True], ids=["-output_binary=False", "-output_binary=True"])
def test_what_benchmark_x86_64_leaves(binary: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte, not by our own writer: `result/dumpOutput_device0/<stem>_1.txt` (a line of numbers, a space behind
    each) or `.bin` (float32), and its times beside that folder, which are no outputs."""
    rows = {"a": [0.5, 3.25, -1.0], "b_2": [2.0, 0.125, 1.0], "c": [0.0, 0.25, 0.75], "d": [1.0, 2.0, 1.5]}
    Path("result/dumpOutput_device0").mkdir(parents=True)
    Path("result/perf_vision_batchsize_1_device_0.txt").write_text("[e2e] throughputRate: 125.08, latency: 399743\n")
    for stem, row in rows.items():
        text = "".join(f"{value} " for value in row)
        file = Path(f"result/dumpOutput_device0/{stem}_1.{'bin' if binary else 'txt'}")
        file.write_bytes(struct.pack("<3f", *row) if binary else text.encode())
    Path("val_label.txt").write_text("a.JPEG 1\nb_2.JPEG 0\nc.JPEG 1\nd.JPEG 0\n")
    assert main(CALL) == 0
    assert Path("result.json").read_text() == (
        '{"title": "Overall statistical evaluation", "value": [{"key": "Number of images", "value": "4"}, '
        '{"key": "Number of classes", "value": "3"}, {"key": "Top1 accuracy", "value": "50.0%"}, '
        '{"key": "Top2 accuracy", "value": "75.0%"}, {"key": "Top3 accuracy", "value": "100.0%"}]}'
    )
    told = "evaluated 4 images into result.json: Top1 50.00%, Top2 75.00%, Top3 100.00%\n"
    assert capsys.readouterr() == (told, "")


@pytest.mark.parametrize(("outputs", "classes"), [(1001, 1000), (3, 3)])
def test_background_class_and_few_classes(outputs: int, classes: int) -> None:
    logits, labels = logits_of(20, outputs), labels_of(20, classes)
    logits[np.arange(10), np.array(labels[:10]) + outputs - classes] = 99
    write("out", "txt", logits, labels)
    assert main(["out", *CALL[1:]]) == 0
    assert Path("result.json").read_text() == seed_result(logits, labels, shift=outputs - classes)
    assert f'{{"key": "Number of classes", "value": "{outputs}"}}' in Path("result.json").read_text()


def refusal(capsys: pytest.CaptureFixture[str], *call: str) -> str:
    assert main(list(call)) == 2
    assert not Path("result.json").exists()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("postprocess.imagenet_acc_eval: error: ")
    assert told.err.endswith("\n")
    return told.err[len("postprocess.imagenet_acc_eval: error: ") : -1]


def test_outputs_and_labels_must_agree(capsys: pytest.CaptureFixture[str]) -> None:
    line = "out: outputs and labels do not agree: "
    call = ["out", *CALL[1:]]
    write("out", "bin", logits_of(3, 5), [0, 1, 2])
    Path("out/img_1_0.bin").unlink()
    told = "2 outputs of 2 images, 3 labels of 3 images; 0 without a label, 1 without an output (found img_1)"
    assert refusal(capsys, *call) == line + told
    write("out", "bin", logits_of(4, 5), [0, 1, 2])
    told = "4 outputs of 4 images, 3 labels of 3 images; 1 without a label, 0 without an output (found img_3)"
    assert refusal(capsys, *call) == line + told
    Path("out/img_3_0.bin").rename("out/img_2_1.bin")
    told = "4 outputs of 3 images, 3 labels of 3 images; 0 without a label, 0 without an output"
    assert refusal(capsys, *call) == line + told
    Path("out/img_2_1.bin").unlink()
    Path("val_label.txt").write_text("img_0.JPEG 0\nimg_1.JPEG 0\nimg_2.JPEG 0\nimg_2.png 0\n")
    told = "3 outputs of 3 images, 4 labels of 3 images; 0 without a label, 0 without an output"
    assert refusal(capsys, *call) == line + told


def test_results_of_two_runs_in_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write("out", "bin", logits_of(3, 5), [0, 1, 2])
    write("out", "txt", logits_of(3, 5), [0, 1, 2])
    line = "out: needs outputs of one kind (expected .txt or .bin or .npy, found .bin, .txt)"
    assert refusal(capsys, "out", *CALL[1:]) == line


NAN = "values: the input, the weights or an overflow in fp16"


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("bin", np.array([1, np.nan, 1, 1, 1], "<f4").tobytes(), f"is NaN (expected numbers, found 1 NaN of 5 {NAN})"),
        ("txt", b"1.0 nan 1.0 1.0 nan \n", f"is NaN (expected numbers, found 2 NaN of 5 {NAN})"),
        ("bin", bytes(7), "is no float32 tensor (found 7 bytes)"),
        ("txt", b"\x00\x00\x80\x3f", "is no table of numbers"),
        ("txt", b"", "holds no number"),
        ("bin", bytes(16), "number of classes (expected 5, found 4)"),
    ],
)
def test_a_broken_output(name: str, data: bytes, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("out", name, logits_of(3, 5), [0, 1, 2])
    Path(f"out/img_1_0.{name}").write_bytes(data)
    assert refusal(capsys, "out", *CALL[1:]) == f"out/img_1_0.{name}: {line}"


@pytest.mark.parametrize(("outputs", "label", "below"), [(5, 5, 5), (1001, 1000, 1000)])
def test_a_label_outside_the_classes(outputs: int, label: int, below: int, capsys: pytest.CaptureFixture[str]) -> None:
    write("out", "bin", logits_of(3, outputs), [0, label, 2])
    line = f"label outside the classes (expected below {below}, found {label})"
    assert refusal(capsys, "out", *CALL[1:]) == f"out/img_1_0.bin: {line}"


def test_missing_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "out", *CALL[1:]) == "out: no such folder of outputs"
    Path("out").mkdir()
    line = "val_label.txt: no such label file (expected lines `name index`)"
    assert refusal(capsys, "out", *CALL[1:]) == line
    Path("val_label.txt").write_text("a.JPEG 1\n")
    line = "out: needs outputs of one kind (expected .txt or .bin or .npy, found none of them)"
    assert refusal(capsys, "out", *CALL[1:]) == line
    line = "there: no such folder for the result; mkdir -p there"
    assert refusal(capsys, "out", "val_label.txt", "there", "result.json") == line


def test_called_as_a_module() -> None:
    write("out", "txt", logits_of(3, 5), [0, 1, 2])
    call = [sys.executable, "-m", "postprocess.imagenet_acc_eval", "out", *CALL[1:]]
    done = subprocess.run(call, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("result.json").read_text() == seed_result(logits_of(3, 5), [0, 1, 2])
