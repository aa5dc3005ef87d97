"""The runtime of ais_bench's Python interface, with a fake of it: numbers, gears, devices and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infer import runtimes
from tests.support import ROOT, fakes
from tests.support.ascend_calls import compute
from tests.support.gear_model import GEARS, gear_model
from tests.support.linear_model import SHAPE, expected_logits, om_model


@pytest.fixture(autouse=True)
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return str(fakes.ais_python(tmp_path))


def test_ascend_is_not_a_runtime_of_the_emulator() -> None:
    assert "ascend" not in runtimes.RUNTIMES


def test_outputs_of_batches(python: str) -> None:
    om_model(Path("m.om"), 3)
    batches = list(np.random.default_rng(0).standard_normal((2, 3, *SHAPE)).astype(np.float32))
    for batch, (output,) in zip(batches, compute(python, "m.om", batches)):
        np.testing.assert_allclose(output, expected_logits(batch), rtol=1e-5, atol=1e-5)


def test_the_shape_of_each_input_sets_the_gear(python: str) -> None:
    gear_model(Path("m.om"))
    batches = [np.random.default_rng(i).standard_normal(gear).astype(np.float32) for i, gear in enumerate(GEARS)]
    for batch, (_, twice) in zip(batches, compute(python, "m.om", batches)):
        np.testing.assert_array_equal(twice, 2 * batch)


def test_errors_are_reported_in_one_line(python: str) -> None:
    om_model(Path("m.om"), 3)
    with pytest.raises(ChildProcessError, match=r"^UserError: m.om: ais_bench cannot load the model: .*device 1\n$"):
        compute(python, "m.om", [], 1, FAKE_AIS_BENCH="device1")
    with pytest.raises(ChildProcessError, match=r"^WorkFailed: ais_bench cannot run the model: .*needsize"):
        compute(python, "m.om", [np.zeros((1, *SHAPE), np.float32)])
    Path("link.om").symlink_to("m.om")
    with pytest.raises(ChildProcessError, match="symbolic link"):
        compute(python, "link.om", [])
