"""The templates are compiled once for all pages of these tests; make report compiles them for its only page."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once() -> Iterator[None]:
    jinja2 = pytest.importorskip("jinja2")
    compiled: dict[str, bytes] = {}

    class Memory(jinja2.BytecodeCache):  # type: ignore[name-defined, misc]
        def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:  # type: ignore[name-defined]
            if bucket.key in compiled:
                bucket.bytecode_from_string(compiled[bucket.key])

        def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:  # type: ignore[name-defined]
            compiled[bucket.key] = bucket.bytecode_to_string()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2, "Environment", functools.partial(jinja2.Environment, bytecode_cache=Memory()))
        yield
