"""get_info with the model zoo's arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from preprocess.get_info import main
from tests.support import ROOT
from tests.support.image_sets import noise


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_bins_are_listed_in_natural_order() -> None:
    folder = Path("prep_dataset")
    folder.mkdir()
    for name in ("img10.bin", "img2.bin", "img1.bin", "a.npy", "inputs.info"):
        (folder / name).touch()
    assert main(["bin", "./prep_dataset", "./hrnet_prep_bin.info", "224", "192"]) == 0
    assert Path("hrnet_prep_bin.info").read_bytes() == (
        b"0 prep_dataset/img1.bin 224 192\n1 prep_dataset/img2.bin 224 192\n2 prep_dataset/img10.bin 224 192\n"
    )


def test_images_have_their_own_size() -> None:
    folder = Path("images")
    folder.mkdir()
    for name, size in (("b.JPEG", (30, 20)), ("a10.jpeg", (5, 7)), ("a9.jpg", (1, 1)), ("c.png", (9, 9))):
        noise(*size).save(folder / name, format="JPEG")
    assert main(["jpg", "images/", "lists/images.info"]) == 0
    lines = b"0 images/a9.jpg 1 1\n1 images/a10.jpeg 5 7\n2 images/b.JPEG 30 20\n"
    assert Path("lists/images.info").read_bytes() == lines


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["bin", "missing", "x.info", "1", "1"], "missing"),
        (["bin", "images", "x.info", "1", "1"], "images"),
        (["jpg", "bins", "x.info"], "bins"),
        (["jpg", "images", "x.info"], "images/bad.jpg"),
        (["bin", "my bins", "x.info", "1", "1"], "my bins/x.bin"),
    ],
)
def test_invalid_inputs_are_rejected(arguments: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images/bad.jpg", "bins/x.bin", "my bins/x.bin"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"error: {where}: " in error
    assert not (arguments[0] == "jpg" and "make preprocess" in error), "preprocess writes no images"
    assert not Path("x.info").exists()


@pytest.mark.parametrize("more", [["bin"], ["bin", "224"], ["jpg", "224", "224"], ["bin", "0", "224"], ["png"]])
def test_wrong_arguments_print_the_usage(more: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([more[0], "a", "b", *more[1:]])
    assert caught.value.code == 2


def test_the_script_runs_as_a_module() -> None:
    call = [sys.executable, "-m", "preprocess.get_info", "bin", "missing", "x.info", "1", "1"]
    done = subprocess.run(call, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preprocess.get_info: error: missing: ")
