"""benchmarks/gpu.py on the CPU: its rows, what is missing, and its error if outputs are wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from benchmarks import gpu, gpu_rows
from tests.support import tiny
from tests.support.training_sets import data_set, write_config

HALF = "float16, channels last"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(gpu_rows, "ROUND", 1e-3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = ("--cfg", tiny.write_config(tmp_path), "--pose_cfg", tiny.write_pose_config(tmp_path))
    trained = ("--train_cfg", write_config(tmp_path), "--dataset", data_set(tmp_path / "data"))
    return [*map(str, given + trained), "--pose_batches", "1", "--rounds", "3", "--output", str(tmp_path / "out")]


def result(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "gpu.json").read_text())
    return found


def test_rows_and_tables(call: list[str], tmp_path: Path) -> None:
    assert gpu.main([*call, "--batches", "2", "1", "--modes", "float32", "float16", "graph"]) == 0
    found = result(tmp_path)
    assert found["machine"]["torch"] == torch.__version__ and found["machine"]["device"] == "cpu"
    rows = {(row["network"], row["batch"], row["mode"]): row for row in found["rows"]}
    inference = [("tiny, 64 x 64", 2), ("tiny, 64 x 64", 1), ("tiny_pose, 64 x 64", 1)]
    names = [(*each, mode) for each in inference for mode in ("float32", HALF)]
    assert list(rows)[:6] == names
    assert [name[:2] for name in list(rows)[6:]] == [("small", 8)] * 2  # float32, and bfloat16 or float32
    for name in names:
        row = rows[name]
        assert row["images_per_second"] == pytest.approx(1e3 * name[1] / sorted(row["milliseconds"])[1])
        assert (1e-5 < row["difference"] < 5e-2) if name[2] == HALF else row["difference"] < 1e-5
    assert found["missing"] == [f"{each[0]}, batch {each[1]}, {HALF}, CUDA graph: needs CUDA" for each in inference]
    lines = (tmp_path / "out" / "gpu.md").read_text().splitlines()
    assert "| tiny, 64 x 64, images/s | batch 1 | batch 2 | largest difference |" in lines
    assert sum(line.startswith(f"| {HALF} |") for line in lines) == 2
    assert f"- missing: {found['missing'][0]}" in lines


def test_rows_for_which_no_time_is_left_are_listed_as_missing(call: list[str], tmp_path: Path) -> None:
    assert gpu.main([*call, "--batches", "1", "--modes", "float32", "--seconds", "1e-6"]) == 0
    found = result(tmp_path)
    assert found["rows"] == [] and len(found["missing"]) == 4
    assert found["missing"][0] == "tiny, 64 x 64, batch 1, float32: no time left of 1e-06 s"


def replace_wrap(monkeypatch: pytest.MonkeyPatch, wrap: Callable[..., Any]) -> None:
    monkeypatch.setitem(gpu_rows.MODES, "float32", gpu_rows.MODES["float32"]._replace(wrap=wrap))
    monkeypatch.setattr(gpu, "train", lambda name, *_: gpu.Row(name, 8, "training", 1.0, [1.0]))


@pytest.mark.parametrize(("factor", "shown"), [(1.01, "1.0e-02"), (math.nan, "nan")])
def test_wrong_outputs_are_an_error(
    call: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    shown: str,
) -> None:
    replace_wrap(monkeypatch, lambda net, _: lambda image: net(image) * factor if image.shape[0] == 2 else net(image))
    assert gpu.main([*call, "--batches", "1", "2", "--modes", "float32"]) == 1
    assert "found tiny, 64 x 64, batch 2, float32)" in capsys.readouterr().err
    errors = [row["error"] for row in result(tmp_path)["rows"]]
    assert f"by {shown}, " in errors[1] and not any(errors[:1] + errors[2:])


@pytest.mark.parametrize(("added", "error"), [(0.0, ""), (1e-3, "CUDA graph")])
def test_outputs_of_a_graph_must_be_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: float, error: str
) -> None:
    def captured(net: gpu_rows.Net, image: torch.Tensor) -> gpu_rows.Net:
        return lambda image: net(image) + added

    monkeypatch.setattr(gpu_rows, "ROUND", 1e-3)
    monkeypatch.setattr(gpu_rows, "captured", captured)
    monkeypatch.setitem(gpu_rows.MODES, "graph", gpu_rows.MODES["graph"]._replace(wrap=captured))
    network = gpu_rows.Network("tiny", tiny.build(tmp_path), [tiny.SIDE, tiny.SIDE])
    row = gpu_rows.infer(network, 2, "graph", 1, torch.device("cpu"))
    assert error in row.error and bool(row.error) == bool(error)
    assert row.difference is not None and row.difference < 5e-2


def test_an_error_of_torch_does_not_stop_the_other_rows(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrap(net: torch.nn.Module, image: torch.Tensor) -> torch.nn.Module:
        if image.shape[0] == 2:
            raise RuntimeError("not enough\nmemory")
        return net

    replace_wrap(monkeypatch, wrap)
    assert gpu.main([*call, "--batches", "1", "2", "--modes", "float32"]) == 0
    found = result(tmp_path)
    assert len(found["rows"]) == 4
    assert found["missing"] == ["tiny, 64 x 64, batch 2, float32: not enough memory"]


def test_a_missing_data_set_is_reported_first(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([*call, "--dataset", "none"]) == 2
    assert "none" in capsys.readouterr().err
