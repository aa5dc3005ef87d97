"""Tables for the screen, and the Markdown file with the same tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hrnet import markdown
from hrnet.io.files import write_text


class Table(NamedTuple):
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Aligned columns: the first one left, the others right."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]

        def aligned(line: Sequence[str]) -> str:
            cells = [
                cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(line, widths))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join([self.title, *(f"  {aligned(line)}" for line in lines if line)])

    def markdown(self) -> str:
        return f"## {self.title}\n\n{markdown.table(self.head, self.rows) if self.head else ''}"


def write_tables(output: Path, title: str, shown: Table, listed: Table, lines: Sequence[str]) -> None:
    """Write `lines` and the longer table `listed` to the .md file beside the record `output`. Print the table `shown`
    and `lines`."""
    items = "".join(f"- {line.strip()}\n" for line in lines)
    write_text(output.with_suffix(".md"), "\n".join(filter(None, [f"# {title}\n", items, listed.markdown()])))
    print("\n".join([shown.text(), *lines]))


def short(value: float) -> str:
    """An error with two digits, such as `3.1e-05`; or `0`."""
    return "0" if value == 0 else f"{value:.1e}"
