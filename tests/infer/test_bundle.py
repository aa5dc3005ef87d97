"""`infer.bundle` by itself: what it says and what it refuses; tests/test_bundle.py unpacks what it packs."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from hrnet import formats
from infer import bundle
from tests.infer.models import linear_model, prep_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    linear_model(Path("m.onnx"), 2)
    prep_folder(Path("in"), 3)
    formats.write_record("in/settings.json", "settings", {"settings": {"limit": 0}})
    Path("c.yaml").write_text("INPUT: {}\n")
    Path("Makefile").write_text("all:\n")
    return tmp_path


def call(*more: str) -> int:
    words = ["--output", "out/b.tar", "--cfg", "c.yaml", "--model", "m.onnx", "--prep", "in", "Makefile", *more]
    return bundle.main(words)


def contents(member: str) -> str:
    with tarfile.open("out/b.tar") as archive:
        file = archive.extractfile(f"{archive.getnames()[0]}/{member}")
        assert file is not None
        return file.read().decode()


def test_settings_and_readme_say_what_to_type(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--set", "GATE=2", "--set", "BATCHES=1 4") == 0
    assert contents("bundle.mk").splitlines()[1:] == [
        "MODEL ?= c",
        "PYTHON ?= python3",
        "OM ?= model/m.onnx",
        "PREP ?= prep/in",
        "GATE ?= 2",
        "BATCHES ?= 1 4",
    ]
    readme = contents("README.md")
    assert "pip install -c constraints.txt numpy Pillow PyYAML tqdm yacs onnxruntime\nmake infer eval\n" in readme
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("packed the model, 3 inputs and 8 files into out/b.tar (0.0 MB); on the board:")
    assert second.startswith("tar -xf b.tar && cd b-") and second.endswith(" && cat README.md")
    assert Path("out/b.tar").stat().st_mode & 0o777 == 0o640


def test_what_a_board_would_refuse_is_not_packed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = "infer.bundle: error: "
    os.unlink("in/img1.bin")
    assert call() == 2
    line = "in: inputs are not those of the manifest (found 1 missing, 0 foreign: img1.bin)"
    assert capsys.readouterr().err == f"{start}{line}; rm in/manifest.json; make preprocess\n"
    prep_folder(Path("in"), 3)
    assert call("nowhere.txt") == 2
    assert capsys.readouterr().err == f"{start}nowhere.txt: No such file or directory\n"
    os.unlink("m.onnx.json")
    assert call() == 2
    assert capsys.readouterr().err.startswith(f"{start}m.onnx.json: no compiled record; ")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["../x"], "expected a path from here down, found '../x'"),
        (["/etc/hostname"], "expected a path from here down, found '/etc/hostname'"),
        (["--set", "GATE"], "expected NAME=value, found 'GATE'"),
    ],
)
def test_words_that_are_none(words: list[str], line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call(*words)
    assert line in capsys.readouterr().err


def test_a_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 9))
    assert call() == 2
    assert "out: too little free disk (expected 0.0 GB, found 0.0 GB)" in capsys.readouterr().err
    assert not Path("out").exists()
