"""hrnet/layouts.py: the error for a directory that is not a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet.cli import UserError
from hrnet.layouts import check_coco, check_imagenet

ANNOTATIONS = "annotations/person_keypoints_val2017.json"


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "names", [["val/n01/a.JPEG"], ["val/a.JPEG", "val_label.txt"], ["val_list.txt"], ["0.tar"], ["val/0.tar"]]
)
def test_known_layouts(tmp_path: Path, names: list[str]) -> None:
    check_imagenet(write(tmp_path, *names))
    if (tmp_path / "val").is_dir():
        check_imagenet(tmp_path / "val")


@pytest.mark.parametrize(
    ("names", "what", "found", "hint"),
    [
        (["a.jpg", "b.PNG", ".hidden"], "not an ImageNet directory", "a.jpg, b.PNG", "make predict IMAGES={root}"),
        (["imagenet/val/n01/a.JPEG"], "not an ImageNet directory", "imagenet/", "DATASET={root}/imagenet"),
        (["n01/a.JPEG", "n02/a.JPEG"], "not an ImageNet directory", "n01/, n02/", "move them into val/"),
        ([ANNOTATIONS, "images/val2017/1.jpg"], "not an ImageNet directory", "images/", "pose models"),
        (["val/a.JPEG"], "no class directories", "a.JPEG", "{root}/val_label.txt"),
        ([], "not an ImageNet directory", "an empty directory", "DATASET="),
        (["notes.md"], "not an ImageNet directory", "notes.md", "DATASET="),
    ],
)
def test_another_directory(tmp_path: Path, names: list[str], what: str, found: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        check_imagenet(write(tmp_path, *names))
    assert caught.value.what == what and found in str(caught.value.found)
    assert hint.format(root=tmp_path) in str(caught.value.hint)


@pytest.mark.parametrize(
    ("names", "missing", "hint"),
    [
        ([ANNOTATIONS], "images/val2017", "DATASET="),
        (["images/val2017/1.jpg"], ANNOTATIONS, "DATASET="),
        (["coco/" + ANNOTATIONS, "coco/images/val2017/1.jpg"], ANNOTATIONS, "DATASET={root}/coco"),
        (["val_label.txt", "val/a.JPEG"], ANNOTATIONS, "classification models"),
        (["1.jpg"], ANNOTATIONS, "make predict IMAGES={root}"),
    ],
)
def test_coco(tmp_path: Path, names: list[str], missing: str, hint: str) -> None:
    write(tmp_path, *names)
    with pytest.raises(UserError) as caught:
        check_coco(tmp_path, "val2017")
    assert caught.value.where == tmp_path and f"no {missing}" in caught.value.what
    assert hint.format(root=tmp_path) in str(caught.value.hint)
    check_coco(write(tmp_path, ANNOTATIONS, "images/val2017/1.jpg"), "val2017")
