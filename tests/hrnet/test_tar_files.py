"""Data sets in tar files: which files are found, and what is rejected."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Callable

import pytest

from hrnet.cli import UserError
from hrnet.datasets import find_images, find_training_images
from hrnet.io.records import FormatError
from hrnet.tar_files import find_tars
from hrnet.tars import find_source
from tests.support.tar_sets import samples, write_tar

BLOCK = tarfile.BLOCKSIZE


def error_of(path: Path, find: Callable[[Path], object]) -> str:
    with pytest.raises(UserError) as caught:
        find(path)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """A folder of three tar files; two of them contain the key `a`."""
    write_tar(tmp_path / "set/val-10.tar", samples({"a": 3, "c": 0}))
    write_tar(tmp_path / "set/val-9.tar", samples({"b": 1, "a": 2}))
    write_tar(tmp_path / "set/val-2.tar", samples({"x/z": 0}))
    return tmp_path / "set"


LABELS = {
    "val-2.tar/x/z.jpg": 0,
    "val-9.tar/b.jpg": 1,
    "val-9.tar/a.jpg": 2,
    "val-10.tar/a.jpg": 3,
    "val-10.tar/c.jpg": 0,
}


def test_tar_files_are_read_in_natural_order(tars: Path) -> None:
    dataset = find_images(tars, 4)
    assert list(dataset.labels.items()) == list(LABELS.items())
    assert (dataset.root, dataset.index, dataset.ends) == (tars, tars, (1, 3, 5))
    for source in LABELS:
        key = source.partition("/")[2].removesuffix(".jpg").encode()
        assert dataset.find(source).read_bytes() == find_source(tars, source).read_bytes() == key


def test_tar_files_are_found_in_val_or_through_a_list_or_as_a_single_file(tars: Path) -> None:
    names = sorted(path.name for path in tars.iterdir())
    (tars / "some.txt").write_text("\ufeff# mine\r\n\r\n./val-10.tar\r\n val-2.tar \n")
    some = {source: label for source, label in LABELS.items() if "val-9" not in source}
    assert find_images(tars / "some.txt", 4).labels == some
    (tars.parent / "other.txt").write_text(f"set/val-2.tar\n{tars}/val-10.tar\n")
    listed = find_images(tars.parent / "other.txt", 4)
    assert set(listed.labels.values()) == set(some.values())
    for source in listed.labels:
        assert find_source(tars.parent / "other.txt", source) == listed.find(source)
    assert find_images(tars / "val-9.tar", 4).labels == {k: v for k, v in LABELS.items() if "val-9" in k}
    assert find_source(tars / "val-9.tar", "val-9.tar/b.jpg").read_bytes() == b"b"
    (tars / "val").mkdir()
    for name in names:
        os.rename(tars / name, tars / "val" / name)
    in_val = {f"val/{source}": label for source, label in LABELS.items()}
    assert find_images(tars, 4).labels == find_images(tars / "val", 4).labels == in_val
    assert find_source(tars, "val/val-9.tar/b.jpg").read_bytes() == b"b"


def test_an_image_list_or_class_folders_take_precedence_over_tar_files(tars: Path) -> None:
    for name in ("val/a/1.jpg", "val/b/2.jpg"):
        (tars / name).parent.mkdir(parents=True)
        (tars / name).write_bytes(b"x")
    assert find_tars(tars) == (tars, [])
    assert find_images(tars, 2).labels == {"val/a/1.jpg": 0, "val/b/2.jpg": 1}
    os.rename(tars / "val", tars / "other")
    (tars / "val_list.txt").write_text("other/a/1.jpg 1\n")
    assert find_images(tars, 2).labels == {"other/a/1.jpg": 1}


def test_the_hash_covers_places_sizes_labels_and_times(tars: Path) -> None:
    hashes = {find_images(tars, 4).sha256()}
    assert find_images(tars, 4).sha256() in hashes
    os.utime(tars / "val-2.tar", (1, 1))
    hashes.add(find_images(tars, 4).sha256())
    for keys in ({"x/z": 1}, {"x/y": 0}, {"x/z": 0, "x/y": 0}):
        write_tar(tars / "val-2.tar", samples(keys))
        os.utime(tars / "val-2.tar", (1, 1))
        hashes.add(find_images(tars, 4).sha256())
    assert len(hashes) == 5


def test_images_without_a_label_are_left_out(tars: Path) -> None:
    write_tar(tars / "val-2.tar", [("u.jpg", b"U"), *samples({"v": 1})])
    dataset = find_images(tars, 4)
    assert dataset.unlabelled == ["val-2.tar/u.jpg"] and len(dataset.labels) == len(dataset.members) == 5
    write_tar(tars / "one/x.tar", [("u.jpg", b"U")])
    assert "x.tar/u.jpg" in error_of(tars / "one", lambda path: find_images(path, 4))


def set_of(root: Path, *names: str) -> Path:
    for name in names:
        write_tar(root / name, samples({"a": 1}))
    return root


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["0.tar", "1.tar.gz"], ("1.tar.gz", "gunzip")),
        (["val/0.tgz"], ("0.tgz", "gunzip")),
        (["x.tar.zst"], ("unzstd --rm", "/x.tar.zst")),
        (["x.tar.bz2"], ("bunzip2 ", "/x.tar.bz2")),
        (["x.tar.lz4"], ("lz4 -d --rm ", "/x.tar.lz4")),
        (["x.tar.br"], ("brotli -d --rm ", "/x.tar.br")),
        (["a b.tbz"], ("bunzip2 '", "/a b.tbz'")),
        (["net-train-0.tar", "net-validation-0.tar"], ("net-train-0.tar", "list")),
    ],
)
def test_invalid_folders_of_tar_files_are_rejected(names: list[str], parts: tuple[str, ...], tmp_path: Path) -> None:
    line = error_of(set_of(tmp_path / "set", *names), lambda path: find_images(path, 4))
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.tar\n./0.tar\n", ("duplicate", "0.tar")),
        ("0.tar\nlink.tar\n", ("duplicate", "0.tar", "link.tar")),
        ("0.tar\nno.tar\n", ("no.tar", "No such file")),
        ("0.tar\nfolder.tar\n", ("folder.tar",)),
        ("0.tar\ntwo.tgz\n", ("two.tgz", "gunzip")),
        ("0.tar\na.jpg 3\n", ("line 2", "a.jpg 3")),
        ("# none\n", ("list.txt", "no tar file")),
        ("0.tar\0", ("not a data set",)),
    ],
)
def test_invalid_lists_of_tar_files_are_rejected(text: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    set_of(tmp_path, "0.tar")
    (tmp_path / "link.tar").symlink_to("0.tar")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "list.txt").write_text(text)
    line = error_of(tmp_path / "list.txt", lambda path: find_images(path, 4))
    assert all(part in line for part in parts), line


def test_a_list_of_images_is_rejected_with_a_hint(tmp_path: Path) -> None:
    for name, hint in (("val_list.txt", f"give DATASET={tmp_path}"), ("my.txt", "remove the line; ")):
        (tmp_path / name).write_text("val/a.gif 3\n")
        with pytest.raises(FormatError) as caught:
            find_tars(tmp_path / name)
        assert str(caught.value.hint).startswith(hint)


def test_a_list_may_name_tar_files_of_train_and_val(tmp_path: Path) -> None:
    set_of(tmp_path, "net-train-0.tar", "net-val-0.tar")
    (tmp_path / "list.txt").write_text("net-train-0.tar\nnet-val-0.tar\n")
    assert len(find_images(tmp_path / "list.txt", 4).labels) == 2


def test_paths_that_are_not_data_sets_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    assert "not a data set" in error_of(tmp_path / "x.bin", lambda path: find_images(path, 4))
    assert "no such data set directory" in error_of(tmp_path / "none.txt", lambda path: find_images(path, 4))
    assert "train/" in error_of(set_of(tmp_path / "set", "0.tar"), lambda path: find_training_images(path, 4))


def test_labels_outside_the_classes_are_rejected(tars: Path) -> None:
    line = error_of(tars, lambda path: find_images(path, 3))
    assert "val-10.tar/a.jpg (3)" in line and "0 to 2" in line


def test_a_tar_that_changed_since_it_was_listed_is_rejected(tars: Path) -> None:
    member = find_images(tars, 4).members["val-10.tar/c.jpg"]
    assert "no member d.jpg" in error_of(tars, lambda path: find_source(path, "val-10.tar/d.jpg"))
    os.truncate(tars / "val-10.tar", BLOCK)
    with pytest.raises(OSError, match=r"val-10\.tar"):
        member.read_bytes()
