"""npu-smi's tables and board pages, as the tool prints them, and what the doctor reads from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from make import doctor_tools
from make.npu_smi import Chip, chip_rows, full_name
from tests.make.doctor_calls import call, report, tool

SMI_310B = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.0                                   Version: 23.0.0                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 0       310B4                 | Alarm           | 0.0          58                15    / 15            |
| 0       0                     | NA              | 0            2500 / 7545                             |
+===============================+=================+======================================================+
"""
SMI_910B4_1 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.1                   Version: 24.1.1                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B4-1             | OK            | 88.2        30                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          26838/ 65536         |
+===========================+===============+====================================================+
| 1     910B4-1             | OK            | 87.0        30                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          29356/ 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 910123        | python                   | 150                     |
+===========================+===============+====================================================+
"""
SMI_A3 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.2.1                   Version: 25.2.1                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 166.5       38                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3131 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -           37                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          2886 / 65536         |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
"""
BOARD_A3 = """\
        NPU ID                         : 0
        Chip ID                        : 0
        NPU Name                       : 9391
        Chip Name                      : Ascend910
        Chip Version                   : V1
        Board ID                       : 0x1b
"""
BOARD_A2 = """\
        NPU ID                         : 0
        Chip ID                        : 0
        Chip Type                      : Ascend
        Chip Name                      : 910B4
"""
BOARD_950 = """\
NPU ID                         : 0
Product Name                   : A310-50-C00MM304A1
NPU Name                       : 9579
Chip Name                      : Ascend950PR
Chip Version                   : V100
"""


def test_the_chips_of_each_table_are_read() -> None:
    assert chip_rows(SMI_310B) == [Chip("Ascend310B4", "Alarm", "0", "0")]
    assert chip_rows(SMI_910B4_1) == [Chip("Ascend910B4-1", "OK", npu, "0") for npu in ("0", "1")]
    assert chip_rows(SMI_A3) == [Chip("Ascend910", "OK", "0", chip) for chip in ("0", "1")]
    assert doctor_tools.chips(SMI_310B) == [("Ascend310B4", "Alarm")]
    assert chip_rows("") == chip_rows("dcmi model initialized failed, because the device is used. ret is -8020") == []


@pytest.mark.parametrize(
    ("name", "pages", "full"),
    [
        ("Ascend910", {"-c": BOARD_A3}, "Ascend910_9391"),
        ("Ascend910", {"": BOARD_A3}, "Ascend910_9391"),
        ("Ascend950PR", {"": BOARD_950}, "Ascend950PR_9579"),
        ("Ascend910", {"-c": BOARD_A2}, "Ascend910"),
        ("Ascend910", {"-c": BOARD_A3.replace("9391", "NA")}, "Ascend910"),
        ("Ascend910", {}, "Ascend910"),
        ("Ascend910B4", {"-c": BOARD_A3}, "Ascend910B4"),
        ("Ascend310P3", {"-c": BOARD_A3}, "Ascend310P3"),
    ],
)
def test_the_chip_name_is_read_from_the_board_page(name: str, pages: dict[str, str], full: str) -> None:
    def ask(command: list[str]) -> tuple[bool, str]:
        assert command[:6] == ["npu-smi", "info", "-t", "board", "-i", "2"]
        assert command[6:] in (["-c", "1"], [])
        key = "-c" if command[6:] else ""
        return (True, pages[key]) if key in pages else (False, "exit 1")

    assert full_name(Chip(name, "OK", "2", "1"), ask) == full


def smi(place: Path, table: str, board: str = "") -> None:
    """A fake npu-smi on PATH."""
    (place / "table").write_text(table)
    (place / "board").write_text(board)
    show = 'while read -r line; do echo "$line"; done'
    page = f'"info -t board -i 0 -c 0") {show} < {place}/board;;'
    tool(place, "npu-smi", f'case "$*" in info) {show} < {place}/table;; {page} *) exit 3;; esac')


@pytest.mark.parametrize(
    ("table", "board", "soc"),
    [
        (SMI_310B, "", "Ascend310B4"),
        (SMI_910B4_1, "", "Ascend910B4-1"),
        (SMI_A3, BOARD_A3, "Ascend910_9391"),
    ],
)
def test_the_doctor_compares_soc_with_the_chip(
    table: str,
    board: str,
    soc: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    smi(place, table, board)
    tool(place, "atc")
    tool(place, "python3", '[ "$1" = -c ]')
    assert call(SOC=soc) == 0
    out, err = capsys.readouterr()
    assert f"SOC={soc} (" in report(out)["chip"] and err == ""
    assert call(SOC="Ascend310P3") == 2
    assert f"use SOC={soc}" in capsys.readouterr().err


def test_the_chip_name_is_taken_from_cann(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """acl.get_soc_name() returns names that npu-smi does not print."""
    smi(place, SMI_A3)
    tool(place, "atc")
    tool(place, "python3", 'case "$2" in *get_soc_name*) echo "[warning] x"; echo Ascend910_9362;; esac')
    assert call(SOC="Ascend910_9362") == 0
    lines = report(capsys.readouterr().out)
    assert lines["soc name"].startswith("SOC=Ascend910_9362") and lines["chip"].startswith("SOC=Ascend910 (OK)")
    assert call(SOC="Ascend910") == 2
    assert "use SOC=Ascend910_9362" in capsys.readouterr().err
