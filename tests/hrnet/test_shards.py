"""hrnet/shards.py: contiguous parts that cover the list, and the identity of the list."""

from __future__ import annotations

import argparse
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.shards import Shard, list_sha256, select_part, shard


def listing(count: int) -> dict[str, int]:
    return {f"val/{i}.JPEG": i % 7 for i in range(count)}


@given(st.integers(1, 60), st.integers(0, 70), st.data())
def test_parts_cover_the_list_once_in_order(count: int, limit: int, data: st.DataObject) -> None:
    images = listing(count)
    expected = list(images.items())[: limit or None]
    parts = data.draw(st.integers(1, len(expected)))
    cuts = [select_part(images, Shard(number, parts), limit, (), "set") for number in range(1, parts + 1)]
    assert [pair for chosen, _ in cuts for pair in chosen.items()] == expected
    sizes = [len(chosen) for chosen, _ in cuts]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
    assert {listed for _, listed in cuts} == {cuts[0][1]}
    assert (cuts[0][1].images, cuts[0][1].sha256) == (len(expected), list_sha256(expected))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 90), st.data())
def test_tar_files_are_not_cut(sizes: list[int], limit: int, data: st.DataObject) -> None:
    images, ends = listing(sum(sizes)), list(accumulate(sizes))
    expected = list(images.items())[: limit or None]
    files = 1 + sum(end < len(expected) for end in ends)
    parts = data.draw(st.integers(1, files))
    cuts = [select_part(images, Shard(number, parts), limit, ends, "set")[0] for number in range(1, parts + 1)]
    assert [pair for chosen in cuts for pair in chosen.items()] == expected
    borders = accumulate(map(len, cuts))
    assert all(border in ends or border == len(expected) for border in borders)


def test_the_hash_of_the_list_depends_on_names_labels_and_order() -> None:
    pairs = [("a", 1), ("b", 2)]
    others = [[("a", 1)], [("b", 2), ("a", 1)], [("a", 1), ("b", 3)], [("a", 1), ("c", 2)], [("a", 12), ("b", 2)]]
    assert len({list_sha256(each) for each in [pairs, *others]}) == 6


def test_the_hash_accepts_names_that_are_not_utf8() -> None:
    assert list_sha256([("a\udcff", 1)]) != list_sha256([("a", 1)])


@pytest.mark.parametrize("ends", [(), (2, 3)])
def test_more_parts_than_images_are_rejected(ends: tuple[int, ...]) -> None:
    with pytest.raises(UserError) as caught:
        select_part(listing(3), Shard(1, 4), 0, ends, "the/set")
    assert (caught.value.where, caught.value.expected) == ("the/set", "SHARDS=3 or less")


@given(st.lists(st.integers(0, 9), max_size=5), st.data())
def test_with_more_parts_than_tar_files_the_tar_files_are_cut(sizes: list[int], data: st.DataObject) -> None:
    """Tar files without images do not count."""
    files = 1 + sum(size > 0 for size in sizes)
    parts = data.draw(st.integers(files + 1, 60))
    images = listing(sum(sizes) + parts)  # the last tar file has `parts` images
    ends = [*accumulate(sizes), len(images)]
    cuts = [select_part(images, Shard(number, parts), 0, ends, "set")[0] for number in range(1, parts + 1)]
    assert all(cuts) and [pair for chosen in cuts for pair in chosen.items()] == list(images.items())


def test_a_shard_argument_is_read() -> None:
    assert shard("3/16") == Shard(3, 16)
    assert (shard("3/16").name, str(shard("3/16"))) == ("3-of-16", "3/16")


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "3/0", "-1/3", "1/3/5", "1 / 3", "a/b", "³/16", "01/3"])
def test_an_invalid_shard_argument_is_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        shard(text)
