"""hrnet/io/manifest.py: the bytes of a manifest, round trips, and each way in which one can be invalid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.io.files import sha256_file
from hrnet.io.manifest import InputImage, Manifest
from tests.support.invalid_records import HASH, check_invalid, set_value

MANIFEST = Manifest(
    dataset="imagenet",
    config_sha256=HASH,
    index_sha256=HASH,
    dtype="float32",
    layout="NCHW",
    suffix="bin",
    classes=10,
    rejected=1,
    images=[
        InputImage("a_b", "val/a b.JPEG", 0, 500, 375, [3, 224, 224]),
        InputImage("c", "val/图.JPEG", 9, 1, 1, [3, 224, 224]),
    ],
)
MANIFEST_TEXT = (
    "{\n"
    ' "kind": "manifest",\n'
    ' "format_version": 1,\n'
    ' "dataset": "imagenet",\n'
    f' "config_sha256": "{HASH}",\n'
    f' "index_sha256": "{HASH}",\n'
    ' "dtype": "float32",\n'
    ' "layout": "NCHW",\n'
    ' "suffix": "bin",\n'
    ' "classes": 10,\n'
    ' "rejected": 1,\n'
    ' "images": [\n'
    '  {"stem": "a_b", "source": "val/a b.JPEG", "label": 0, "width": 500, "height": 375, "shape": [3, 224, 224]},\n'
    '  {"stem": "c", "source": "val/\\u56fe.JPEG", "label": 9, "width": 1, "height": 1, "shape": [3, 224, 224]}\n'
    " ]\n"
    "}\n"
)
COCO = dataclasses.replace(
    MANIFEST,
    dataset="coco",
    dtype="uint8",
    layout="NHWC",
    suffix="npy",
    images=[
        InputImage("1", "images/val2017/1.jpg", None, 640, 426, [512, 832, 3], 139, [320.0, 213.0], [3.46125, 2.13]),
        InputImage("2", "images/val2017/2.jpg", None, 64, 100, [832, 512, 3], 2, [32.0, 50.0], [0.32, 0.52]),
    ],
    flipped=True,
)


def test_a_manifest_of_imagenet_has_these_bytes(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    MANIFEST.write(path)
    assert path.read_text() == MANIFEST_TEXT
    assert Manifest.read(path) == MANIFEST
    assert MANIFEST.sha256() == sha256_file(path)
    assert MANIFEST.labels() == [0, 9]
    assert MANIFEST.images[0].sides() == (224, 224)


def test_a_manifest_of_coco_has_these_bytes(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    COCO.write(path)
    assert Manifest.read(path) == COCO
    lines = path.read_text().splitlines()
    assert lines[12] == (
        '  {"stem": "1", "source": "images/val2017/1.jpg", "label": null, "width": 640, "height": 426, '
        '"shape": [512, 832, 3], "image_id": 139, "center": [320.0, 213.0], "scale": [3.46125, 2.13]},'
    )
    assert lines[-2:] == [' "flipped": true', "}"]
    assert [image.sides() for image in COCO.images] == [(512, 832), (832, 512)]
    with pytest.raises(UserError):
        COCO.labels()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(TEXTS, st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=4, unique_by=lambda t: t[0])
)
def test_any_manifest_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, images: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.json"
    entries = [InputImage(text, f"val/{text}", label, size, size, [3, size, size]) for text, label, size in images]
    manifest = dataclasses.replace(MANIFEST, suffix="npy", images=entries)
    manifest.write(path)
    assert Manifest.read(path) == manifest
    assert len(path.read_text().splitlines()) == 14 + len(images)  # a line for each image


@pytest.mark.parametrize(
    ("manifest", "path", "value", "part"),  # `...` removes the key
    [
        (MANIFEST, ("dtype",), ..., "dtype missing"),
        (MANIFEST, ("colour",), 1, "colour unknown"),
        (MANIFEST, ("classes",), "10", "classes"),
        (MANIFEST, ("classes",), True, "classes"),
        (MANIFEST, ("rejected",), 0.5, "rejected"),
        (MANIFEST, ("dataset",), None, "dataset"),
        (MANIFEST, ("images",), 5, "images"),
        (MANIFEST, ("images",), [], "images"),
        (MANIFEST, ("images", 1), "c", "images 1"),
        (MANIFEST, ("images", 1, "label"), ..., "label missing"),
        (MANIFEST, ("images", 1, "shape"), [3, "x"], "images 1: invalid shape"),
        (MANIFEST, ("images", 1, "stem"), "a_b", "duplicate stem"),
        (MANIFEST, ("images", 1, "label"), 10, "val/图.JPEG (10)"),
        (MANIFEST, ("images", 0, "label"), -1, "val/a b.JPEG (-1)"),
        (COCO, ("images", 1, "image_id"), ..., "images/val2017/2.jpg"),
        (COCO, ("images", 0, "center"), [1.0], "images/val2017/1.jpg"),
        (COCO, ("images", 0, "scale"), [1, 0], "images/val2017/1.jpg"),
        (COCO, ("images", 0, "scale"), None, "images/val2017/1.jpg"),
        (COCO, ("images", 0, "image_id"), 2, "duplicate image_id"),
        (COCO, ("images", 0, "image_id"), "2", "images 0: invalid image_id"),
        (COCO, ("images", 0, "centre"), 1, "centre unknown"),
        (COCO, ("dataset",), "mpii", "mpii"),
        (COCO, ("dataset",), "imagenet", "images/val2017/1.jpg (None)"),
    ],
)
def test_invalid_manifests_are_rejected(
    manifest: Manifest, path: tuple[Any, ...], value: Any, part: str, tmp_path: Path
) -> None:
    file = tmp_path / "manifest.json"
    manifest.write(file)
    set_value(file, path, value)
    check_invalid(Manifest.read, file, part)
