"""hrnet/tars.py: the images and labels in tar files, and what is rejected."""

from __future__ import annotations

import gzip
import random
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.tars import Member, read_tar
from tests.support.tar_sets import Entry, entry, samples, write_tar

BLOCK = tarfile.BLOCKSIZE


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tar(path)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def data_of(index: dict[str, Member]) -> dict[str, bytes]:
    return {name: member.read_bytes() for name, member in index.items()}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_are_in_the_order_of_the_file(form: int, tmp_path: Path) -> None:
    entries: list[Entry] = [
        entry("val/", tarfile.DIRTYPE),
        ("val/b.JPEG", b"BB"),
        ("val/b.cls", b"3\n"),
        ("val/b.seg.png", b"mask"),
        ("val/b.txt", b"a text"),
        ("readme.md", b"x"),
        ("noending", b"x"),
        ("a.json", b'{"label": 2, "class": "tench"}'),
        ("a.png", b"AAA"),
        ("no_label.webp", b""),
        ("info.json", b'{"count": 3}'),
        (".DS_Store", b"x"),
        ("val/._b.JPEG", b"a fork of a Mac"),
    ]
    found = read_tar(write_tar(tmp_path / "x.tar", entries, form))
    assert data_of(found.images) == {"val/b.JPEG": b"BB", "a.png": b"AAA", "no_label.webp": b""}
    assert list(found.images) == ["val/b.JPEG", "a.png", "no_label.webp"]
    assert found.labels == {"val/b.JPEG": 3, "a.png": 2}


def test_a_file_written_by_tar_is_read(tmp_path: Path) -> None:
    """As `tar -C folder -cf x.tar .` writes it: `./` in front, folders, owners, blocks of 10 kB."""
    for name, data in (("in/b.jpg", "B"), ("in/b.cls", "1"), ("in/long name ü.jpg", "L"), ("in/long name ü.cls", "0")):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / name).write_text(data)
    subprocess.run(["tar", "-C", tmp_path / "in", "--sort=name", "-cf", tmp_path / "x.tar", "."], check=True)
    found = read_tar(tmp_path / "x.tar")
    assert data_of(found.images) == {"b.jpg": b"B", "long name ü.jpg": b"L"}
    assert found.labels == {"b.jpg": 1, "long name ü.jpg": 0}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["k" * 150, "deep/" * 60 + "k" * 120, "caf\udce9", "日本" * 40])
def test_long_and_non_ascii_names_are_read(key: str, form: int, tmp_path: Path) -> None:
    found = read_tar(write_tar(tmp_path / "x.tar", samples({key: 7}), form))
    assert found.labels == {f"{key}.jpg": 7}
    assert data_of(found.images) == {f"{key}.jpg": key.encode("utf-8", "surrogateescape")}


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b'{"label": 5}', 5),
        (b'{"cls": 5, "cname": "x"}', 5),
        (b'{"class": 5}', 5),
        (b'\xef\xbb\xbf{"label": 0}', 0),
        (b'{"label": 5, "cls": 5}', 5),
        (b'{"label": 5, "cls": 6}', "more than one label"),
        (b'{"label": "5"}', "no class index"),
        (b'{"label": 5.0}', "no class index"),
        (b'{"label": true}', "no class index"),
        (b'{"label": -1}', "no class index"),
        (b'{"label": null}', "no class index"),
        (b"5", "no class index"),
        (b'{"label": ', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_labels_in_json_are_read(data: bytes, label: Union[int, str], tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"A"), ("a.json", data)])
    if isinstance(label, int):
        assert read_tar(path).labels == {"a.jpg": label}
    else:
        line = error_of(path)
        assert "a.json" in line and label in line and "x.tar" in line
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"A"), ("a.json", data), ("a.cls", b"4")])
    assert read_tar(path).labels == {"a.jpg": 4}, "the label is that of the .cls file if there is one"


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"1.0", b"1 2", b"\x07", b"9" * 10, "٣".encode(), b"1" * (2 << 20)])
def test_a_class_that_is_not_an_index_is_rejected(text: bytes, tmp_path: Path) -> None:
    assert "a.cls" in error_of(write_tar(tmp_path / "x.tar", [("a.jpg", b"A"), ("a.cls", text)]))


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ([], ("no images",)),
        ([("readme.txt", b"x")], ("no images",)),
        ([("a.cls", b"1"), ("b.jpg", b"B"), ("b.cls", b"1")], ("without an image", "a.cls")),
        ([("a.json", b'{"label": 1}'), ("b.jpg", b"B"), ("b.cls", b"1")], ("without an image", "a.json")),
        ([("img.01.jpg", b"A"), ("img.01.cls", b"1")], ("more than one dot", "img.01.jpg")),
        ([("img.01.jpg", b"A"), ("img.cls", b"1")], ("without an image", "img.01.jpg")),
        ([("img.01.cls", b"A"), ("a.jpg", b"1")], ("more than one dot", "img.01.cls")),
        ([*samples({"a": 1}), *samples({"a": 1})], ("duplicate key", "a.jpg")),
        ([*samples({"a": 1}), ("a.png", b"A")], ("duplicate key", "a.jpg", "a.png")),
        ([*samples({"a": 1}), ("a.cls", b"2")], ("duplicate key", "a.cls")),
        ([*samples({"a": 1}), ("./a.CLS", b"1")], ("duplicate key", "a.CLS")),
        ([("a.jpg", b"A"), ("a.json", b"{}"), ("a.json", b"{}")], ("duplicate key", "a.json")),
        (samples({"../a": 1}), ("outside of the directory", "../a.jpg")),
        (samples({"b/../../a": 1}), ("outside of the directory", "b/../../a.jpg")),
        (samples({"/etc/a": 1}), ("is absolute", "/etc/a.jpg")),
        ([("a.jpg", b"A"), entry("a.cls", tarfile.SYMTYPE, "b.cls")], ("a.cls is a symbolic link",)),
        ([("a.cls", b"1"), entry("a.jpg", tarfile.SYMTYPE, "/etc/passwd")], ("a.jpg is a symbolic link",)),
        ([*samples({"b": 1}), entry("a.jpg", tarfile.LNKTYPE, "b.jpg")], ("a.jpg is a hard link",)),
        ([entry("a.jpg", tarfile.CHRTYPE)], ("a.jpg is not a file",)),
        ([entry("a.jpg", tarfile.FIFOTYPE)], ("a.jpg is not a file",)),
    ],
)
def test_invalid_members_are_rejected(entries: list[Entry], parts: tuple[str, ...], tmp_path: Path) -> None:
    line = error_of(write_tar(tmp_path / "x.tar", entries))
    assert str(tmp_path / "x.tar") in line
    assert all(part in line for part in parts), line


