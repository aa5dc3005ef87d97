"""Which images and labels are found in each layout, and what is rejected."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

import pytest
from PIL import Image

from hrnet.cli import UserError
from hrnet.datasets import find_coco, find_images, find_training_images
from hrnet.layouts import COCO_LAYOUT, IMAGENET_LAYOUTS

CLASS_FOLDERS = {"n02": ["a b.png"], "n9": ["y.JPEG"], "n01": ["10.JPEG", "9.JPEG"], "n10": ["x.JPEG"]}
LABELS = {"val/n01/9.JPEG": 0, "val/n01/10.JPEG": 0, "val/n02/a b.png": 1, "val/n9/y.JPEG": 3, "val/n10/x.JPEG": 2}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def error_of(folder: Path, find: Callable[[Path], object] = lambda root: find_images(root, 4)) -> str:
    with pytest.raises(UserError) as caught:
        find(folder)
    return str(caught.value)


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"val/{name}/{file}" for name, files in CLASS_FOLDERS.items() for file in files))
    return tmp_path


def test_class_directories_that_contradict_the_names_of_the_config_are_rejected(class_folders: Path) -> None:
    """Names without a directory are not compared: directories may be named by WordNet ids, or by indices."""
    dataset = find_images(class_folders, 4)
    first, second = list(dataset.classes)[:2]
    dataset.check_class_names([])
    dataset.check_class_names([first, second, first, "x"])
    dataset.check_class_names(["w", "x", "y", "z"])
    with pytest.raises(UserError) as caught:
        dataset.check_class_names([second, "x", "y", "z"])
    assert caught.value.where == class_folders / "val" / second
    assert "class 0" in str(caught.value.expected) and caught.value.found == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_sorted_class_folders_are_the_indices_however_the_disk_lists_them(
    backwards: bool, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: Path, listed: Callable[[Path], Iterable[os.DirEntry[str]]] = os.scandir) -> Iterable[Any]:
        return sorted(listed(path), key=lambda entry: entry.name, reverse=backwards)

    monkeypatch.setattr(os, "scandir", scandir)
    dataset = find_images(class_folders, 4)
    monkeypatch.undo()
    # directories are sorted as text (n10 before n9), images by number (9 before 10)
    assert list(dataset.labels.items()) == list(LABELS.items())
    assert (dataset.root, dataset.index) == (class_folders, class_folders / "val")
    assert dataset.classes == {"n01": 0, "n02": 1, "n10": 2, "n9": 3}
    assert (dataset.unlabelled, dataset.absent) == ([], [])


def test_training_images_are_in_class_folders(class_folders: Path) -> None:
    os.rename(class_folders / "val", class_folders / "train")
    touch(class_folders, "train/list.txt")
    dataset = find_training_images(class_folders, 4)
    assert {name.replace("train/", "val/"): label for name, label in dataset.labels.items()} == LABELS
    assert dataset.unlabelled == ["train/list.txt"]
    (class_folders / "flat/train").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"flat/train: no class directories; put the images of each class into one directory"
    ):
        find_training_images(class_folders / "flat", 4)


def test_the_three_layouts_give_the_same_images_and_labels(class_folders: Path) -> None:
    by_folder = find_images(class_folders, 4)
    (class_folders / "val_list.txt").write_text("".join(f"{name} {label}\n" for name, label in LABELS.items()))
    by_list = find_images(class_folders, 4)
    (class_folders / "val_label.txt").write_text("".join(f"{name[4:]} {label}\n" for name, label in LABELS.items()))
    by_label_file = find_images(class_folders, 4)
    assert list(by_list.labels.items()) == list(by_label_file.labels.items()) == list(by_folder.labels.items())
    assert by_list.sha256() == by_label_file.sha256() == by_folder.sha256()
    names = [found.index.name for found in (by_folder, by_list, by_label_file)]
    assert names == ["val", "val_list.txt", "val_label.txt"]


def test_the_model_zoos_layout_is_read_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "val/img10.JPEG", "val/img2.JPEG", "val/img1.JPEG", "val/.hidden", "val/folder/x.JPEG")
    (tmp_path / "val_label.txt").write_text("img10.JPEG 5\nimg1.JPEG 7\nimg2.JPEG 5\n")
    dataset = find_images(tmp_path, 10)
    assert list(dataset.labels.items()) == [("val/img1.JPEG", 7), ("val/img2.JPEG", 5), ("val/img10.JPEG", 5)]
    assert (dataset.unlabelled, dataset.absent, dataset.classes) == ([], [], {})


@pytest.mark.parametrize("name", ["imagenet", "val"])
def test_the_val_folder_itself_is_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, f"{name}/val/a.JPEG")
    (tmp_path / name / "val_label.txt").write_text("a.JPEG 3\n")
    monkeypatch.chdir(tmp_path)
    for called in (f"{name}/val", f"{name}/val/", f"{name}/"):
        assert find_images(Path(called), 10).labels == {"val/a.JPEG": 3}
    monkeypatch.chdir(name)
    assert find_images(Path("val"), 10).labels == {"val/a.JPEG": 3}


def test_a_list_may_name_images_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPEG", "deep/er/b.JPEG")
    (tmp_path / "val_list.txt").write_text("a.JPEG 3\n./deep/er/b.JPEG 4\n")
    dataset = find_images(tmp_path, 10)
    assert dataset.labels == {"a.JPEG": 3, "deep/er/b.JPEG": 4}
    assert dataset.unlabelled == []


def test_missing_labels_and_missing_images_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "val/a.JPEG", "val/10.JPEG", "val/9.JPEG")
    (tmp_path / "val_label.txt").write_text("a.JPEG 1\nz10.JPEG 2\nz9.JPEG 2\n")
    dataset = find_images(tmp_path, 10)
    assert dataset.labels == {"val/a.JPEG": 1}
    assert dataset.unlabelled == ["val/9.JPEG", "val/10.JPEG"]
    assert dataset.absent == ["val/z9.JPEG", "val/z10.JPEG"]


def test_an_alphabetical_order_that_differs_from_that_of_numbers_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, *(f"val/class_{number}/a.JPEG" for number in range(1, 11)))
    (note,) = find_images(tmp_path, 10).notes()
    assert note.endswith("class_10 is class 1, before class_2")
    touch(tmp_path, *(f"numbers/val/{number}/a.JPEG" for number in range(10)))
    assert find_images(tmp_path / "numbers", 10).notes() == []


def test_a_folder_without_images_is_not_a_class(class_folders: Path) -> None:
    touch(class_folders, "val/.thumbs/x.JPEG", "val/__MACOSX/._x.JPEG", "val/n00/read.me")
    (class_folders / "val/n03").symlink_to("nowhere")
    dataset = find_images(class_folders, 4)
    assert dataset.labels == LABELS
    assert dataset.empty_folders == ["__MACOSX", "n00", "n03"]
    assert dataset.notes()[0].endswith(": __MACOSX, n00, n03")
    Image.new("RGB", (4, 4)).save(class_folders / "val/n00/no ending", "PNG")
    assert "n00" in error_of(class_folders), "an image in a fifth directory, for four classes"


@pytest.mark.parametrize("classes", [3, 6, 1000])
def test_another_number_of_class_folders_is_rejected(classes: int, class_folders: Path) -> None:
    touch(class_folders, "val/backup/x.JPEG", "val/__MACOSX/readme")
    os.rename(class_folders / "val/n9", class_folders / "val/n99")
    with pytest.raises(UserError) as caught:
        find_images(class_folders, classes)
    assert (caught.value.where, caught.value.what) == (class_folders / "val", "wrong number of class directories")
    assert str(caught.value.found).startswith(
        "1 without images: __MACOSX; 1 with unusual names: backup; 5 with images: "
    )
    for_a_subset = "val_list.txt" in str(caught.value.hint)
    assert for_a_subset == (classes > 5), "the hint for a subset only if there are fewer directories than classes"


@pytest.mark.parametrize("second", [1, 2])
def test_the_error_for_a_second_label_names_both_labels_and_a_command(second: int, tmp_path: Path) -> None:
    touch(tmp_path, "val/a.JPEG", "val/b.JPEG")
    path = tmp_path / "val_label.txt"
    path.write_text(f"b.JPEG 0\n\na.JPEG 1\nval/a.JPEG {second}\n")
    with pytest.raises(UserError) as caught:
        find_images(tmp_path, 3)
    error = caught.value
    assert error.found == f"1 in line 3, {second} in line 4"
    assert ("if line 3 is right" in str(error.hint)) == (second != 1)
    subprocess.run(["bash", "-c", str(error.hint).rpartition("right: ")[2]], check=True)
    assert find_images(tmp_path, 3).labels == {"val/a.JPEG": 1, "val/b.JPEG": 0}


def with_class_folders(root: Path, split: str, names: Iterable[object]) -> Path:
    touch(root, *(f"{split}/{name}/x.JPEG" for name in names))
    return root


def test_folders_named_by_integers_are_sorted_by_value(tmp_path: Path) -> None:
    for split, find in (("val", find_images), ("train", find_training_images)):
        assert find(with_class_folders(tmp_path, split, range(12)), 12).labels == {
            f"{split}/{i}/x.JPEG": i for i in range(12)
        }
    one = find_images(with_class_folders(tmp_path / "from one", "val", range(1, 13)), 12)
    assert one.labels == {f"val/{i}/x.JPEG": i - 1 for i in range(1, 13)}
    assert "01 and 1" in error_of(with_class_folders(tmp_path / "twice", "val", ["01", "1", "2", "3"]))


def test_a_subset_of_the_classes_needs_unambiguous_labels(tmp_path: Path) -> None:
    some = find_images(with_class_folders(tmp_path / "numbers", "val", [0, 3, 11]), 12)
    assert some.labels == {"val/0/x.JPEG": 0, "val/3/x.JPEG": 3, "val/11/x.JPEG": 11}
    (note,) = some.notes()
    assert "3 of 12 classes" in note
    for names in ([1, 3, 11], [0, 3, 12], ["n0", "n3"]):
        with pytest.raises(UserError):
            find_images(with_class_folders(tmp_path / str(names), "val", names), 12)
    with pytest.raises(UserError):
        find_training_images(with_class_folders(tmp_path / "train", "train", [0, 3, 11]), 12)
    beside = with_class_folders(with_class_folders(tmp_path / "names", "val", "bd"), "train", "abcd")
    assert find_images(beside, 4).labels == {"val/b/x.JPEG": 1, "val/d/x.JPEG": 3}
    touch(beside, "val/x/x.JPEG")
    assert "expected 4" in error_of(beside), "a folder that train/ has not"


def test_class_names_that_differ_from_train_are_rejected(tmp_path: Path) -> None:
    data = with_class_folders(with_class_folders(tmp_path, "train", "0123"), "val", ["zero", "one", "two", "three"])
    error = error_of(data)
    assert error.startswith(f"{data}: train/ and val/ have different class directories (found 0 only in train/, ")
    assert "zero only in val/" in error
    some = with_class_folders(with_class_folders(tmp_path / "some", "train", "ab"), "val", "abcd")
    assert len(find_images(some, 4).labels) == 4, "train/ has only some of the classes, so it is not compared"
    indices = with_class_folders(with_class_folders(tmp_path / "indices", "train", "abcd"), "val", range(4))
    assert list(find_images(indices, 4).labels.values()) == [0, 1, 2, 3]


def test_broken_links_are_not_images_in_any_layout(class_folders: Path) -> None:
    for name in ("val/n01/9.JPEG", "val/n9/y.JPEG"):
        (class_folders / name).unlink()
        (class_folders / name).symlink_to("nowhere")
    broken = dict.fromkeys(["val/n01/9.JPEG", "val/n9/y.JPEG"], "a broken link")
    left = [name for name in LABELS if name not in broken]
    by_folder = find_images(class_folders, 4)
    assert (list(by_folder.labels), by_folder.broken, by_folder.absent) == (left, broken, [])
    (class_folders / "val_list.txt").write_text("".join(f"{name} {label}\n" for name, label in LABELS.items()))
    by_list = find_images(class_folders, 4)
    assert (list(by_list.labels), by_list.broken, by_list.absent) == (left, broken, [])
    assert len(by_list.sha256()) == 64
    os.mkfifo(class_folders / "val/n9/pipe.JPEG")
    assert find_images(class_folders, 4).unlabelled == []
    (class_folders / "val_list.txt").unlink()
    assert find_images(class_folders, 4).broken["val/n9/pipe.JPEG"] == "not a file"


def test_names_in_lists_are_normalised_and_stay_in_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"val/{name}.JPEG" for name in ("a", "b c", "d", "e")))
    lines = ["val/a.JPEG\t1\n", "./val/b c.JPEG  2\r\n", f"{tmp_path}/val/d.JPEG 3\n", "x/../e.JPEG 4\n"]
    (tmp_path / "val_label.txt").write_text("".join(lines))
    assert list(find_images(tmp_path, 10).labels.items()) == [
        ("val/a.JPEG", 1),
        ("val/b c.JPEG", 2),
        ("val/d.JPEG", 3),
        ("val/e.JPEG", 4),
    ]
    for line, what in (
        ("../a.JPEG 1", "line 1: outside of the directory"),
        ("/etc/passwd 1", "line 1: outside of the directory"),
        ("a.JPEG 1\nval/a.JPEG 1", "line 2: a second label for val/a.JPEG"),
        ("a.JPEG 10", "label outside the classes"),
        ("a.JPEG 123456789", "label outside the classes"),
        ("a.JPEG 1234567890", "invalid line 1"),
    ):
        (tmp_path / "val_label.txt").write_text(line)
        with pytest.raises(UserError) as caught:
            find_images(tmp_path, 10)
        assert (caught.value.where, caught.value.what) == (tmp_path / "val_label.txt", what)


def test_names_in_a_list_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    try:
        open(os.fsencode(tmp_path) + b"/val/caf\xe9.JPEG", "wb").close()
    except OSError:
        pytest.skip("this file system only accepts UTF-8 names")
    (tmp_path / "val_label.txt").write_bytes(b"caf\xe9.JPEG 1\n")
    assert find_images(tmp_path, 10).labels == {"val/caf\udce9.JPEG": 1}


def test_the_hash_changes_with_images_and_labels(class_folders: Path) -> None:
    before = find_images(class_folders, 4).sha256()
    assert find_images(class_folders, 4).sha256() == before
    os.utime(class_folders / "val/n9/y.JPEG", ns=(0, 1))
    touched = find_images(class_folders, 4).sha256()
    (class_folders / "val/n9/y.JPEG").write_bytes(b"xy")
    os.utime(class_folders / "val/n9/y.JPEG", ns=(0, 1))
    longer = find_images(class_folders, 4).sha256()
    os.rename(class_folders / "val/n02", class_folders / "val/n92")
    relabelled = find_images(class_folders, 4).sha256()
    assert len({before, touched, longer, relabelled}) == 4


def test_file_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    (tmp_path / "val/a").mkdir(parents=True)
    try:
        open(os.fsencode(tmp_path) + b"/val/a/caf\xe9.JPEG", "wb").close()
    except OSError:
        pytest.skip("this file system only accepts UTF-8 names")
    dataset = find_images(tmp_path, 1)
    assert dataset.labels == {"val/a/caf\udce9.JPEG": 0}
    assert len(dataset.sha256()) == 64


def test_a_directory_without_a_data_set_is_rejected(tmp_path: Path) -> None:
    line = error_of(tmp_path / "x")
    assert line.startswith(f"{tmp_path / 'x'}: no such") and IMAGENET_LAYOUTS in line and "DATASET=" in line
    line = error_of(tmp_path)
    assert line.startswith(f"{tmp_path}: not an ImageNet") and IMAGENET_LAYOUTS in line and "found an empty" in line
    (tmp_path / "val").mkdir()
    line = error_of(tmp_path)
    assert line.startswith(f"{tmp_path / 'val'}: ") and f"{tmp_path}/val_label.txt, lines `name.JPEG index`" in line
    (tmp_path / "val/n01").mkdir()
    assert error_of(tmp_path) == f"{tmp_path / 'val'}: no images in the class directories (found n01)"


def test_a_list_that_matches_no_image_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "val/x.JPEG")
    (tmp_path / "val_label.txt").write_text("".join(f"{name}.JPEG 1\n" for name in "abcd"))
    expected = "val/a.JPEG, val/b.JPEG, val/c.JPEG and 1 more"
    facts = f"expected {expected}, found none of its 4 in {tmp_path / 'val'}"
    error = error_of(tmp_path)
    assert error.startswith(f"{tmp_path / 'val_label.txt'}: none of the listed images exists ({facts})")
    assert "remove it if the images are in val/<class>/" in error


NOBODY: dict[str, Any] = {"annotations": [], "categories": [{"id": 1, "name": "person"}]}


def coco(root: Path, listed: list[str], there: list[str]) -> Path:
    touch(root, *(f"images/val2017/{name}" for name in there), "annotations/person_keypoints_val2017.json")
    images = [{"id": i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(listed)]
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps({"images": images, **NOBODY}))
    return root


def coco_error_of(folder: Path) -> str:
    return error_of(folder, lambda root: find_coco(root, "val2017"))


def test_coco_images_are_in_natural_order_and_differences_are_reported(tmp_path: Path) -> None:
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


def test_coco_images_may_be_in_folders_and_broken_links_are_reported(tmp_path: Path) -> None:
    names = ["cam1/1.jpg", "./2.jpg", str(tmp_path / "images/val2017/3.jpg"), "gone.jpg", "cam2/1.jpg", "cam1"]
    coco(tmp_path, names, ["cam1/1.jpg", "2.jpg", "3.jpg", "cam1/x.jpg"])
    (tmp_path / "images/val2017/gone.jpg").symlink_to("nowhere")
    found = find_coco(tmp_path, "val2017")
    assert [image.image_id for image in found.images.values()] == [1, 2, 0]
    assert list(found.images) == [f"images/val2017/{name}" for name in ("2.jpg", "3.jpg", "cam1/1.jpg")]
    assert found.broken == {"cam1": "a directory", "gone.jpg": "a broken link"}
    assert (found.absent, found.unlisted) == (["cam2/1.jpg"], ["cam1/x.jpg"])


def test_a_directory_without_a_coco_set_is_rejected(tmp_path: Path) -> None:
    line = coco_error_of(tmp_path / "x")
    assert line.startswith(f"{tmp_path / 'x'}: no such data set directory") and COCO_LAYOUT in line
    index = tmp_path / "annotations/person_keypoints_val2017.json"
    line = coco_error_of(tmp_path)
    assert line.startswith(f"{tmp_path}: ") and "no annotations/person_keypoints_val2017.json (" in line
    coco(tmp_path, ["a.jpg", "b.jpg"], [])
    folder = tmp_path / "images/val2017"
    assert "no images/val2017 (" in coco_error_of(tmp_path)
    touch(tmp_path, "images/val2017/c.jpg")
    found = f"expected a.jpg, b.jpg, found none of its 2 in {folder}"
    assert coco_error_of(tmp_path).startswith(f"{index}: none of the listed images exists ({found}); ")
