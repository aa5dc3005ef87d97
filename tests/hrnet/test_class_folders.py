"""hrnet/class_folders.py: the names of class directories; test_datasets.py has their indices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hrnet.class_folders import names_of
from hrnet.cli import UserError
from hrnet.datasets import find_images


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ([("val/cat/a.jpg", 0), ("val/dog/b.jpg", 1), ("val/cat/c/d.jpg", 0)], ["cat", "dog", "class 2"]),
        ([("val/dog/b.jpg", 2)], ["class 0", "class 1", "dog"]),
        ([("val/a.jpg", 0), ("val/b.jpg", 1)], []),  # with a list of labels
        ([("val/cat/a.jpg", 0), ("val/b.jpg", 1)], []),
        ([("val/cat/a.jpg", 0), ("val/dog/b.jpg", 0)], []),  # directories that are not classes
        ([("val/cat/a.jpg", 0), ("val/cat/b.jpg", 1)], []),
        ([("val/0/a.jpg", 0), ("val/2/b.jpg", 2)], []),  # indices, not names
        ([], []),
    ],
)
def test_names_of_class_directories(images: list[tuple[str, int]], names: list[str]) -> None:
    assert names_of(images, 3) == names


@pytest.mark.parametrize(
    ("folders", "file", "lines"),
    [
        (
            ["n01440764", "n02123045"],
            "LOC_synset_mapping.txt",
            "n01440764 tench\nn01443537 goldfish\nn02123045 cat, a/b",
        ),
        (["a b", "dog"], "classes.txt", "a b\ncat\ndog"),
    ],
)
def test_the_hint_for_a_subset_of_the_classes_is_a_command(
    folders: list[str], file: str, lines: str, tmp_path: Path
) -> None:
    """The position in the subset is not the class index: the command reads the names of all classes."""
    root = tmp_path / "my data"
    for name in folders:
        (root / "val" / name).mkdir(parents=True)
        (root / "val" / name / "an image.JPEG").touch()
    (root / "val" / folders[0] / ".DS_Store").touch()
    with pytest.raises(UserError) as caught:
        find_images(root, 3)
    (tmp_path / file).write_text(lines + "\n")
    command = str(caught.value.hint).partition("indices")[2].partition(": ")[2]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    labels = {f"val/{folders[0]}/an image.JPEG": 0, f"val/{folders[1]}/an image.JPEG": 2}
    assert find_images(root, 3).labels == labels
