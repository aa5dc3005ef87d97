"""Which ais_bench is accepted, by the files of its package; paths and owners that ais_bench rejects."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hrnet.cli import UserError
from infer import run as infer_run
from infer import run_ais_bench
from infer.emulator import path_checks
from tests.support import fakes
from tests.support.ais_bench_packages import PACKAGES, WORDS, python_with
from tests.support.linear_model import om_model, prep_folder

# Lines of a version before 24 July 2024, which fails without pkg_resources, and of a later one, which does not.
VERSIONS = {'args.run_mode = "tensor"\n': True, 'args.run_mode = "tensor"\n        return\n': False}


def error_of(python: str) -> UserError:
    with pytest.raises(UserError) as caught:
        run_ais_bench.find_tool("ascend", python, ["0"])
    assert caught.value.where == python and "AIS_PYTHON" in str(caught.value.hint) and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", sorted(WORDS))
def test_an_unsupported_ais_bench_is_named(kind: str, tmp_path: Path) -> None:
    error = error_of(python_with(tmp_path, PACKAGES[kind], "-S"))
    assert WORDS[kind] in error.what and "gitee.com/ascend/tools" in str(error.expected)
    if kind != "missing":
        assert f"{tmp_path}/packages/ais_bench" in str(error.found)


def test_the_version_of_a_fork_is_named(tmp_path: Path) -> None:
    record = tmp_path / "packages/ais_bench-0.1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: ais_bench\nVersion: 0.1.0\n")
    assert "0.1.0" in str(error_of(python_with(tmp_path, PACKAGES["renamed"], "-S")).found)


def test_the_official_ais_bench_is_found_beside_the_benchmark_of_aisbench(tmp_path: Path) -> None:
    """Both packages are named ais_bench and are in one interpreter, which also treats warnings as errors."""
    python = python_with(tmp_path, {**PACKAGES["benchmark"], **PACKAGES["official"]}, "-W", "error", "-S")
    assert run_ais_bench.find_tool("ascend", python, ["0"]).start == [python, "-m", "ais_bench"]


@pytest.mark.parametrize(("text", "crashes"), VERSIONS.items())
def test_only_versions_before_24_july_2024_need_pkg_resources(text: str, crashes: bool, tmp_path: Path) -> None:
    files = {**PACKAGES["official"], "infer/common/miscellaneous.py": f"import pkg_resources\n{text}"}
    python = python_with(tmp_path, files, "-S")
    if not crashes:
        assert run_ais_bench.find_tool("ascend", python, ["0"])
        return
    with pytest.raises(UserError, match="pkg_resources") as caught:
        run_ais_bench.find_tool("ascend", python, ["0"])
    assert f"{python} -m pip install 'setuptools<81'" in str(caught.value.hint)
    (tmp_path / "packages/pkg_resources").mkdir()
    (tmp_path / "packages/pkg_resources/__init__.py").touch()
    assert run_ais_bench.find_tool("ascend", python, ["0"])


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """In a directory whose name ais_bench accepts: m.om, inputs in `in`, and a python that has the fake."""
    monkeypatch.chdir(tmp_path)
    om_model(Path("m.om"), 2)
    fakes.ais_python(tmp_path)
    return prep_folder(Path("in"), 3)


def call(output: str = "out/run") -> int:
    words = ["--model", "m.om", "--inputs", "in", "--output", output, "--backend", "ascend"]
    return infer_run.main([*words, "--ais_python", "./python_npu"])


@pytest.mark.parametrize("name", ["my dir", "köln", "a+b", "v1@x"])
def test_a_directory_with_an_illegal_character_is_rejected(
    name: str, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = Path.cwd()
    (here / name).mkdir()
    for entry in ("m.om", "m.om.json", "in", "python_npu"):
        shutil.move(here / entry, here / name / entry)
    monkeypatch.chdir(here / name)
    assert call() == 2
    err = capfd.readouterr().err
    assert err.startswith(f"infer.run: error: {here / name}/") and "BUILD=" in err and err.count("\n") == 1
    assert not list(Path("out").rglob("*.bin"))


def test_the_fake_also_rejects_a_space_in_the_absolute_path(images: np.ndarray) -> None:
    """The fake is called directly, without our own check before it."""
    Path("a b").mkdir()
    shutil.move("in", "a b/in")
    words = ["--model", "../m.om", "--input", "in", "--output", "../out", "--output_dirname", "run"]
    done = subprocess.run(["../python_npu", "-m", "ais_bench", *words], cwd="a b", capture_output=True, text=True)
    assert done.returncode == 2
    assert "input path:in is illegal. Please check. contains invalid characters" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("path", ["m.om", "in", "in/img1.bin", "out"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_file_of_another_user_is_rejected(
    checked: bool, path: str, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without our check the fake rejects it, with the message of ais_bench."""
    Path("out").mkdir(0o750)
    os.chown(path, 12345, 12345)
    if not checked:
        monkeypatch.setattr(run_ais_bench, "check_paths", lambda *_: None)
        assert call() in (1, 2)
        assert "isn't its owner or ownergroup" in "".join(capfd.readouterr())
        return
    assert call() == 2
    err = capfd.readouterr().err
    assert f"error: {path}: " in err and "12345" in err and f"chown -R {os.geteuid()} {path}" in err and "BUILD=" in err
    monkeypatch.setattr(os, "getgroups", lambda: [12345])
    path_checks.check_owner(path)  # a file of one's group
    os.chown(path, os.geteuid(), 12345)
    assert call() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_emulator_runs_where_ais_bench_would_not(images: np.ndarray, tmp_path: Path) -> None:
    """On a laptop: any directory, and files that another user unpacked."""
    os.chown("in/img1.bin", 12345, 12345)
    assert len(path_checks.list_inputs("in")) == 4 - 1
    with pytest.raises(UserError):
        path_checks.check_owner("in/img1.bin")
