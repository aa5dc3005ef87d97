"""The Python part of real ais_bench versions, on the fake of aclruntime: `infer.run` gives correct outputs with each of
them, and versions that are not supported are rejected with an error that names them.

These tests need AIS_BENCH_GIT (tests/support/official_ais_bench.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.cli import UserError
from hrnet.io.records import read_record
from hrnet.io.runs import RunRecord
from infer import bench, run_ais_bench
from infer import run as infer_run
from tests.support import ROOT, fakes
from tests.support.ascend_calls import compute
from tests.support.gear_model import COUNT, GEARS, check_gear_outputs, gear_folder, gear_model
from tests.support.linear_model import SHAPE, check_logits, expected_logits, om_model, prep_folder
from tests.support.official_ais_bench import OFFICIAL, STATES, install, needs_clone, package

REJECTED = {
    "83d6e21a": (OFFICIAL, "before February 2024"),
    "de5b60db": (OFFICIAL, "before February 2024"),
    "df1f9a44": ("ais_bench/src/ais_bench", "fork"),
    "1e857795": ("ais-bench_workload/experimental_tools/benchmark/ais_bench", "ais-bench-benchmark"),
}
pytestmark = needs_clone


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*more: str) -> int:
    words = ["--inputs", "in", "--output", "out/run", "--backend", "ascend", "--ais_python", "./python_npu"]
    return infer_run.main(["--model", "m.om", *words, *more])


@pytest.mark.parametrize("commit", STATES)
def test_outputs_of_one_device_are_correct(commit: str) -> None:
    install(commit, Path.cwd())
    om_model(Path("m.om"), 4)
    images = prep_folder(Path("in"), 11)
    assert call() == 0
    check_logits(images)
    record = RunRecord.read(Path("out/run_run.json"))
    assert (record.tool, record.images, record.batch) == ("ais_bench", 11, 4)


@pytest.mark.parametrize("commit", STATES)
def test_parts_run_on_two_devices(commit: str) -> None:
    """As `make eval DEVICE=0,1` calls it: a part of the images on each device, at the same time."""
    install(commit, Path.cwd())
    om_model(Path("m.om"), 4)
    parts = [prep_folder(Path(f"in{device}"), 6 - device) for device in (0, 1)]
    words = [
        sys.executable,
        "-m",
        "infer.run",
        "--model",
        "m.om",
        "--backend",
        "ascend",
        "--ais_python",
        "./python_npu",
    ]
    calls = [
        [*words, "--inputs", f"in{device}", "--output", f"out{device}/run", "--device", f"{device}"]
        for device in (0, 1)
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(call, env=environment) for call in calls]
    assert [process.wait() for process in processes] == [0, 0]
    for device, images in enumerate(parts):
        check_logits(images, f"out{device}/run")
        command = RunRecord.read(Path(f"out{device}/run_run.json")).command
        assert command[command.index("--device") + 1] == str(device) and "--divide_input" not in command


@pytest.mark.parametrize("commit", ["9cbe9bc9", "4be9fed3", "7d48a93e"])
def test_outputs_at_each_gear_are_correct(commit: str) -> None:
    install(commit, Path.cwd())
    gear_model(Path("m.om"))
    images = gear_folder(Path("in"), COUNT)
    assert call() == 0
    check_gear_outputs(images, "out/run")


@pytest.mark.parametrize("commit", STATES)
def test_the_python_interface_of_ais_bench_that_make_serve_uses(commit: str) -> None:
    install(commit, Path.cwd())
    om_model(Path("m.om"), 4)
    gear_model(Path("gears.om"))
    batch = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    ((output,),) = compute("./python_npu", "m.om", [batch])
    np.testing.assert_allclose(output, expected_logits(batch), rtol=1e-5, atol=1e-5)
    images = [np.random.default_rng(i).standard_normal(gear).astype(np.float32) for i, gear in enumerate(GEARS)]
    for image, (_, twice) in zip(images, compute("./python_npu", "gears.om", images)):
        np.testing.assert_array_equal(twice, 2 * image)


@pytest.mark.parametrize("commit", ["738ccdff", "7d48a93e"])
def test_versions_that_run_without_pkg_resources(commit: str) -> None:
    """Without pkg_resources, these versions use another run mode. Earlier versions fail: the next test checks that they
    are rejected."""
    install(commit, Path.cwd(), pkg_resources=False)
    om_model(Path("m.om"), 2)
    images = prep_folder(Path("in"), 3)
    assert call() == 0
    check_logits(images)


@pytest.mark.parametrize("commit", STATES)
def test_versions_that_need_pkg_resources_are_rejected_without_it(commit: str) -> None:
    found = package(commit, OFFICIAL, Path("clone").resolve())
    fakes.program(Path("python_s"), f"env PYTHONPATH={found} {sys.executable} -S")
    if STATES[commit] >= "2024-07-24":
        assert run_ais_bench.find_tool("ascend", "./python_s", ["0"])
        return
    with pytest.raises(UserError, match="pkg_resources"):
        run_ais_bench.find_tool("ascend", "./python_s", ["0"])


@pytest.mark.parametrize("commit", REJECTED)
def test_an_unsupported_version_or_package_is_named_in_the_error(commit: str) -> None:
    path, part = REJECTED[commit]
    fakes.ais_python(Path.cwd(), package(commit, path, Path("clone").resolve()))
    with pytest.raises(UserError) as caught:
        run_ais_bench.find_tool("ascend", "./python_npu", ["0"])
    assert part in caught.value.what and caught.value.where == "./python_npu"


@pytest.mark.parametrize("commit", ["9cbe9bc9", "c7215bd7", "7d48a93e"])
@pytest.mark.parametrize("kind", ["batch", "gears"])
def test_bench_times_static_models_and_each_gear(commit: str, kind: str) -> None:
    """Pure inference (`--pure_data_type zero --loop`), with `--dymDims` for each gear, then files to files."""
    install(commit, Path.cwd())
    if kind == "gears":
        gear_model(Path("m.om"))
    else:
        om_model(Path("m.om"), 4)
    words = ["--models", "m.om", "--output", "bench/x.json", "--loop", "3", "--backend", "ascend"]
    assert bench.main([*words, "--ais_python", "./python_npu"]) == 0
    rows = read_record("bench/x.json", "bench")["rows"]
    assert [row["batch_ms"]["count"] for row in rows] == [3] * (3 if kind == "gears" else 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("commit", ["9cbe9bc9", "7d48a93e"])
def test_a_file_of_another_user_is_rejected(
    commit: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By our own check, and by the tool."""
    install(commit, Path.cwd())
    om_model(Path("m.om"), 2)
    prep_folder(Path("in"), 3)
    os.chown("m.om", 12345, 12345)
    assert call() == 2
    assert "chown" in capfd.readouterr().err
    monkeypatch.setattr(run_ais_bench, "check_paths", lambda *_: None)
    assert call() == 2
    assert "owner" in "".join(capfd.readouterr())
