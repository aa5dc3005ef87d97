"""Which images and labels are found in each layout, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.cli import UserError
from hrnet.datasets import COCO_LAYOUT, LAYOUTS, find_coco, find_images, find_training_images, read_labels
from tests.hrnet.io.invalid import check_invalid

CLASS_FOLDERS = {"n02": ["a b.png"], "n9": ["y.JPEG"], "n01": ["10.JPEG", "9.JPEG"], "n10": ["x.JPEG"]}
LABELS = {"val/n01/9.JPEG": 0, "val/n01/10.JPEG": 0, "val/n02/a b.png": 1, "val/n9/y.JPEG": 3, "val/n10/x.JPEG": 2}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def refusal(folder: Path, find: Callable[[Path], object] = find_images) -> str:
    with pytest.raises(UserError) as caught:
        find(folder)
    return str(caught.value)


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"val/{name}/{file}" for name, files in CLASS_FOLDERS.items() for file in files))
    return tmp_path


@pytest.mark.parametrize("backwards", [False, True])
def test_sorted_class_folders_are_the_indices_however_the_disk_lists_them(
    backwards: bool, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: Path, listed: Callable[[Path], Iterable[os.DirEntry[str]]] = os.scandir) -> Iterable[Any]:
        return sorted(listed(path), key=lambda entry: entry.name, reverse=backwards)

    monkeypatch.setattr(os, "scandir", scandir)
    dataset = find_images(class_folders)
    monkeypatch.undo()
    assert list(dataset.labels.items()) == list(LABELS.items())  # sorted as text: n10 before n9; images: 9 before 10
    assert (dataset.root, dataset.index, dataset.class_folders) == (class_folders, class_folders / "val", 4)
    assert (dataset.unlabelled, dataset.absent) == ([], [])


def test_images_to_train_on_are_class_folders_likewise(class_folders: Path) -> None:
    os.rename(class_folders / "val", class_folders / "train")
    touch(class_folders, "train/list.txt")
    dataset = find_training_images(class_folders)
    assert {name.replace("train/", "val/"): label for name, label in dataset.labels.items()} == LABELS
    assert (dataset.class_folders, dataset.unlabelled) == (4, ["train/list.txt"])
    (class_folders / "flat/train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"flat/train: holds no class folder; the images of a class lie in a folder"):
        find_training_images(class_folders / "flat")


def test_the_three_layouts_give_the_same_images_and_labels(class_folders: Path) -> None:
    by_folder = find_images(class_folders)
    (class_folders / "val_list.txt").write_text("".join(f"{name} {label}\n" for name, label in LABELS.items()))
    by_list = find_images(class_folders)
    (class_folders / "val_label.txt").write_text("".join(f"{name[4:]} {label}\n" for name, label in LABELS.items()))
    by_label_file = find_images(class_folders)
    assert list(by_list.labels.items()) == list(by_label_file.labels.items()) == list(by_folder.labels.items())
    assert by_list.sha256() == by_label_file.sha256() == by_folder.sha256()
    names = [found.index.name for found in (by_folder, by_list, by_label_file)]
    assert names == ["val", "val_list.txt", "val_label.txt"]


def test_the_seed_s_own_layout_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "val/img10.JPEG", "val/img2.JPEG", "val/img1.JPEG", "val/.hidden", "val/folder/x.JPEG")
    (tmp_path / "val_label.txt").write_text("img10.JPEG 5\nimg1.JPEG 7\nimg2.JPEG 5\n")
    dataset = find_images(tmp_path)
    assert list(dataset.labels.items()) == [("val/img1.JPEG", 7), ("val/img2.JPEG", 5), ("val/img10.JPEG", 5)]
    assert (dataset.unlabelled, dataset.absent, dataset.class_folders) == ([], [], 0)


@pytest.mark.parametrize("name", ["imagenet", "val"])
def test_the_model_zoo_s_call_names_val_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, f"{name}/val/a.JPEG")
    (tmp_path / name / "val_label.txt").write_text("a.JPEG 3\n")
    monkeypatch.chdir(tmp_path)
    for called in (f"{name}/val", f"{name}/val/", f"{name}/"):
        assert find_images(Path(called)).labels == {"val/a.JPEG": 3}
    monkeypatch.chdir(name)
    assert find_images(Path("val")).labels == {"val/a.JPEG": 3}


def test_a_list_of_images_that_lie_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPEG", "deep/er/b.JPEG")
    (tmp_path / "val_list.txt").write_text("a.JPEG 3\n./deep/er/b.JPEG 4\n")
    dataset = find_images(tmp_path)
    assert dataset.labels == {"./deep/er/b.JPEG": 4, "a.JPEG": 3}
    assert dataset.unlabelled == []


def test_images_without_a_label_and_labels_without_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "val/a.JPEG", "val/10.JPEG", "val/9.JPEG")
    (tmp_path / "val_label.txt").write_text("a.JPEG 1\nz10.JPEG 2\nz9.JPEG 2\n")
    dataset = find_images(tmp_path)
    assert dataset.labels == {"val/a.JPEG": 1}
    assert dataset.unlabelled == ["val/9.JPEG", "val/10.JPEG"]
    assert dataset.absent == ["val/z9.JPEG", "val/z10.JPEG"]


def test_an_empty_class_folder_counts(class_folders: Path) -> None:
    (class_folders / "val/n00").mkdir()
    (class_folders / "val/.thumbs").mkdir()
    assert list(find_images(class_folders).labels.values()) == [label + 1 for label in LABELS.values()]


def test_the_hash_tells_another_image_or_label(class_folders: Path) -> None:
    before = find_images(class_folders).sha256()
    assert find_images(class_folders).sha256() == before
    os.utime(class_folders / "val/n9/y.JPEG", ns=(0, 1))
    touched = find_images(class_folders).sha256()
    (class_folders / "val/n9/y.JPEG").write_bytes(b"xy")
    os.utime(class_folders / "val/n9/y.JPEG", ns=(0, 1))
    longer = find_images(class_folders).sha256()
    (class_folders / "val/n00").mkdir()
    relabelled = find_images(class_folders).sha256()
    assert len({before, touched, longer, relabelled}) == 4


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "val/a").mkdir(parents=True)
    try:
        open(os.fsencode(tmp_path) + b"/val/a/caf\xe9.JPEG", "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    dataset = find_images(tmp_path)
    assert dataset.labels == {"val/a/caf\udce9.JPEG": 0}
    assert len(dataset.sha256()) == 64


def test_no_data_set(tmp_path: Path) -> None:
    line = f"no such dataset folder (expected {LAYOUTS}); give DATASET=<folder>"
    assert refusal(tmp_path / "x") == f"{tmp_path / 'x'}: {line}"
    assert refusal(tmp_path) == f"{tmp_path}: is no ImageNet folder (expected {LAYOUTS})"
    (tmp_path / "val").mkdir()
    hint = "images that lie flat in val/ need val_label.txt beside it, lines `name.JPEG index`"
    assert refusal(tmp_path) == f"{tmp_path / 'val'}: holds no class folder; {hint}"
    (tmp_path / "val/n01").mkdir()
    assert refusal(tmp_path) == f"{tmp_path / 'val'}: class folders hold no file"


def test_a_list_of_other_images(tmp_path: Path) -> None:
    touch(tmp_path, "val/x.JPEG")
    (tmp_path / "val_label.txt").write_text("".join(f"{name}.JPEG 1\n" for name in "abcd"))
    expected = "val/a.JPEG, val/b.JPEG, val/c.JPEG and 1 more"
    facts = f"expected {expected}, found none of its 4 in {tmp_path / 'val'}"
    assert refusal(tmp_path) == f"{tmp_path / 'val_label.txt'}: lists no image that is there ({facts})"


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"a.JPEG 0\nb.JPEG 999\n", {"a.JPEG": 0, "b.JPEG": 999}),
        (b"\n  a.JPEG  7  \r\n\r\nb.JPEG 007", {"a.JPEG": 7, "b.JPEG": 7}),
        (b"potter's wheel (1).JPEG 3\n", {"potter's wheel (1).JPEG": 3}),
        (b"\xef\xbb\xbfa.JPEG 0\n", {"a.JPEG": 0}),
        ("图.JPEG 5\n".encode(), {"图.JPEG": 5}),
    ],
)
def test_labels(data: bytes, labels: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "val_label.txt").write_bytes(data)
    assert read_labels(tmp_path / "val_label.txt") == labels


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"\n\n", "holds no label (expected lines `name index`)"),
        (b"a.JPEG 0\na.JPEG\n", "line 2 (expected name index, found 'a.JPEG')"),
        (b"5\n", "line 1 (expected name index, found '5')"),
        (b"a.JPEG -1\n", "line 1 (expected name index, found 'a.JPEG -1')"),
        ("a.JPEG ²\n".encode(), "line 1 (expected name index, found 'a.JPEG ²')"),
        (b"a.JPEG\t1\n", "line 1 (expected name index, found 'a.JPEG\\t1')"),
        (b"a.JPEG 1\nb.JPEG 2\na.JPEG 1\n", "line 3: a second label for a.JPEG"),
        (b"\xb0\xa1.JPEG 1\n", "not UTF-8 text"),
    ],
)
def test_invalid_labels(data: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "val_label.txt"
    path.write_bytes(data)
    check_invalid(read_labels, path, f"{path}: {line}")


def coco(root: Path, listed: list[str], there: list[str]) -> Path:
    touch(root, *(f"images/val2017/{name}" for name in there), "annotations/person_keypoints_val2017.json")
    images = [{"id": i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(listed)]
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps({"images": images}))
    return root


def coco_refusal(folder: Path) -> str:
    return refusal(folder, lambda root: find_coco(root, "val2017"))


def test_coco_images_in_natural_order_with_what_is_listed_or_there_alone(tmp_path: Path) -> None:
    coco(tmp_path, ["10.jpg", "9.jpg", "z2.jpg", "z10.jpg"], ["9.jpg", "10.jpg", "x.jpg", ".hidden"])
    found = find_coco(tmp_path, "val2017")
    assert {source: image.image_id for source, image in found.images.items()} == {
        "images/val2017/9.jpg": 1,
        "images/val2017/10.jpg": 0,
    }
    assert list(found.images) == ["images/val2017/9.jpg", "images/val2017/10.jpg"]
    assert (found.absent, found.unlisted) == (["z2.jpg", "z10.jpg"], ["x.jpg"])
    before = found.sha256()
    os.utime(tmp_path / "images/val2017/9.jpg", ns=(0, 1))
    assert find_coco(tmp_path, "val2017").sha256() != before


def test_no_coco_set(tmp_path: Path) -> None:
    layout = f"expected {COCO_LAYOUT}"
    assert coco_refusal(tmp_path / "x") == f"{tmp_path / 'x'}: no such dataset folder ({layout}); give DATASET=<folder>"
    index = tmp_path / "annotations/person_keypoints_val2017.json"
    assert coco_refusal(tmp_path).startswith(f"{index}: no annotation file (")
    coco(tmp_path, ["a.jpg", "b.jpg"], [])
    folder = tmp_path / "images/val2017"
    assert coco_refusal(tmp_path) == f"{folder}: no such folder of images ({layout}); give DATASET=<folder>"
    touch(tmp_path, "images/val2017/c.jpg")
    found = f"expected a.jpg, b.jpg, found none of its 2 in {folder}"
    assert coco_refusal(tmp_path) == f"{index}: lists no image that is there ({found})"
