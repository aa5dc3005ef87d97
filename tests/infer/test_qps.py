"""infer/qps.py: the seed's flags as a call of make, and what is wrong with them in one line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infer import qps


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set, a TorchScript file of demo_digits and one that tells nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set/val").mkdir(parents=True)
    (tmp_path / "set/val_label.txt").write_text("a.JPEG 1\n")
    for name, metadata in (("m.ts", '{"model": "demo_digits"}'), ("hrnet.pt", "")):
        with zipfile.ZipFile(name, "w") as file:
            file.writestr("archive/code/net.py", "")
            if metadata:
                file.writestr("archive/extra/metadata.json", metadata)
    return tmp_path


def call(*more: str, model: str = "m.ts", dataset: str = "set/val", labels: str = "set/val_label.txt") -> int:
    return qps.main(["--dataset", dataset, "--label_file", labels, "--traced_model", model, *more])


def spelled(monkeypatch: pytest.MonkeyPatch, *more: str, code: int = 0, **files: str) -> dict[str, str]:
    """The variables that make is called with."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", run)
    assert call(*more, **files) == code
    assert calls[0][:5] == ["make", "--no-print-directory", "-C", str(qps.ROOT), "qps"]
    return dict(word.split("=", 1) for word in calls[0][5:])


def test_the_seed_s_flags(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = spelled(monkeypatch, "--batch_size", "8", "--device_id", "1")
    assert told == {
        "MODEL": "demo_digits",
        "TS": f"{place}/m.ts",
        "DATASET": f"{place}/set",
        "BATCHES": "8",
        "DEVICE": "1",
        "BACKEND": "torchscript",
        "PRECISION": "default",
        "SOC": "Ascend310P3",
        "BUILD": f"{place}/build/qps",
        "PYTHON": sys.executable,
    }
    told = spelled(monkeypatch, "--batch_size", "1", "4", "--backend", "torch_aie", model="hrnet.pt")
    assert (told["MODEL"], told["BATCHES"], told["BACKEND"]) == ("hrnet_w18", "1 4", "torch_aie")


def test_labels_and_images_from_anywhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "labels.txt").write_text("a.JPEG 2\n")
    for _ in range(2):
        folder = Path(spelled(monkeypatch, labels="labels.txt")["DATASET"])
        assert folder.parent == place / "build/qps"
        assert (folder / "val").resolve() == place / "set/val"
        assert (folder / "val_label.txt").read_text() == "a.JPEG 2\n"
    assert Path(spelled(monkeypatch, dataset="set", labels="labels.txt")["DATASET"]) != folder


def test_a_failing_make(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spelled(monkeypatch, code=2)
    assert capsys.readouterr().err == "infer.qps: error: make exited with 2, see above\n"


def refuse(capsys: pytest.CaptureFixture[str], *more: str, **files: str) -> str:
    assert call(*more, **files) == 2
    told = capsys.readouterr().err
    assert told.startswith("infer.qps: error: ") and told.count("\n") == 1
    return told[len("infer.qps: error: ") : -1]


def test_faults_of_the_user(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "none.txt: no such label file (expected lines `name.JPEG index`)"
    assert refuse(capsys, labels="none.txt") == line
    assert refuse(capsys, dataset="none") == "none: no such folder of images"
    assert refuse(capsys, model="none.ts") == "none.ts: no such TorchScript file; run make torchscript"
    assert "set/val_label.txt: is no TorchScript file" in refuse(capsys, model="set/val_label.txt")
    line = refuse(capsys, "--model", "resnet50")
    assert line.startswith("m.ts: no config resnet50; give --model, one of demo_digits, ")
    with pytest.raises(SystemExit):
        call("--batch_size", "0")
