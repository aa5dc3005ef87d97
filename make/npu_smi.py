"""What npu-smi prints about the chips of a machine: its table, and the names that the table cuts short."""

from __future__ import annotations

import re
from typing import Callable, NamedTuple


class Chip(NamedTuple):
    """A row of npu-smi's table, with what identifies the chip to npu-smi."""

    name: str
    health: str
    npu: str
    chip: str


def chip_rows(table: str) -> list[Chip]:
    """The chips in the table of `npu-smi info`: rows `| 0  310P3 | OK | ...`, each with a row of the chip below it,
    `| 0  0 | 0000:82:00.0 | ...`, where a 310B prints `NA` for the bus id."""
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
    """The chip's name for atc. A3 and 950 print only a part of it in the table, such as `Ascend910`; the rest is the
    NPU's name on its board. `ask` runs a command: whether it succeeded, and what it printed."""
    if not re.fullmatch("Ascend(910|950[A-Z]*)", row.name):
        return row.name
    board = ["npu-smi", "info", "-t", "board", "-i", row.npu]
    for command in ([*board, "-c", row.chip], board):  # a 950 does not take -c
        answered, text = ask(command)
        facts = dict(re.findall(r"^\s*(Chip Name|NPU Name)\s*:\s*(\S+)\s*$", text, re.MULTILINE)) if answered else {}
        if re.fullmatch("[0-9A-Za-z]+", facts.get("NPU Name", "NA")) and facts.get("NPU Name", "NA") != "NA":
            name = facts.get("Chip Name", row.name)
            return f"{name if name.startswith('Ascend') else f'Ascend{name}'}_{facts['NPU Name']}"
    return row.name
