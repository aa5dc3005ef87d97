"""`infer.bench`: the figures are those of the tools' summaries, for the batch in the model's record."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.files import make_folder, sha256_file
from hrnet.io.runs import BenchRecord, BenchRow
from infer import bench, bench_table, bench_timing
from infer.bench_timing import Bench, random_input, write_inputs
from infer.run_ais_bench import ToolResult
from tests.support import ROOT, fakes
from tests.support.errors import check_error
from tests.support.gear_model import GEARS, gear_model
from tests.support.linear_model import linear_model, om_model


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with models of batches 1 and 4, and a python that has ais_bench."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    fakes.ais_python(tmp_path)
    for batch in BATCHES:
        om_model(Path(f"bs{batch}-x.om"), batch)
    return tmp_path


BATCHES = (1, 4)


def call(*more: str, suffix: str = "onnx", batches: tuple[int, ...] = (4,)) -> int:
    models = [f"bs{batch}-x.{suffix}" for batch in batches]
    return bench.main(["--models", *models, "--output", "bench/x.json", "--loop", "3", *more])


def npu(*more: str, batches: tuple[int, ...] = (4,)) -> int:
    return call("--backend", "ascend", "--ais_python", "./python_npu", *more, suffix="om", batches=batches)


def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("bench/x.json").read_text())
    return content


def test_the_emulator_is_timed_in_three_ways(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(batches=BATCHES) == 0
    out = capfd.readouterr().out
    commands = [line.partition(" -m infer.emulator ")[2] for line in out.splitlines() if " -m infer.emulator " in line]
    where = "--output bench/x_scratch --output_dirname run0 --outfmt BIN"
    pure = f"--model bs4-x.onnx --pure_data_type zero --loop 3 {where} --batchsize 4 --device 0"
    assert len(commands) == 6 and commands[3:] == [
        f"--runtime onnxruntime --requests 1 {pure}",
        f"--runtime onnxruntime {pure}",
        f"--runtime onnxruntime --model bs4-x.onnx --input bench/x_scratch/inputs0 {where} --batchsize 4 --device 0",
    ]
    content = record()
    assert content["kind"] == "bench" and content["tool"].startswith("onnxruntime ")
    assert content["metadata"] == {"model": "linear"}
    assert (content["devices"], content["soc_version"], content["loop"]) == (["0"], None, 3)
    assert content["seconds_include_start"] is False, "the emulator reports its own time"
    assert sorted(content["machine"]) == ["cores", "kind", "processor"]
    for row, batch in zip(content["rows"], BATCHES):
        assert (row["batch"], row["model"], row["images"]) == (batch, f"bs{batch}-x.onnx", 3 * batch)
        assert row["model_sha256"] == CompiledModel.read(f"bs{batch}-x.onnx").model_sha256
        assert row["image_ms"] == pytest.approx(1000 / row["device_images_per_second"])
        assert row["images_per_second"] == pytest.approx(row["images"] / row["seconds"])
        assert row["batch_ms"]["count"] == 3 and row["card_images_per_second"] is None
    assert sorted(os.listdir("bench")) == [".x.json.stamp", "x.json", "x.md", "x_lock"]
    page = Path("bench/x.md").read_text()
    assert page in out and out.endswith("wrote bench/x.json and x.md (2 rows)\n")


def gears(suffix: str, *more: str) -> int:
    gear_model(Path(f"gears.{suffix}"))
    return bench.main(["--models", f"gears.{suffix}", "--output", "bench/x.json", "--loop", "3", *more])


def check_gears() -> None:
    """A row for each gear, in the model's order, and a column with the gear."""
    rows = record()["rows"]
    assert [row["gear"] for row in rows] == [gear[2:] for gear in GEARS]
    for row in rows:
        assert (row["batch"], row["images"], row["batch_ms"]["count"]) == (1, 3, 3)
        assert row["image_ms"] == pytest.approx(1000 / row["device_images_per_second"])
        assert row["images_per_second"] == pytest.approx(3 / row["seconds"])
    page = Path("bench/x.md").read_text()
    assert "| batch | gear, height x width | device images/s |" in page and page.count("\n| 1 | 4x8 | ") == 1


