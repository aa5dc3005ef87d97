"""The model zoo's call: a directory of outputs and a label file, matched by names."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io import tensors
from postprocess.imagenet_acc_eval import main
from tests.support import ROOT
from tests.support.classification_run import labels_of, logits_of, zoo_result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(folder: str, ending: str, logits: np.ndarray, labels: list[int], names: str = "img_{}", k: int = 0) -> None:
    """Outputs as benchmark.x86_64 writes them (`<stem>_<k>`), and the data set's labels in another order."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(logits):
        tensors.write_output(Path(folder, f"{names.format(i)}_{k}.{ending}"), row)
    lines = [f"{names.format(i)}.JPEG {label}\n" for i, label in enumerate(labels)]
    Path("val_label.txt").write_text("".join(lines[::-1]))


CALL = ["result/dumpOutput_device0/", "val_label.txt", "./", "result.json"]


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("ending", ["txt", "bin", "npy"])
def test_the_model_zoos_call_gives_its_result(ending: str, k: int) -> None:
    logits, labels = logits_of(40, 1000), labels_of(40, 1000)
    for i in range(30):
        logits[i, labels[i]] = np.sort(logits[i])[-1 - i % 5] + 0.005
    write("result/dumpOutput_device0", ending, logits.round(3), labels, "ILSVRC2012_val_{:08d}", k)
    assert main(CALL) == 0
    assert Path("result.json").read_bytes() == zoo_result(logits.round(3), labels).encode()


@pytest.mark.parametrize("binary", [False, True], ids=["-output_binary=False", "-output_binary=True"])
def test_outputs_of_benchmark_x86_64_are_read(binary: bool) -> None:
    """The test writes the bytes that benchmark.x86_64 writes, without our own writer: `result/dumpOutput_device0/
    <stem>_1.txt` (a line of numbers, a space behind each) or `.bin` (float32). The tool's file of times, beside that
    folder, is not an output."""
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


@pytest.mark.parametrize(("outputs", "classes"), [(1001, 1000), (3, 3)])
def test_a_background_class_and_few_classes_are_evaluated(outputs: int, classes: int) -> None:
    logits, labels = logits_of(20, outputs), labels_of(20, classes)
    logits[np.arange(10), np.array(labels[:10]) + outputs - classes] = 99
    write("out", "txt", logits, labels)
    assert main(["out", *CALL[1:]]) == 0
    assert Path("result.json").read_text() == zoo_result(logits, labels, shift=outputs - classes)
    assert f'{{"key": "Number of classes", "value": "{outputs}"}}' in Path("result.json").read_text()


def rejected(capsys: pytest.CaptureFixture[str], where: str, *parts: str, to: str = "./") -> None:
    assert main(["out", "val_label.txt", to, "result.json"]) == 2
    assert not Path("result.json").exists()
    line = capsys.readouterr().err
    assert line.startswith(f"postprocess.imagenet_acc_eval: error: {where}: ")
    assert all(part in line for part in parts), line


def test_outputs_and_labels_must_match(capsys: pytest.CaptureFixture[str]) -> None:
    write("out", "bin", logits_of(3, 5), [0, 1, 2])
    Path("out/img_1_0.bin").unlink()
    missing = "0 without a label, 1 without an output: img_1"
    rejected(capsys, "out", f"2 outputs of 2 images, 3 labels of 3 images, {missing}")
    write("out", "bin", logits_of(4, 5), [0, 1, 2])
    unlabelled = "1 without a label, 0 without an output: img_3"
    rejected(capsys, "out", f"4 outputs of 4 images, 3 labels of 3 images, {unlabelled}")
    Path("out/img_3_0.bin").rename("out/img_2_1.bin")
    rejected(capsys, "out", "4 outputs of 3 images, 3 labels of 3 images, ")
    Path("out/img_2_1.bin").rename("out/img_2_1.txt")
    rejected(capsys, "out", "outputs in several formats (expected only one of .txt, .bin, .npy, found .bin, .txt)")
    Path("out/img_2_1.txt").unlink()
    Path("val_label.txt").write_text("img_0.JPEG 0\nimg_1.JPEG 0\nimg_2.JPEG 0\nimg_2.png 0\n")
    rejected(capsys, "out", "3 outputs of 3 images, 4 labels of 3 images, ")


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("bin", np.array([1, np.nan, 1, 1, 1], "<f4").tobytes(), "1 of 5 values NaN"),
        ("txt", b"1.0 nan 1.0 1.0 nan \n", "2 of 5 values NaN"),
        ("bin", bytes(7), "found 7 bytes"),
        ("txt", b"\x00\x00\x80\x3f", "table of numbers"),
        ("txt", b"", "no numbers"),
        ("bin", bytes(16), "expected 5, found 4"),
    ],
)
def test_an_invalid_output_is_rejected(name: str, data: bytes, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("out", name, logits_of(3, 5), [0, 1, 2])
    Path(f"out/img_1_0.{name}").write_bytes(data)
    rejected(capsys, f"out/img_1_0.{name}", part)


@pytest.mark.parametrize(("outputs", "label", "below"), [(5, 5, 5), (1001, 1000, 1000)])
def test_a_label_outside_the_classes_is_rejected(
    outputs: int, label: int, below: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write("out", "bin", logits_of(3, outputs), [0, label, 2])
    rejected(capsys, "out/img_1_0.bin", f"expected below {below}, found {label}")


def test_missing_files_and_directories_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    rejected(capsys, "out")
    Path("out").mkdir()
    rejected(capsys, "val_label.txt")
    Path("val_label.txt").write_text("a.JPEG 1\n")
    rejected(capsys, "out", "no outputs (expected files .txt, .bin, .npy)")
    rejected(capsys, "absent", "mkdir -p absent", to="absent")


def test_the_script_runs_as_a_module() -> None:
    write("out", "txt", logits_of(3, 5), [0, 1, 2])
    call = [sys.executable, "-m", "postprocess.imagenet_acc_eval", "out", *CALL[1:]]
    done = subprocess.run(call, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("result.json").read_text() == zoo_result(logits_of(3, 5), [0, 1, 2])
