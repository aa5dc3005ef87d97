"""hrnet/calibration.py: the same images on every machine, and the count of those that are evaluated too."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from hrnet.calibration import IMAGES, choose, count_calibrated, name_hash

NAMES = [f"val/{number}.JPEG" for number in range(50)]


@given(st.permutations(NAMES), st.integers(1, 60))
def test_the_order_of_the_images_does_not_matter(names: list[str], count: int) -> None:
    by_hash = sorted(NAMES, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert choose(names, count) == set(by_hash[:count])


def test_calibrated_images_are_counted_by_name() -> None:
    chosen = choose(NAMES, 5)
    metadata = {IMAGES: " ".join(map(name_hash, chosen))}
    assert count_calibrated(metadata, NAMES) == 5
    assert count_calibrated(metadata, set(NAMES) - chosen) == 0
    assert count_calibrated(metadata, [name.replace("val", "train") for name in NAMES]) == 0
    assert count_calibrated({}, NAMES) == 0


def test_a_name_that_is_not_utf8_has_a_hash() -> None:
    assert len(name_hash(b"val/\xff.JPEG".decode("utf-8", "surrogateescape"))) == 12
