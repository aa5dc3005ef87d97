"""Record which functions a call runs, to check what a rerun repeats."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

import pytest


def steps_of(
    call: Callable[[], int], monkeypatch: pytest.MonkeyPatch, functions: list[tuple[ModuleType, str]]
) -> list[str]:
    """The names of those `functions` that a successful call runs, in order."""
    calls: list[str] = []

    def record(original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def recorded(*arguments: Any) -> Any:
            calls.append(name)
            return original(*arguments)

        return recorded

    with monkeypatch.context() as patch:
        for module, name in functions:
            patch.setattr(module, name, record(getattr(module, name), name))
        assert call() == 0
    return calls
