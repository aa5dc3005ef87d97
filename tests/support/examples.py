"""The number of examples of expensive hypothesis tests."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> int:
    """`count` with `make test SLOW=1`; else the fraction that the profile in tests/conftest.py sets, at least 5."""
    share = settings.default.max_examples / settings.get_profile("all").max_examples
    return max(min(count, 5), round(count * share))
