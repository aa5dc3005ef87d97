"""Two runs at once: both give the right result, or the second one reports an error in one line."""

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
from tests.hardening import stages
from tests.hardening.harness import SESSION, Stage, contents
from tests.support import image_sets
from tests.support.checkout import Checkout
from tests.support.errors import check_error
from tests.support.onnx_models import classifier, saved
from tests.support.preprocess_runs import many_images, start_many, times
from tests.support.processes import AT_WORK, SECONDS, group_is_gone

CONVERT = ["--model", "model.onnx", "--output", "om/a.onnx"]
WRITING = "another run is writing it"
OFFSETS = (0.0, 0.2, 0.6, 1.0)  # seconds after which the second run starts


@pytest.fixture
def cfg(tmp_path: Path) -> str:
    return image_sets.write_config(tmp_path)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "prep"


def preprocess(cfg: str, dataset: Path, output: Path, *more: str) -> int:
    return classification.main(["--cfg", cfg, "--dataset", str(dataset), "--output", str(output), *more])


def test_second_preprocess_is_rejected(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_sets.listed(tmp_path, {"a.JPEG": 1})
    with locked(f"{output}_lock"):
        assert preprocess(cfg, tmp_path, output) == 2
    check_error(capsys.readouterr().err, "preprocess.classification", f"{output}_lock")
    assert not output.exists()
    assert preprocess(cfg, tmp_path, output, "--workers", "1") == 0


def test_second_convert_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, classifier())
    half = make_folder("om/.atc-a.onnx") / "half"
    half.touch()
    with locked("om/a.onnx_lock"):
        assert convert.main(CONVERT) == 2
    check_error(capsys.readouterr().err, "atc.convert", "om/a.onnx_lock")
    assert half.exists(), "the temporary directory of the other run"
    assert convert.main(CONVERT) == 0
    assert sorted(os.listdir("om")) == [".a.onnx.stamp", "a.onnx", "a.onnx.json", "a.onnx_lock"]


def test_workers_of_a_killed_run_keep_its_lock(
    cfg: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = many_images(tmp_path / "many")
    started = start_many(cfg, many, output)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    workers = [int(number) for number in children]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    started.kill()
    started.wait(SECONDS)
    before = times(output)
    assert preprocess(cfg, many, output) == 2
    check_error(capsys.readouterr().err, "preprocess.classification", f"{output}_lock")
    assert times(output) == before
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert group_is_gone(started.pid)
    assert preprocess(cfg, many, output, "--limit", "1") == 0


@pytest.mark.slow
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_stage_run_twice_at_once_gives_one_right_result(
    stage: Stage, offset: float, built: Path, tmp_path: Path
) -> None:
    finished = stages.finished(stage, built, tmp_path)
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    first = stage.start(folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.wait(offset)
    second = stage.run(folder)
    first_output_text, _ = first.communicate(timeout=SECONDS)
    both = ((first.returncode, first_output_text), second)
    for code, output_text in both:
        rejected = code == 2 and output_text.splitlines()[-1].startswith(f"{stage.module}: error: ")
        assert code == 0 or (rejected and (AT_WORK in output_text or WRITING in output_text)), output_text
    assert 0 in [code for code, _ in both]
    assert contents(folder, stage) == contents(finished, stage)
    assert not [path for path in folder.rglob(".*") if path.name != SESSION and path.suffix != ".stamp"]


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 6.0])
def test_make_run_twice_at_once_gives_one_right_result(offset: float, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    digits = [sys.executable, "-m", "data.digits", "--output", "data/digits"]
    subprocess.run(digits, cwd=checkout.root, check=True, capture_output=True)
    call = [
        "make",
        "eval",
        "MODEL=demo_digits",
        f"PYTHON={sys.executable}",
        "DATASET=data/digits",
        "LIMIT=60",
        "REFERENCE=torch",
    ]
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
        output_text, _ = each.communicate(timeout=SECONDS)
        assert "Deleting" not in output_text and "\nrm " not in output_text, output_text
        assert each.returncode == 0 or "Traceback" not in output_text, output_text
        errors = [line for line in output_text.splitlines() if ": error: " in line or ": failed: " in line]
        assert each.returncode == 0 or len(errors) == 1, output_text
    assert not first.returncode or not both[1].returncode, "one of the runs passes"
    assert (tmp_path / "build/demo_digits/settings/REFERENCE.mk").read_text() == "REFERENCE ?= torch\n"
    done = checkout.make("eval")
    assert done.returncode == 0 and "PASS: demo_digits top1 " in done.stdout, done.stdout + done.stderr
