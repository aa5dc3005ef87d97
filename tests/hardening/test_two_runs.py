"""Two runs at once: the right result of both, or one clear line of the second."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atc import convert
from hrnet.io.files import locked, make_folder
from preprocess import classification
from tests.atc.models import classifier, saved
from tests.hardening import stages
from tests.hardening.harness import AT_WORK, SECONDS, SESSION, Stage, contents
from tests.preprocess import datasets
from tests.preprocess.test_classification import cfg, group_is_gone, many, output, start_many, times
from tests.test_makefile import Checkout

assert cfg and many and output  # fixtures

WRITING = "another run is writing it"
OFFSETS = (0.0, 0.2, 0.6, 1.0)  # of an undisturbed run's time, after which the second one starts


def test_a_second_preprocess_is_refused(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets.listed(tmp_path, {"a.JPEG": 1})
    with locked(f"{output}_lock"):
        assert classification.main([cfg, str(tmp_path), str(output)]) == 2
    assert capsys.readouterr().err == f"preprocess.classification: error: {output}_lock: {AT_WORK}\n"
    assert not output.exists()
    assert classification.main([cfg, str(tmp_path), str(output), "--workers", "1"]) == 0


def test_a_second_convert_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    half = make_folder("om/.atc-a.onnx") / "half"
    half.touch()
    with locked("om/a.onnx_lock"):
        assert convert.main(["--model", "model.onnx", "--output", "om/a.onnx"]) == 2
    assert capsys.readouterr().err == f"atc.convert: error: om/a.onnx_lock: {AT_WORK}\n"
    assert half.exists(), "the other's scratch folder"
    assert convert.main(["--model", "model.onnx", "--output", "om/a.onnx"]) == 0
    assert sorted(os.listdir("om")) == ["a.onnx", "a.onnx.json", "a.onnx_lock", "a.onnx_stamp.json"]


def test_workers_of_a_killed_run_keep_its_lock(
    cfg: str, many: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = start_many(cfg, many, output)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    workers = [int(number) for number in children]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    started.kill()
    started.wait(SECONDS)
    before = times(output)
    assert classification.main([cfg, str(many), str(output)]) == 2
    assert capsys.readouterr().err == f"preprocess.classification: error: {output}_lock: {AT_WORK}\n"
    assert times(output) == before
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert group_is_gone(started.pid)
    assert classification.main([cfg, str(many), str(output), "--limit", "1"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_stage_twice_at_once(stage: Stage, offset: float, built: Path, tmp_path: Path) -> None:
    finished = stages.inputs_of(stage, built, tmp_path / "finished")
    code, told = stage.run(finished)
    assert code == 0, told
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    first = stage.start(folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.wait(offset)
    second = stage.run(folder)
    first_told, _ = first.communicate(timeout=SECONDS)
    both = ((first.returncode, first_told), second)
    for code, told in both:
        refused = code == 2 and told.splitlines()[-1].startswith(f"{stage.module}: error: ")
        assert code == 0 or (refused and (AT_WORK in told or WRITING in told)), told
    assert 0 in [code for code, _ in both]
    assert contents(folder, stage) == contents(finished, stage)
    assert not [path for path in folder.rglob(".*") if path.name != SESSION]


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 2.0, 6.0])
def test_make_twice_at_once(offset: float, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    call = ["make", "eval", "MODEL=demo_digits", f"PYTHON={sys.executable}", "DATASET=data/digits", "LIMIT=60"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            call, cwd=checkout.root, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    first = start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.wait(offset)
    both = (first, start())
    for each in both:
        told, _ = each.communicate(timeout=SECONDS)
        assert each.returncode == 0 or "Traceback" not in told, told
        errors = [line for line in told.splitlines() if ": error: " in line or ": failed: " in line]
        assert each.returncode == 0 or len(errors) == 1, told
    done = checkout.make("eval")
    assert done.returncode == 0 and "PASS: demo_digits top1 " in done.stdout, done.stdout + done.stderr