def test_one_key_in_two_folders_is_two_keys(tmp_path: Path) -> None:
    assert read_tar(write_tar(tmp_path / "x.tar", samples({"a/x": 1, "b/x": 2}))).labels == {"a/x.jpg": 1, "b/x.jpg": 2}


def test_a_sparse_member_is_rejected(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    for form in ("gnu", "posix"):
        call = ["tar", "-C", tmp_path, "-S", f"--format={form}", "-cf", tmp_path / "x.tar", "a.jpg"]
        subprocess.run(call, check=True)
        assert "a.jpg is a sparse file" in error_of(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ("0 bytes",)),
        (b"x" * 511, ("511 bytes",)),
        (b"x" * 5000, ("damaged",)),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ("Git LFS", "lfs pull")),
        (b"\n <!DOCTYPE html><html>" + b" " * 600, ("HTML", "download")),
        (gzip.compress(b"x" * 9000, mtime=0), ("gzip", "gunzip")),
        (b"\x28\xb5\x2f\xfd" + b"x" * 600, ("zstd", "unzstd")),
        (b"BZh9" + b"x" * 600, ("bzip2", "bunzip2")),
        (b"\xfd7zXZ\0" + b"x" * 600, ("xz", "unxz")),
        (b"PK\x03\x04" + b"x" * 600, ("zip", "unzip")),
    ],
)
def test_another_kind_of_file_is_rejected(data: bytes, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    line = error_of(tmp_path / "x.tar")
    assert all(part in line for part in ("x.tar", *parts)), line


def test_the_hint_for_a_git_lfs_pointer_names_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.parent)
    path = Path(tmp_path.name, "a b.tar")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert error_of(path).endswith(f"; git -C {tmp_path} lfs pull --include 'a b.tar'")


def test_the_hint_for_a_compressed_tar_file_can_be_run(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a b.tar", samples({"a": 1}))
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole))
    command = error_of(path).partition("decompress it first: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_a_file_truncated_anywhere_is_rejected(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x.tar", [("a.jpg", b"A" * 700), ("a.cls", b"1"), *samples({"b": 2})]).read_bytes()
    end = len(whole.rstrip(b"\0")) + BLOCK & -BLOCK
    for size in {*range(0, end + BLOCK, 97), *range(0, end + BLOCK, BLOCK)}:
        (tmp_path / "x.tar").write_bytes(whole[:size])
        line = error_of(tmp_path / "x.tar")
        assert any(word in line for word in ("truncated", "damaged", "bytes")), (size, line)
    (tmp_path / "x.tar").write_bytes(whole[: end + BLOCK])
    assert read_tar(tmp_path / "x.tar").labels == {"a.jpg": 1, "b.jpg": 2}


def test_concatenated_files_are_rejected(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples({"a": 1}))
    path.write_bytes(path.read_bytes() * 2)
    assert "tar -A" in error_of(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_flipped_bytes_are_rejected_or_move_no_image(seed: int) -> None:
    check_flipped(random.Random(seed))


@pytest.mark.slow
def test_one_flipped_byte_in_each_of_5000_files() -> None:
    for seed in range(5000):
        check_flipped(random.Random(seed))


def check_flipped(source: random.Random) -> None:
    """A damaged header is rejected; a changed byte in the data of a label may give another label, as in any file."""
    form = source.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tempfile.TemporaryDirectory() as folder:
        path = write_tar(Path(folder, "x.tar"), samples({"a": 1, "k" * 90: 2, "ü": 3}), form)
        data, before = bytearray(path.read_bytes()), places(read_tar(path).images)
        place = source.randrange(len(data.rstrip(b"\0")) + 2 * BLOCK)
        data[place] ^= source.randrange(1, 256)
        path.write_bytes(data)
        try:
            after = read_tar(path)
        except UserError as error:
            assert "x.tar" in str(error)
            return
    # The names in a pax header have no checksum. If the changed byte is in the extension (.cls) of such a name, the
    # label is not read; find_images then leaves out the image, since it has no label.
    assert places(after.images) == before


def places(images: dict[str, Member]) -> list[tuple[int, int]]:
    return [(each.offset, each.size) for each in images.values()]
