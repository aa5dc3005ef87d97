"""infer/qps.py: the flags of the model zoo's eval.py as a call of make, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infer import qps
from tests.support.errors import check_error


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a data set, a TorchScript file of demo_digits and one without metadata."""
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


def make_variables(monkeypatch: pytest.MonkeyPatch, *more: str, code: int = 0, **files: str) -> dict[str, str]:
    """The variables in the call of make."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", run)
    assert call(*more, **files) == code
    assert calls[0][:5] == ["make", "--no-print-directory", "-C", str(qps.ROOT), "qps"]
    return dict(word.split("=", 1) for word in calls[0][5:])


def test_flags_of_eval_become_make_variables(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_variables(monkeypatch, "--batch_size", "8", "--device_id", "1")
    assert found == {
        "MODEL": "demo_digits",
        "TS": f"{workdir}/m.ts",
        "DATASET": f"{workdir}/set",
        "BATCHES": "8",
        "DEVICE": "1",
        "BACKEND": "torchscript",
        "PRECISION": "default",
        "SOC": "Ascend310P3",
        "BUILD": f"{workdir}/build/qps",
        "PYTHON": sys.executable,
    }
    found = make_variables(monkeypatch, "--batch_size", "1", "4", "--backend", "torch_aie", model="hrnet.pt")
    assert (found["MODEL"], found["BATCHES"], found["BACKEND"]) == ("hrnet_w18", "1 4", "torch_aie")


def test_labels_and_images_may_be_anywhere(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir / "labels.txt").write_text("a.JPEG 2\n")
    for _ in range(2):
        folder = Path(make_variables(monkeypatch, labels="labels.txt")["DATASET"])
        assert folder.parent == workdir / "build/qps"
        assert (folder / "val").resolve() == workdir / "set/val"
        assert (folder / "val_label.txt").read_text() == "a.JPEG 2\n"
    assert Path(make_variables(monkeypatch, dataset="set", labels="labels.txt")["DATASET"]) != folder


def test_a_failing_make_is_reported_in_one_line(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_variables(monkeypatch, code=2)
    check_error(capsys.readouterr().err, "infer.qps", "make", "exit 2")


@pytest.mark.parametrize(
    "files, parts",
    [
        ({"labels": "none.txt"}, ("none.txt", "name.JPEG index")),
        ({"dataset": "none"}, ("none: ",)),
        ({"model": "none.ts"}, ("none.ts: ", "make torchscript")),
        ({"model": "set/val_label.txt"}, ("set/val_label.txt: ", "TorchScript")),
    ],
)
def test_user_errors_are_reported_in_one_line(
    workdir: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], parts: tuple[str, ...]
) -> None:
    assert call(**files) == 2
    check_error(capsys.readouterr().err, "infer.qps", *parts)


def test_an_unknown_model_and_batch_are_rejected(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--model", "resnet50") == 2
    check_error(capsys.readouterr().err, "infer.qps", "m.ts: ", "resnet50", "--model", "demo_digits")
    with pytest.raises(SystemExit):
        call("--batch_size", "0")
