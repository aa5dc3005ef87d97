"""hrnet/class_folders.py: the names of class directories; test_datasets.py has their indices."""

from __future__ import annotations

import pytest

from hrnet.class_folders import names_of


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ([("val/cat/a.jpg", 0), ("val/dog/b.jpg", 1), ("val/cat/c/d.jpg", 0)], ["cat", "dog", "class 2"]),
        ([("val/dog/b.jpg", 2)], ["class 0", "class 1", "dog"]),
        ([("val/a.jpg", 0), ("val/b.jpg", 1)], []),  # with a list of labels
        ([("val/cat/a.jpg", 0), ("val/b.jpg", 1)], []),
        ([("val/cat/a.jpg", 0), ("val/dog/b.jpg", 0)], []),  # directories that are no classes
        ([("val/cat/a.jpg", 0), ("val/cat/b.jpg", 1)], []),
        ([("val/0/a.jpg", 0), ("val/2/b.jpg", 2)], []),  # no names
        ([], []),
    ],
)
def test_names_of_class_directories(images: list[tuple[str, int]], names: list[str]) -> None:
    assert names_of(images, 3) == names
