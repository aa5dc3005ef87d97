"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> str:
    """A table with one line for each row; `align` is `---` (left) or `---:` (right) for all columns."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + f" {align} |" * len(head), *lines]) + "\n"
