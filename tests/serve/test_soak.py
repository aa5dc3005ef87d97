"""A server under load for 15 minutes: memory does not grow, and no request is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.serve.chain import Running, command, serving
from tests.serve.load import Load

MINUTES, CLIENTS = 15, 6


def memory(running: Running) -> float:
    """Resident memory, MiB."""
    (line,) = [line for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) / 1024


@pytest.mark.slow
def test_memory_is_flat_and_no_request_is_lost(chain: Path) -> None:
    with serving(chain, command()) as running:
        load = Load(running, CLIENTS)
        found = []
        for _ in range(MINUTES):
            time.sleep(60)
            found.append(memory(running))
        load.stopped.set()
        load.join()
        print(
            f"{load.answered} answered, {load.broken} lost; MiB after each minute: {[round(each, 1) for each in found]}"
        )
        assert load.broken == 0 and load.answered > 1000
        assert found[-1] <= found[0] + 8, "after the first minute memory grows by less than 8 MiB"
