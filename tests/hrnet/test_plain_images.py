"""hrnet/plain_images.py: which files of IMAGES are images, in which order, and what is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet.cli import UserError
from hrnet.plain_images import find_plain_images, skipped_files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a.jpg, and photos/ with two images, a text, a hidden file and a folder of one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/more").mkdir(parents=True)
    for name in ("a.jpg", "photos/img10.PNG", "photos/img2 b.jpeg", "photos/.b.jpg", "photos/notes.txt"):
        (tmp_path / name).write_bytes(b"\x00\xffx")
    (tmp_path / "photos/more/c.webp").write_bytes(b"x")
    return tmp_path


def error_of(*given: str) -> UserError:
    with pytest.raises(UserError) as caught:
        find_plain_images(given)
    return caught.value


def test_files_and_folders_in_order(folder: Path) -> None:
    inside = ["photos/img2 b.jpeg", "photos/img10.PNG"]
    assert find_plain_images(["photos/", "a.jpg", "./photos/img10.PNG"]) == [*inside, "a.jpg"], "each image once"
    assert find_plain_images([f"{folder}/a.jpg", "."]) == [f"{folder}/a.jpg", "a.jpg"]
    (folder / "photo.data").write_bytes(b"\xff\xd8\xff\xe0")
    assert find_plain_images(["photo.data"]) == ["photo.data"], "any name, if it is given"


def test_other_files_in_directories_are_skipped(folder: Path) -> None:
    assert skipped_files(["photos/", "a.jpg", "photos"]) == ["photos/notes.txt"]
    (folder / "photos/report10.pdf").touch()
    (folder / "photos/report2.pdf").touch()
    assert skipped_files(["photos"]) == [f"photos/{name}" for name in ("notes.txt", "report2.pdf", "report10.pdf")]
    assert skipped_files(["photos/more", "a.jpg"]) == []


def test_missing_files() -> None:
    error = error_of("a.jpg", "my", "cat.jpg")
    assert error.where == "my" and "write ? instead" in str(error.hint)


def test_patterns_are_expanded_in_natural_order(folder: Path) -> None:
    (folder / "photos/img9.PNG").touch()
    assert find_plain_images(["photos/img*.PNG", "?.jpg"]) == ["photos/img9.PNG", "photos/img10.PNG", "a.jpg"]
    assert find_plain_images(["ph*s"]) == find_plain_images(["photos"])
    (folder / "x[1].jpg").touch()
    assert find_plain_images(["x[1].jpg"]) == ["x[1].jpg"], "a file of this name"


def test_a_pattern_without_matches() -> None:
    error = error_of("a.jpg", "photos/*.gif")
    assert error.where == "photos/*.gif" and str(error.hint).endswith("IMAGES=photos/")
    assert str(error.found).startswith("img10.PNG, img2 b.jpeg, more")
    assert error_of("nowhere/*.gif").where == "nowhere" and str(error_of("*.gif").hint).endswith("IMAGES=./")


def test_folders_without_images(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert error_of("empty").found == "nothing"
    (folder / "empty/deep").mkdir()
    (folder / "empty/x.txt").touch()
    error = error_of("a.jpg", "empty")
    assert (error.where, error.found) == ("empty", "deep/, x.txt")
    assert "*.jpg" in str(error.expected) and str(error.hint).endswith("IMAGES=empty/deep/")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [("x.pdf", b"%PDF-1.7\n%\xe2\xe3", "a PDF file"), ("x", b"name index\n", "text"), ("x.dat", b"", "an empty file")],
)
def test_files_of_other_kinds(name: str, content: bytes, found: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    error = error_of(name)
    assert error.where == name and found in str(error.found) and error.hint == f"remove {name} from IMAGES"
