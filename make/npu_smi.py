"""Parse the output of npu-smi: the table of chips, and the full names of chips that the table abbreviates."""

from __future__ import annotations

import re
from typing import Callable, NamedTuple


class Chip(NamedTuple):
    """A chip in the table of npu-smi, with its NPU id and chip id."""

    name: str
    health: str
    npu: str
    chip: str


def chip_rows(table: str) -> list[Chip]:
    """The chips in the table of `npu-smi info`. Each has two rows, `| 0  310P3 | OK | ...` and below it
    `| 0  0 | 0000:82:00.0 | ...`; for a 310B the bus id is `NA`."""
    rows: list[Chip] = []
    for line in table.splitlines():
        named = re.match(r"\| *([0-9]+) +((?:Ascend)?[0-9]{3}[A-Za-z0-9_-]*) *\| *([A-Za-z]+) *\|", line)
        below = re.match(r"\| *([0-9]+) *[0-9]* *\| *(?:NA|[0-9A-Fa-f:.]+) *\|", line)
        if below and rows:
            rows[-1] = rows[-1]._replace(chip=below[1])
        elif named:
            name = named[2] if named[2].startswith("Ascend") else f"Ascend{named[2]}"
            rows.append(Chip(name, named[3], named[1], "0"))
    return rows


def full_name(row: Chip, ask: Callable[[list[str]], tuple[bool, str]]) -> str:
    """The chip's name for atc. For A3 and 950 the table contains only its first part, such as `Ascend910`; the second
    part is the `NPU Name` of the board. `ask` runs a command; it returns whether that succeeded, and the output."""
    if not re.fullmatch("Ascend(910|950[A-Z]*)", row.name):
        return row.name
    board = ["npu-smi", "info", "-t", "board", "-i", row.npu]
    for command in ([*board, "-c", row.chip], board):  # a 950 rejects -c
        answered, text = ask(command)
        facts = dict(re.findall(r"^\s*(Chip Name|NPU Name)\s*:\s*(\S+)\s*$", text, re.MULTILINE)) if answered else {}
        if re.fullmatch("[0-9A-Za-z]+", facts.get("NPU Name", "NA")) and facts.get("NPU Name", "NA") != "NA":
            name = facts.get("Chip Name", row.name)
            return f"{name if name.startswith('Ascend') else f'Ascend{name}'}_{facts['NPU Name']}"
    return row.name