@pytest.mark.slow
def test_each_gear_is_a_row(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert gears("onnx") == 0
    out = capfd.readouterr().out
    commands = [line.partition(" --loop 3 ")[0] for line in out.splitlines() if " --dymDims " in line]
    assert len(commands) == 6 and all("--pure_data_type zero" in line for line in commands)
    assert out.count(" --dymDims image:1,3,4,8\n") == 2
    assert out.count(" --input bench/x_scratch/inputs0 ") == out.count(" --auto_set_dymdims_mode 1\n") == 3
    check_gears()


def test_ais_bench_times_each_gear(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert gears("om", "--backend", "ascend", "--ais_python", "./python_npu") == 0
    check_gears()
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("./python_npu -m ais_bench ")]
    assert [" --dymDims " in line for line in lines] == [True, False] * 3
    for row in record()["rows"]:
        assert row["device_images_per_second"] == pytest.approx(1000 / row["batch_ms"]["mean"])


class Killed(BaseException):
    pass


class NumberedRows:
    """`Bench.measure` without a tool: the first row computes 1 image/s, the next 2 and so on."""

    def __init__(self) -> None:
        self.timed: list[Any] = []  # gears
        self.kill_at = 99

    def __call__(self, case: Any, *rest: Any) -> Any:
        if len(self.timed) == self.kill_at:
            raise Killed
        self.timed.append(case.gear)
        times = {"median": 1.0, "percentile(99%)": 1.0, "mean": 1.0, "count": 3}
        rate, batch = float(len(self.timed)), case.shape[0]
        model, sha256 = case.model.name, case.compiled.model_sha256
        row = BenchRow(batch, model, sha256, rate, 1000 / rate, None, times, 3 * batch, 3.0, 1.0, case.gear)
        return row, ToolResult("emulator 1", {}, {"total": 3.0}, 3.0, {})


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> NumberedRows:
    rows = NumberedRows()
    monkeypatch.setattr(Bench, "measure", lambda self, *arguments: rows(*arguments))
    return rows


def test_finished_rows_are_kept_after_a_kill(workdir: Path, numbered: NumberedRows, capsys: Any) -> None:
    timed = numbered.timed
    numbered.kill_at = 2
    with pytest.raises(Killed):
        gears("onnx")
    assert not Path("bench/x.json").exists()
    numbered.kill_at = 99
    assert gears("onnx") == 0
    assert "2 of 3 rows were finished before and are kept\n" in capsys.readouterr().out
    every = [gear[2:] for gear in GEARS]
    assert timed == every and [row["device_images_per_second"] for row in record()["rows"]] == [1.0, 2.0, 3.0]
    assert not Path("bench/x_scratch").exists()
    assert gears("onnx") == 0 and timed == every, "a finished sweep is up to date"
    os.unlink("bench/x.json")
    numbered.kill_at = 5
    with pytest.raises(Killed):
        gears("onnx")
    numbered.kill_at = 99
    assert gears("onnx", "--loop", "4") == 0
    assert timed == every + every[:2] + every, "rows of other settings are not kept"
    make_folder(Path("bench/x_scratch"))
    Path("bench/x_scratch/finished.json").write_text("{")
    assert gears("onnx") == 0 and timed[-3:] == every and len(timed) == 11


def test_ais_bench_is_timed_in_two_ways(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It computes one batch after another, so it needs no separate run with one request at a time."""
    assert npu("--device", "2", batches=BATCHES) == 0
    commands = [line for line in capfd.readouterr().out.splitlines() if line.startswith("./python_npu -m ais_bench ")]
    assert [" --pure_data_type zero --loop 3 " in line for line in commands] == [True, False, True, False]
    content = record()
    assert (content["tool"], content["soc_version"], content["devices"]) == ("ais_bench", "Ascend310P3", ["2"])
    assert content["seconds_include_start"] is True
    for row in content["rows"]:
        mean = row["batch_ms"]["mean"]
        assert row["device_images_per_second"] == pytest.approx(1000 * row["batch"] / mean)
        assert row["image_ms"] == pytest.approx(mean / row["batch"])
        assert row["card_images_per_second"] is None
    assert "card" not in Path("bench/x.md").read_text()


def test_a_card_of_310_is_counted_as_four_devices(workdir: Path) -> None:
    """Two devices are measured together; a card has four."""
    assert npu("--soc_version", "Ascend310", "--device", "0,1") == 0
    for row in record()["rows"]:
        assert row["card_images_per_second"] == pytest.approx(2 * row["device_images_per_second"])
    assert "| card images/s |" in Path("bench/x.md").read_text()


def test_ais_bench_is_called_for_each_device(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each device has its own inputs, outputs and summary; the inputs of a row are divided among the devices."""
    counts: list[int] = []
    monkeypatch.setattr(
        bench_timing,
        "write_inputs",
        lambda folder, case, count: counts.append(count) or write_inputs(folder, case, count),
    )
    assert npu("--device", "3,1", batches=BATCHES) == 0
    assert counts == [1, 2, 6, 6], "all inputs are divided"
    out = capfd.readouterr().out
    assert "--divide_input" not in out
    lines = [line for line in out.splitlines() if line.startswith("./python_npu -m ais_bench --model bs4-x.om ")]
    parts = [line.split() for line in lines]
    flag = {name: [line[line.index(name) + 1] for line in parts] for name in ("--device", "--output_dirname")}
    assert flag == {"--device": ["3", "1"] * 2, "--output_dirname": ["run0", "run1"] * 2}
    assert [line.split(" --input ")[1].split()[0] for line in lines[2:]] == [
        f"bench/x_scratch/inputs{i}" for i in (0, 1)
    ]
    content = record()
    assert content["devices"] == ["3", "1"]
    for row, batch in zip(content["rows"], BATCHES):
        assert (row["images"], row["batch_ms"]["count"]) == (3 * batch, 3)
        assert row["images_per_second"] == pytest.approx(row["images"] / row["seconds"])
        assert row["device_images_per_second"] > 1000 * batch / row["batch_ms"]["mean"], "the sum of both"


def test_a_failing_device_is_an_error(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "device1")
    assert npu("--device", "0,1") == 1
    check_error(capfd.readouterr().err, "infer.bench", "ais_bench failed", "exit 1", "rerun the same command")
    assert not Path("bench/x.json").exists()
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert npu("--device", "0,1") == 0


def test_the_page_has_a_row_for_each_batch() -> None:
    times = {"median": 16.0, "percentile(99%)": 17.125, "mean": 16.25, "count": 20}
    row = BenchRow(4, "m.om", "0" * 64, 246.25, 4.0609, 985.0, times, 80, 0.5, 160.0)
    machine = {"processor": "Kunpeng 920", "kind": "aarch64", "cores": 4}
    found = BenchRecord({}, "ais_bench", ["0"], "Ascend310", 20, True, machine, {"python": "3.9.2"}, [row])
    assert bench_table.table(found) == (
        "ais_bench, Ascend310, device 0; 20 batches each; the rate from files to files includes the tool's start and "
        "model loading.\n\n"
        "| batch | device images/s | ms/image, mean | batch ms, median | batch ms, 99% | files to files images/s "
        "| card images/s |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| 4 | 246.2 | 4.06 | 16.00 | 17.12 | 160.0 | 985.0 |\n\n"
        "processor Kunpeng 920, kind aarch64, cores 4; python 3.9.2.\n"
    )


def test_random_inputs_are_seeded() -> None:
    for dtype in ("float32", "float16", "uint8"):
        tensor = TensorInfo("image", dtype, [4, 3, 8, 8])
        first, again, other = (random_input(tensor, seed) for seed in (0, 0, 1))
        assert first.shape == (3, 8, 8) and first.dtype == dtype
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert np.isfinite(first).all()
    assert (first.min(), first.max()) == (0, 255) or first.max() > 200, "the whole range of uint8"


def test_user_errors_are_reported_in_one_line(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert npu("--device", "0,1,2,3", batches=BATCHES) == 2
    check_error(capfd.readouterr().err, "infer.bench", "found 3", "--loop 4")
    for suffix in ("", ".json"):
        os.rename(f"bs4-x.onnx{suffix}", f"bs8-x.onnx{suffix}")
    assert bench.main(["--models", "bs8-x.onnx", "--output", "bench/x.json"]) == 2
    check_error(capfd.readouterr().err, "infer.bench", "bs8-x.onnx: ", "expected bs4", "found bs8")
    assert not Path("bench").exists()


@pytest.mark.usefixtures("emulators_in_process")
def test_a_second_run_times_nothing(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call() == 0
    before = {name: Path("bench", name).read_bytes() for name in ("x.json", "x.md")}
    capfd.readouterr()
    assert call() == 0
    out = capfd.readouterr().out
    assert "infer.emulator" not in out and "rm bench/x.json" in out
    assert {name: Path("bench", name).read_bytes() for name in before} == before
    os.truncate("bench/x.md", 9)
    assert call() == 0 and "-m infer.emulator" in capfd.readouterr().out
    monkeypatch.setattr(bench, "code_sha256", lambda *modules: "0" * 64)
    assert call() == 0 and "-m infer.emulator" in capfd.readouterr().out


@pytest.mark.usefixtures("emulators_in_process")
def test_a_record_with_a_wrong_batch_is_rejected(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    linear_model(Path("bs4-x.onnx"), 2)
    content = json.loads(Path("bs4-x.onnx.json").read_text())
    for tensor in (*content["inputs"], *content["outputs"]):
        tensor["shape"][0] = 4
    Path("bs4-x.onnx.json").write_text(json.dumps(content))
    assert call() == 1
    file = "bench/x_scratch/run0/pure_infer_data_0.bin"
    check_error(capfd.readouterr().err, "infer.bench", file, "batch size 4", "expected 80 bytes", "found 40")
    assert not Path("bench/x.json").exists()


def test_throughput_for_another_batch_is_rejected(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_AIS_BENCH", "halved")
    assert npu() == 1
    check_error(capfd.readouterr().err, "infer.bench", "bench/x_scratch/run0_summary.json", "batch 4")


def test_a_failing_tool_leaves_no_old_record(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert npu() == 0
    Path("bs4-x.om").write_bytes(b"text")
    content = json.loads(Path("bs4-x.om.json").read_text())
    content["model_sha256"] = sha256_file("bs4-x.om")
    Path("bs4-x.om.json").write_text(json.dumps(content))
    assert npu() == 1
    check_error(capfd.readouterr().err, "infer.bench", "ais_bench failed", "exit 1", "rerun the same command")
    assert sorted(os.listdir("bench")) == ["x_lock", "x_scratch"]


def test_rows_of_other_batch_sizes_are_kept(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert npu(batches=BATCHES) == 0
    before = record()
    assert [row["batch"] for row in before["rows"]] == [1, 4]
    capfd.readouterr()
    assert npu(batches=(1,)) == 0
    out, found = capfd.readouterr().out, record()
    assert "bs4-x.om" not in out and "LOOP: batch 4\n" in out and out.endswith("(2 rows)\n")
    assert found["rows"][1] == before["rows"][1] and found["rows"][0] != before["rows"][0], "batch 1 is timed again"
    assert Path("bench/x.md").read_text().count("\n| 4 | ") == 1
    assert npu(batches=(1,)) == 0 and "up to date" in capfd.readouterr().out


def other_model() -> None:
    om_model(Path("bs4-x.om"), 4)
    Path("bs4-x.om").write_bytes(Path("bs4-x.om").read_bytes() + b" ")
    change_record("bs4-x.om", model_sha256=sha256_file("bs4-x.om"))


def change_record(model: str, **changes: Any) -> None:
    content = json.loads(Path(f"{model}.json").read_text())
    Path(f"{model}.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    "change",
    [
        other_model,
        lambda: change_record("bs4-x.om", source_sha256="1" * 64),
        lambda: change_record("bs4-x.om", command=["atc", "--precision_mode=force_fp16"]),
        lambda: os.truncate("bench/x.md", 9),
        lambda: None,
    ],
    ids=["another model", "another source", "another precision", "damaged", "other loop"],
)
def test_rows_that_are_not_comparable_are_removed(
    workdir: Path,
    change: Any,
    numbered: NumberedRows,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert npu(batches=BATCHES) == 0
    change()
    more = ("--loop", "4") if "other loop" in request.node.name else ()
    assert npu(*more, batches=(1,)) == 0
    out = capsys.readouterr().out
    assert [row["batch"] for row in record()["rows"]] == [1] and "kept" not in out
    assert any(line.startswith("removed rows") and line.endswith(": batch 4") for line in out.splitlines())


def test_rows_of_another_version_of_the_tool_are_removed(
    workdir: Path, numbered: NumberedRows, capsys: pytest.CaptureFixture[str]
) -> None:
    assert npu(batches=BATCHES) == 0
    old = BenchRecord.read("bench/x.json")
    new = bench_table.with_others(old, replace(old, tool="ais_bench 0", rows=old.rows[1:]))
    assert new.rows == old.rows and "with ais_bench 0: batch 4\n" in capsys.readouterr().out


def test_kept_rows_survive_a_kill(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert npu(batches=BATCHES) == 0
    before = record()
    monkeypatch.setenv("FAKE_AIS_BENCH", "killed")
    assert npu(batches=(1,)) == 1 and not Path("bench/x.json").exists()
    monkeypatch.delenv("FAKE_AIS_BENCH")
    assert npu(batches=(1,)) == 0
    assert [row["batch"] for row in record()["rows"]] == [1, 4] and record()["rows"][1] == before["rows"][1]
