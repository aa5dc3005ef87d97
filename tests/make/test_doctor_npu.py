"""What make doctor reports about packages for an NPU: torch_npu, a CUDA build of torch, two installed OpenCVs, another
ais_bench, no pkg_resources."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from make import doctor_tools
from tests.make.doctor_calls import call, report, tool
from tests.support.ais_bench_packages import PACKAGES, WORDS, python_with


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of distributions that count as installed; "" for one that counts as missing."""
    known: dict[str, str] = {}
    by_module, by_name = doctor_tools.version_of, doctor_tools.distribution_version
    monkeypatch.setattr(
        doctor_tools,
        "version_of",
        lambda name, module: (known[name] or None) if name in known else by_module(name, module),
    )
    monkeypatch.setattr(
        doctor_tools, "distribution_version", lambda name: (known[name] or None) if name in known else by_name(name)
    )
    return known


def warnings(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("make doctor: warning: ")]


def test_a_missing_torch_npu_beside_an_npu_is_a_warning(
    place: Path,
    versions: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (place / "davinci0").touch()
    monkeypatch.setattr(doctor_tools, "NPUS", f"{place}/davinci[0-9]*")
    versions.update({"torch": "2.6.0+cpu", "torch-npu": ""})
    assert call() == 0, "inference does not need it"
    out, err = capsys.readouterr()
    (line,) = warnings(err)
    assert "davinci0" in line and f"{sys.executable} -m pip install torch-npu==2.6.0" in line
    assert report(out)["torch_npu"].startswith("not installed")
    versions["torch-npu"] = "2.6.0"
    assert call() == 0
    out, err = capsys.readouterr()
    assert err == "" and report(out)["torch_npu"] == "2.6.0"
    versions.update({"torch": "", "torch-npu": ""})
    call()
    (line,) = warnings(capsys.readouterr().err)
    assert "torch --index-url https://download.pytorch.org/whl/cpu" in line, "PyPI's torch may be a CUDA build"


def test_a_cuda_torch_beside_torch_npu_is_a_warning(
    place: Path,
    versions: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions.update({"torch": "2.6.0", "torch-npu": "2.6.0"})
    monkeypatch.setattr(doctor_tools, "cuda_of_torch", lambda: "12.4")
    assert call() == 0
    (line,) = warnings(capsys.readouterr().err)
    assert "CUDA 12.4" in line and "torch==2.6.0 --index-url https://download.pytorch.org/whl/cpu" in line
    assert call(REFERENCE="torch", WEIGHTS="m.onnx") == 2, "torch is needed"
    assert "make doctor: error: torch: built for CUDA 12.4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [("cuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n", "12.4"), ("cuda = None\n", ""), ("", "")],
)
def test_the_build_of_torch_is_found_without_importing_it(
    text: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise RuntimeError('Two accelerators')\n")
    (tmp_path / "torch/version.py").write_text(f"__version__ = '2.6.0'\n{text}")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert doctor_tools.cuda_of_torch() == found


def test_versions_that_do_not_match_are_a_warning(
    place: Path,
    versions: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor_tools, "cuda_of_torch", lambda: "")
    versions.update({"torch": "2.6.0+cpu", "torch-npu": "2.1.0.post10"})
    assert call() == 0
    (line,) = warnings(capsys.readouterr().err)
    assert "2.1.0.post10" in line and "torch-npu==2.6.0" in line
    versions["torch-npu"] = "2.6.0.post3"
    assert call() == 0 and capsys.readouterr().err == ""


def test_two_opencvs_are_a_warning(
    place: Path,
    versions: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions.update({"opencv-python": "4.10.0.84"})
    assert call() == 0
    (line,) = warnings(capsys.readouterr().err)
    assert "pip uninstall -y opencv-python opencv-python-headless;" in line
    versions.update({"opencv-python-headless": ""})
    call()
    assert not warnings(capsys.readouterr().err), "one of them is enough"


@pytest.mark.parametrize("kind", sorted(set(WORDS) - {"missing"}))
def test_an_unsupported_ais_bench_is_reported(
    kind: str,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool(place, "atc")
    python = python_with(tmp_path, PACKAGES[kind], "-S")
    (tmp_path / "python_npu").write_text((tmp_path / "python_npu").read_text().replace("exec env", "exec /usr/bin/env"))
    assert call(AIS_PYTHON=python) == 2
    out, err = capsys.readouterr()
    assert WORDS[kind] in report(out)["ais_bench"] and report(out)["ais_bench"].startswith("not supported: ")
    assert "cannot import" not in err, "it is found, but of another kind"
    assert f"error: AIS_PYTHON={python}: " in err and WORDS[kind] in err
    assert call(AIS_PYTHON=python, BACKEND="onnxruntime") == 0, "it is not used"


def test_missing_pkg_resources_are_reported(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {**PACKAGES["official"], "__init__.py": "", "../aclruntime.py": ""}
    python = python_with(tmp_path, files, "-S")
    (tmp_path / "python_npu").write_text((tmp_path / "python_npu").read_text().replace("exec env", "exec /usr/bin/env"))
    assert call(AIS_PYTHON=python) == 0
    out, err = capsys.readouterr()
    assert report(out)["ais_bench"] == f"found by {python}"
    (line,) = warnings(err)
    assert f"{python} -m pip install 'setuptools<81'" in line


def test_the_meaning_of_fp32_on_an_npu_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "atc")
    tool(place, "python3", '[ "$1" = -c ]')
    assert call(PRECISION="fp32") == 0
    assert "still read float16" in report(capsys.readouterr().out)["precision"]
    assert call(PRECISION="fp32", BACKEND="onnxruntime") == 0
    assert "precision" not in report(capsys.readouterr().out)


def test_int8_on_an_npu_needs_amct_onnx(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "atc")
    assert call(BACKEND="ascend", PRECISION="int8") == 2
    assert "make doctor: error: amct_onnx: not on PATH, needed for PRECISION=int8" in capsys.readouterr().err
    tool(place, "amct_onnx")
    call(BACKEND="ascend", PRECISION="int8")
    out, err = capsys.readouterr()
    assert report(out)["amct_onnx"].endswith("bin/amct_onnx") and "amct_onnx" not in err
    call(BACKEND="onnxruntime", PRECISION="int8")
    assert "amct_onnx" not in "".join(capsys.readouterr()), "its emulator runs"
