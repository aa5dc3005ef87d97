"""Current directories for the tests: `place` for make doctor, `checkout` for make's options."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an ONNX file and a data set of three images; PATH contains only its bin/, which is empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    (tmp_path / "data/val").mkdir(parents=True)
    (tmp_path / "data/val_label.txt").write_text("a.JPEG 0\nb.JPEG 1\nc.JPEG 2\n")
    for name in ("a.JPEG", "b.JPEG", "c.JPEG", ".hidden"):
        (tmp_path / "data/val" / name).write_bytes(b"x")
    (tmp_path / "m.yaml").write_text("WEIGHTS: {URL: 'http://x/y'}\n")
    return tmp_path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two configs, the default data sets, and no atc on PATH. Child processes import an empty torch
    and openvino: options.py only checks whether PYTHON can import them, and importing the real torch takes 2 s."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/net.yaml").write_text("MODEL: {NAME: cls_hrnet}\nWEIGHTS: {URL: 'http://x/y'}\n")
    (tmp_path / "configs/people.yaml").write_text("MODEL: {NAME: pose_higher_hrnet}\n")
    for folder in ("data/imagenet/val/n01", "data/coco/annotations", "data/coco/images/val2017"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/coco/annotations/person_keypoints_val2017.json").write_text("{}")
    (tmp_path / "stubs").mkdir()
    for package in ("torch", "openvino"):
        (tmp_path / f"stubs/{package}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stubs"))
    return tmp_path
