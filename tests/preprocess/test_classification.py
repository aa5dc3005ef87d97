"""Images to inputs: bit-identical to the reference for every kind of file; rejected images, kept inputs, errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path
from typing import Callable

import numpy as np
import PIL
import pytest
import simplejpeg
from PIL import Image

from hrnet import datasets
from hrnet.config import config_sha256, load_config
from hrnet.io import tensors
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.label_files import read_labels
from preprocess import folder as prep_folder
from preprocess.classification import main
from tests.support import ROOT
from tests.support.image_sets import (
    CROP,
    RESIZE,
    contents,
    encoded,
    files_of_all_kinds,
    listed,
    noise,
    prepare,
    read_checked,
    record,
    write_all_kinds,
    write_config,
    write_images,
)
from tests.support.preprocess_runs import MANY, many_images, start_many, times
from tests.support.processes import group_is_gone
from tests.support.real_images import IMAGENET, needs_imagenet
from tests.support.reference_pixels import reference
from tests.support.reference_pixels import resize as pil_resize


def small(path: Path) -> bytes:
    return reference(path, RESIZE, CROP)


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow warns about transparent_palette.png
def test_every_kind_of_image_equals_the_reference(tmp_path: Path, output: Path) -> None:
    write_all_kinds(tmp_path)
    assert main(["hrnet", str(tmp_path / "val"), str(output), "--workers", "1"]) == 0, "the model zoo's call"
    images = read_checked(tmp_path, output, 256, 224)
    assert len(images) == len(files_of_all_kinds())
    (rotated,) = (image for image in images if image.stem == "rotated")
    assert (rotated.width, rotated.height) == (300, 260), "EXIF orientation is ignored"
    assert (output / f"{images[0].stem}.bin").stat().st_size == 3 * 224 * 224 * 4


def test_a_crop_need_not_be_square(tmp_path: Path, output: Path) -> None:
    cfg = write_config(tmp_path, "MODEL: {NUM_CLASSES: 1, IMAGE_SIZE: [32, 64]}\nINPUT: {RESIZE: 70}\n")
    listed(tmp_path, {"a.JPEG": 0})
    assert prepare(cfg, tmp_path, output) == 0
    square = np.frombuffer(reference(tmp_path / "val/a.JPEG", 70, 64), np.float32).reshape(3, 64, 64)
    mine = tensors.read_output(output / "a.bin").reshape(3, 64, 32)  # H, W
    assert np.array_equal(mine, square[:, :, 16:48])
    assert Manifest.read(output / "manifest.json").images[0].shape == [3, 64, 32]
    assert (output / "inputs.info").read_text() == f"0 {output}/a.bin 32 64\n"


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow warns about transparent_palette.png
def test_uint8_is_the_cropped_pixels(tmp_path: Path, output: Path) -> None:
    cfg = write_config(tmp_path, "MODEL: {NUM_CLASSES: 99, IMAGE_SIZE: [64, 32]}\nINPUT: {RESIZE: 70}\n")
    write_all_kinds(tmp_path)
    assert prepare(cfg, tmp_path, output, "--input_dtype", "uint8") == 0
    manifest = Manifest.read(output / "manifest.json")
    assert (manifest.dtype, manifest.layout, manifest.suffix) == ("uint8", "NHWC", "bin")
    assert {tuple(image.shape) for image in manifest.images} == {(32, 64, 3)}  # H, W
    for image in manifest.images:
        pixels = np.asarray(pil_resize(Image.open(tmp_path / image.source).convert("RGB"), 70))
        top, left = (round((size - crop) / 2) for size, crop in zip(pixels.shape, (32, 64)))
        expected = pixels[top : top + 32, left : left + 64].tobytes()
        assert (output / f"{image.stem}.bin").read_bytes() == expected, image.source


@needs_imagenet
def test_all_real_images_equal_the_reference(output: Path) -> None:
    assert main(["hrnet_w18", str(IMAGENET), str(output)]) == 0
    images = read_checked(IMAGENET, output, 256, 224)
    labels = read_labels(IMAGENET / "val_label.txt")
    assert {image.source[len("val/") :]: image.label for image in images} == labels
    assert len(images) == 200


# --- the output directory ---------------------------------------------------------------------------------------------


def test_the_output_directory_has_this_content(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(tmp_path, {"img10.JPEG": 9, "img9.JPEG": 0})
    monkeypatch.chdir(tmp_path)
    assert prepare(cfg, Path(), Path("prep")) == 0
    config_hash = config_sha256(load_config(cfg))
    index_hash = datasets.find_images(tmp_path, 10).sha256()
    modules = ("preprocess/classification.py", "preprocess/decode.py", "hrnet/images.py", "hrnet/resample.py")
    code = json.dumps([sha256_file(ROOT / module) for module in modules])
    decoders = json.dumps([f"pillow {PIL.__version__}", f"simplejpeg {simplejpeg.__version__}"])
    labels = Path("val_label.txt").stat()
    assert contents(output) == {
        "img9.bin": small(tmp_path / "val/img9.JPEG"),
        "img10.bin": small(tmp_path / "val/img10.JPEG"),
        "inputs.info": b"0 prep/img9.bin 32 32\n1 prep/img10.bin 32 32\n",
        "rejected.json": b'{\n "kind": "rejected",\n "format_version": 1,\n "images": {}\n}\n',
        "settings.json": (
            '{\n "kind": "settings",\n "format_version": 1,\n "settings": {\n'
            f'  "config_sha256": "{config_hash}",\n  "index_sha256": "{index_hash}",\n'
            f'  "decoders": {decoders},\n  "code_sha256": {code},\n'
            '  "limit": 0,\n  "dtype": "float32",\n  "layout": "NCHW"\n },\n'
            f' "data": {{\n  "val": [{Path("val").stat().st_mtime_ns}, 0],\n  "val_label.txt": '
            f'[{labels.st_mtime_ns}, {labels.st_size}],\n  "val_list.txt": null\n }}\n}}\n'
        ).encode(),
        "manifest.json": (
            '{\n "kind": "manifest",\n "format_version": 1,\n "dataset": "imagenet",\n'
            f' "config_sha256": "{config_hash}",\n "index_sha256": "{index_hash}",\n'
            ' "dtype": "float32",\n "layout": "NCHW",\n "suffix": "bin",\n "classes": 10,\n "rejected": 0,\n'
            ' "images": [\n'
            '  {"stem": "img9", "source": "val/img9.JPEG", "label": 0, "width": 50, "height": 60, '
            '"shape": [3, 32, 32]},\n'
            '  {"stem": "img10", "source": "val/img10.JPEG", "label": 9, "width": 50, "height": 60, '
            '"shape": [3, 32, 32]}\n'
            " ]\n}\n"
        ).encode(),
    }
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o640}
    assert capsys.readouterr().err == ""


def test_names_with_spaces_quotes_and_dots_are_sanitised(cfg: str, tmp_path: Path, output: Path) -> None:
    names = {"a.b.c.JPEG": 0, "potter's wheel.JPEG": 1, "a b.JPEG": 2, "a_b.JPEG": 3, "a_b-2.JPEG": 4, "图.JPEG": 5}
    listed(tmp_path, names)
    assert prepare(cfg, tmp_path, output) == 0
    assert {image.stem: (image.source, image.label) for image in read_checked(tmp_path, output)} == {
        "a_b": ("val/a b.JPEG", 2),
        "a_b_c": ("val/a.b.c.JPEG", 0),
        "a_b-2": ("val/a_b-2.JPEG", 4),
        "a_b-3": ("val/a_b.JPEG", 3),
        "potter_s_wheel": ("val/potter's wheel.JPEG", 1),
        "_": ("val/图.JPEG", 5),
    }


def test_class_folders_give_the_same_inputs(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, ["val/1/x.JPEG", "val/2/x.JPEG", "val/2/y.png"])
    (tmp_path / "val/__MACOSX").mkdir()
    assert prepare(cfg, tmp_path, output) == 2
    assert "1 without images: __MACOSX" in capsys.readouterr().err
    write_images(tmp_path, ["val/0/x.JPEG"])
    assert prepare(cfg, tmp_path, output) == 0
    images = read_checked(tmp_path, output)
    assert [(image.stem, image.label) for image in images] == [("0_x", 0), ("1_x", 1), ("2_x", 2), ("2_y", 2)]
    out = capsys.readouterr().out
    assert "3 of 10 classes" in out and "ignored: __MACOSX" in out


def test_limit_takes_the_first_in_natural_order(cfg: str, tmp_path: Path, output: Path) -> None:
    listed(tmp_path, {"img10.JPEG": 1, "img9.JPEG": 2, "img1.JPEG": 3})
    assert prepare(cfg, tmp_path, output, "--limit", "99") == 0
    assert len(read_checked(tmp_path, output)) == 3
    assert prepare(cfg, tmp_path, output, "--limit", "2") == 0
    assert [(image.stem, image.label) for image in read_checked(tmp_path, output)] == [("img1", 3), ("img9", 2)]
    assert not (output / "img10.bin").exists()


def test_a_subset_of_the_labelled_images_is_prepared(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(tmp_path, {f"{name}.JPEG": 1 for name in "abcdef"})
    for name in "bcdef":
        (tmp_path / f"val/{name}.JPEG").unlink()
    assert prepare(cfg, tmp_path, output) == 0
    assert f"{tmp_path / 'val_label.txt'}: 5 labels have no image" in capsys.readouterr().out


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    listed(tmp_path, {f"{name}.JPEG": 1 for name in ("cut", "empty", "folder", "good", "header", "text")})
    val = tmp_path / "val"
    (val / "cut.JPEG").write_bytes((val / "cut.JPEG").read_bytes()[:-100])
    (val / "empty.JPEG").write_bytes(b"")
    (val / "header.JPEG").write_bytes(encoded(noise(50, 60), "PNG")[:60])
    (val / "text.JPEG").write_text("404 not found")
    (val / "folder.JPEG").unlink()
    (val / "folder.JPEG").mkdir()
    (val / "stray.JPEG").write_bytes((val / "good.JPEG").read_bytes())
    return tmp_path


REASONS = {
    "val/stray.JPEG": "no label in val_label.txt",
    "val/folder.JPEG": "a directory",
    "val/cut.JPEG": "OSError: image file is truncated (",
    "val/empty.JPEG": "empty file",
    "val/header.JPEG": "OSError: image file is truncated",
    "val/text.JPEG": "not an image that Pillow can read",
}


def test_broken_files_are_rejected_and_the_others_prepared(
    cfg: str, broken: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(cfg, broken, output) == 1
    assert {path.name for path in output.iterdir()} == {"good.bin", "inputs.info", "rejected.json", "settings.json"}
    assert (output / "good.bin").read_bytes() == small(broken / "val/good.JPEG")
    reasons = record(output / "rejected.json")["images"]
    assert list(reasons) == list(REASONS)
    for source, reason in REASONS.items():
        assert reasons[source].startswith(reason), source  # the rest is Pillow's text
    line = capsys.readouterr().err
    assert f"{output / 'rejected.json'}: 6 of 7 files rejected" in line and "MAX_REJECTED=6" in line
    shown = line.partition("(found ")[2].split(" and ")[0].split(", val/")
    assert len({each.partition(": ")[2] for each in shown}) == 3, "a file for each reason comes first"


def test_allowed_rejections_exit_0(cfg: str, broken: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(cfg, broken, output, "--max_rejected", "5") == 1
    assert not (output / "manifest.json").exists()
    assert prepare(cfg, broken, output, "--max_rejected", "6") == 0
    manifest = Manifest.read(output / "manifest.json")
    assert ([image.stem for image in manifest.images], manifest.rejected) == (["good"], 6)
    assert list(record(output / "rejected.json")["images"]) == list(REASONS)
    assert capsys.readouterr().out.startswith("kept 1 input of an earlier run")


def test_a_repaired_image_is_no_longer_rejected(cfg: str, tmp_path: Path, output: Path) -> None:
    listed(tmp_path, {"a.JPEG": 0})
    (tmp_path / "val/a.JPEG").write_bytes(b"")
    assert prepare(cfg, tmp_path, output, "--max_rejected", "9") == 1, "without any image left"
    assert not (output / "manifest.json").exists()
    write_images(tmp_path / "val", ["a.JPEG"])
    assert prepare(cfg, tmp_path, output) == 0
    assert record(output / "rejected.json")["images"] == {}
    assert (output / "a.bin").read_bytes() == small(tmp_path / "val/a.JPEG")


# --- what is rejected before the work ---------------------------------------------------------------------------------


def test_a_label_outside_the_classes_is_rejected(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(tmp_path, {"a.JPEG": 9, "b.JPEG": 10, "c.JPEG": 1000})
    assert prepare(cfg, tmp_path, output) == 2
    line = capsys.readouterr().err
    assert str(tmp_path / "val_label.txt") in line and "val/b.JPEG (10), val/c.JPEG (1000)" in line
    assert not output.exists()


@pytest.mark.parametrize(
    "option", [("--limit", "-1"), ("--max_rejected", "-1"), ("--workers", "0"), ("--input_dtype", "int8")]
)
def test_invalid_options_are_rejected(option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["hrnet", "a", "b", *option])
    assert caught.value.code == 2


def test_disk_is_only_needed_for_missing_inputs(
    cfg: str, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(tmp_path, {"a.JPEG": 1, "b.JPEG": 1})
    free = 3 * CROP * CROP * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(free))
    assert prepare(cfg, tmp_path, tmp_path / "pixels", "--input_dtype", "uint8") == 0, (
        "uint8 inputs need half of the free space"
    )
    capsys.readouterr()
    assert prepare(cfg, tmp_path, output) == 2
    assert f"{output}: too little free disk space" in capsys.readouterr().err
    (output / "a.bin").write_bytes(small(tmp_path / "val/a.JPEG"))
    assert prepare(cfg, tmp_path, output) == 0


# --- reruns -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(cfg: str, tmp_path: Path, output: Path) -> Path:
    """The output of an earlier run on images a to d."""
    listed(tmp_path, {f"{name}.JPEG": 1 for name in "abcd"})
    assert prepare(cfg, tmp_path, output) == 0
    for path in output.glob("*.bin"):
        os.utime(path, ns=(0, 0))
    return output


def test_another_dtype_starts_again_and_its_second_run_resumes(
    cfg: str, tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (finished / "a.bin").stat().st_size
    assert prepare(cfg, tmp_path, finished, "--input_dtype", "uint8") == 0
    assert 0 not in times(finished).values()
    assert {path.stat().st_size for path in finished.glob("*.bin")} == {size // 4} == {CROP * CROP * 3}
    found = record(finished / "settings.json")["settings"]
    assert (found["dtype"], found["layout"]) == ("uint8", "NHWC")
    (finished / "b.bin").unlink()
    capsys.readouterr()
    assert prepare(cfg, tmp_path, finished, "--input_dtype", "uint8") == 0
    assert capsys.readouterr().out.endswith("; kept 3 of an earlier run\n")


OTHER_CONFIG = f"MODEL: {{NUM_CLASSES: 10, IMAGE_SIZE: [{CROP}, {CROP}]}}\nINPUT: {{RESIZE: 64}}\n"
CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "an image": lambda root, patch: noise(70, 50, seed=99).save(root / "val/b.JPEG"),
    "the config": lambda root, patch: write_config(root, OTHER_CONFIG),
    "Pillow": lambda root, patch: patch.setattr(PIL, "__version__", "0"),
    "code": lambda root, patch: patch.setattr(prep_folder, "sha256_file", lambda path: "other code"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_starts_again(
    change: str, cfg: str, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CHANGES[change](tmp_path, monkeypatch)
    assert prepare(cfg, tmp_path, finished) == 0
    assert 0 not in times(finished).values()
    read_checked(tmp_path, finished, 64 if change == "the config" else RESIZE)


def test_long_names_are_shortened(cfg: str, tmp_path: Path, output: Path) -> None:
    names = {f"{'x' * 245}{end}.JPEG": label for label, end in enumerate("abc")}
    listed(tmp_path, names)
    assert prepare(cfg, tmp_path, output) == 0
    images = read_checked(tmp_path, output)
    assert [image.stem for image in images] == ["x" * 200, f"{'x' * 200}-2", f"{'x' * 200}-3"]
    assert [(image.source[len("val/") :], image.label) for image in images] == list(names.items())


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return many_images(tmp_path / "many")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_resumed(number: int, cfg: str, tmp_path: Path, many: Path, output: Path) -> None:
    started = start_many(cfg, many, output)
    os.kill(started.pid, number)  # only the parent: its workers must end too
    assert started.wait(5) == -number
    assert group_is_gone(started.pid)
    before = times(output)
    assert 4 <= len(before) < MANY
    assert not (output / "manifest.json").exists()
    assert main([cfg, str(many), str(output)]) == 0
    after = times(output)
    assert len(after) == MANY
    assert {name: after[name] for name in before} == before
    records = {"inputs.info", "manifest.json", "rejected.json", "settings.json"}
    assert {path.name for path in output.iterdir()} == {*after, *records}  # and no partial file
    expected = small(many / "val/img0.JPEG")
    assert all((output / name).read_bytes() == expected for name in after)


def test_ctrl_c_is_reported_in_one_line(cfg: str, many: Path, output: Path) -> None:
    started = start_many(cfg, many, output)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: the parent and its workers
    out, err = started.communicate(timeout=10)
    line = "preprocess.classification: interrupted; finished work is kept, rerun the same command\n"
    assert (started.returncode, out, err) == (130, "", line)
    assert group_is_gone(started.pid)
    assert not list(output.glob(".*"))
