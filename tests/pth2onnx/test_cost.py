"""pth2onnx/cost.py: multiply-adds and parameters of the shipped configs, and the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet.config import config_path, load_config
from hrnet.io.records import read_record
from pth2onnx import cost
from tests.support import tiny

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "gmacs", "params"),
    [
        pytest.param("hrnet_w18", 4.2835, 21.299, marks=slow),
        pytest.param("hrnet_w30", 8.1058, 37.712, marks=slow),
        pytest.param("hrnet_w32", 8.9211, 41.233, marks=slow),
        pytest.param("hrnet_w40", 12.692, 57.557, marks=slow),
        pytest.param("hrnet_w44", 14.883, 67.065, marks=slow),
        pytest.param("hrnet_w48", 17.278, 77.470, marks=slow),
        pytest.param("hrnet_w64", 28.895, 128.060, marks=slow),
        ("se_hrnet_w64_ssld", 28.896, 128.991),
        ("higher_hrnet_w32_512", 46.2, 28.645),
        pytest.param("higher_hrnet_w32_640", 72.2, 28.645, marks=slow),
        pytest.param("higher_hrnet_w48_640", 149.5, 63.827, marks=slow),
    ],
)
def test_cost_of_shipped_configs(model: str, gmacs: float, params: float) -> None:
    found = cost.count(load_config(config_path(model)))
    assert found.gmacs == pytest.approx(gmacs, rel=5e-4)
    assert found.params_m == pytest.approx(params, abs=2e-3)


def test_multiply_adds_of_single_layers_are_included(tmp_path: Path) -> None:
    """The sum includes the multiply-adds of the stem of the tiny network: 3x3 convolutions from 3 to 8 channels at
    32 x 32, and from 8 to 8 at 16 x 16. 100 more classes add 100 times HEAD.FEATURES."""
    config = load_config(tiny.write_config(tmp_path))
    whole = cost.count(config).gmacs * 1e9
    assert whole > 9 * 3 * 8 * 32**2 + 9 * 8 * 8 * 16**2
    config.defrost()
    config.MODEL.NUM_CLASSES += 100
    assert cost.count(config).gmacs * 1e9 - whole == pytest.approx(100 * config.MODEL.EXTRA.HEAD.FEATURES)


def test_the_record_and_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new/cost.json"
    assert cost.main(["--cfg", str(tiny.write_config(tmp_path)), "--output", str(output)]) == 0
    record = read_record(output, "cost")
    assert record["size"] == [tiny.SIDE, tiny.SIDE] and 0 < record["gmacs"] < 0.1
    assert capsys.readouterr().out.startswith(f"tiny: {record['gmacs']:.4f} GMACs at 64 x 64, ")
