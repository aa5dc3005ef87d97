"""The runtime `ascend` in an interpreter that has ais_bench, since this one has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np

from tests.support import ROOT

CODE = """
import sys
import numpy as np
from hrnet.cli import StageError
from infer import runtimes
try:
    runtime = runtimes.load("ascend", sys.argv[1], 2, int(sys.argv[2]))
    for name in sys.argv[3:]:
        batch = np.load(name)
        outputs = runtime.compute(batch)
        runtime.check(len(batch), outputs)
        for k, output in enumerate(outputs):
            np.save(f"{name}_{k}.npy", output)
except StageError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def compute(
    python: str, model: str, batches: list[np.ndarray], device: int = 0, **environment: str
) -> list[list[np.ndarray]]:
    """The outputs of each batch, exchanged through files in the working directory. Raises ChildProcessError with the
    error line."""
    names = [f"batch{i}.npy" for i in range(len(batches))]
    for name, batch in zip(names, batches):
        np.save(name, batch)
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    call = [python, "-c", CODE, model, str(device), *names]
    done = subprocess.run(call, capture_output=True, text=True, env=given)
    if done.returncode:
        raise ChildProcessError(done.stderr)
    return [[np.load(path) for path in sorted(Path().glob(f"{name}_*.npy"))] for name in names]
