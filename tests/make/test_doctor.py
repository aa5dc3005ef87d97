"""make/doctor.py with stand-ins of npu-smi, atc and AIS_PYTHON on PATH, and in an interpreter that has nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from hrnet.config import load_config
from hrnet.resample import COMPILED
from make import doctor

ROOT = Path(__file__).resolve().parents[2]
SMI = """\
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | Alarm           | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+
"""
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an ONNX file and three images, and a PATH that has nothing but bin/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    (tmp_path / "data/val").mkdir(parents=True)
    (tmp_path / "data/val_label.txt").write_text("a.JPEG 0\nb.JPEG 1\nc.JPEG 2\n")
    for name in ("a.JPEG", "b.JPEG", "c.JPEG", ".hidden"):
        (tmp_path / "data/val" / name).write_bytes(b"x")
    (tmp_path / "m.yaml").write_text("WEIGHTS: {URL: 'http://x/y'}\n")
    return tmp_path


def tool(place: Path, name: str, script: str = "") -> None:
    (place / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / "bin" / name).chmod(0o755)


def call(*more: str) -> int:
    return doctor.main(["--cfg", "m.yaml", "--onnx", "m.onnx", "--dataset", "data", *more])


def told(out: str) -> dict[str, str]:
    return {line[:14].strip(): line[15:] for line in out.splitlines()}


def test_a_machine_without_an_npu(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--make", "4.3") == 0
    out, err = capsys.readouterr()
    lines = told(out)
    assert err == "" and out.endswith("m can run as asked\n")
    assert lines["python"] == f"{platform.python_version()} on {platform.machine()}, {sys.executable}"
    assert lines["make"] == "4.3"
    assert lines["numpy"] == importlib.metadata.version("numpy")
    assert lines["resize"].startswith("compiled" if COMPILED else "by Pillow: as exact, slower")
    assert (lines["atc"], lines["aoe"], lines["npu-smi"]) == ("not on PATH",) * 3
    assert lines["ais_bench"] == "not by python3: No such file or directory"
    assert lines["chip"] == "not known without npu-smi"
    assert lines["backend"] == "auto is onnxruntime: no atc on PATH"
    assert lines["remembered"] == "nothing"
    assert lines["data set"] == "data: 3 images"
    assert lines["disk"].endswith(" GB free, 0.0 GB needed for 3 images")


def test_a_machine_with_an_npu(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "atc")
    tool(place, "npu-smi", f'[ "$*" = info ] || exit 3\nwhile read -r line; do echo "$line"; done <<END\n{SMI}END')
    tool(place, "python3", '[ "$1" = -c ]')
    (place / "settings").mkdir()
    (place / "settings/SOC.mk").write_text("SOC := Ascend310P3\n")
    (place / "settings/BATCH.mk").write_text("BATCH := 4\n")
    assert call("--settings", "settings") == 0
    lines = told(capsys.readouterr().out)
    assert lines["atc"] == f"{place}/bin/atc"
    assert lines["ais_bench"] == "by python3"
    assert lines["chip"] == "SOC=Ascend310P3 (OK), SOC=Ascend310P3 (Alarm)"
    assert lines["backend"] == "auto is ascend: atc is on PATH"
    assert lines["remembered"] == "BATCH=4, SOC=Ascend310P3"


def test_each_thing_that_is_missing_has_its_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "npu-smi", f"while read -r line; do echo \"$line\"; done <<'END'\n{SMI.replace('310P3', '910B4')}END")
    tool(place, "board", 'echo Traceback >&2; echo "ImportError: no libascendcl.so" >&2; exit 1')
    asked = ("--backend", "ascend", "--ais_python", "board", "--dataset", "nowhere", "--reference", "torch")
    assert call(*asked, "--make", "4.1") == 2
    out, err = capsys.readouterr()
    torch = [] if HAS_TORCH else ['make.doctor: missing: torch: not installed; pip install ".[torch]", or make setup']
    assert err.splitlines() == [
        "make.doctor: missing: make: 4.1, expected GNU make 4.2 or later",
        *torch,
        "make.doctor: missing: atc: not on PATH; source /usr/local/Ascend/ascend-toolkit/set_env.sh",
        "make.doctor: missing: ais_bench: not by AIS_PYTHON=board (ImportError: no libascendcl.so); give the python "
        "that has it",
        "make.doctor: missing: SOC=Ascend310P3: not this machine's chip; give SOC=Ascend910B4",
        "make.doctor: missing: weights/m.pth: no such checkpoint; make weights",
        "make.doctor: missing: nowhere: no images (expected val/*.JPEG with val_label.txt, val/<class>/*, or "
        "val_list.txt); give DATASET=<folder>",
    ]
    assert "can run as asked" not in out
    assert told(out)["backend"] == "ascend, as asked"


def test_openvino_is_needed_only_where_it_is_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name, module: None if name == "openvino" else found(name, module))
    assert call() == 0
    assert told(capsys.readouterr().out)["openvino"] == "missing, for BACKEND=openvino"
    assert call("--backend", "openvino") == 2
    out, err = capsys.readouterr()
    assert told(out)["backend"] == "openvino, as asked"
    assert err == 'make.doctor: missing: openvino: not installed; pip install ".[openvino]", or make setup\n'


def test_a_tool_that_hangs_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT", 0.2)
    tool(place, "npu-smi", "while :; do :; done")
    assert call() == 0
    assert told(capsys.readouterr().out)["chip"] == "none: no answer in 0.2 s"


def test_disk_against_need(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """50,000 images of 224 x 224 with 1000 logits, float32: 30.3 GB; what is there already is not needed again."""
    (place / "data/val_label.txt").unlink()
    (place / "data/val_list.txt").write_text("".join(f"{i}.JPEG 0\n" for i in range(50_000)))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 12_340_000_000))
    assert call("--build", "b") == 2
    out, err = capsys.readouterr()
    assert told(out)["disk"] == "b: 12.3 GB free, 30.3 GB needed for 50000 images"
    assert err == "make.doctor: missing: b: 12.3 GB free of 30.3 GB; set BUILD= to a larger disk\n"
    assert call("--build", "b", "--input", "uint8") == 0
    assert told(capsys.readouterr().out)["disk"] == "b: 12.3 GB free, 7.7 GB needed for 50000 images"
    assert call("--build", "b", "--limit", "200") == 0
    assert told(capsys.readouterr().out)["disk"] == "b: 12.3 GB free, 0.1 GB needed for 200 images"
    (place / "prep").mkdir()
    with open(place / "prep/x.bin", "wb") as file:
        file.truncate(20_000_000_000)  # a hole
    assert call("--build", "b", "--prep", "prep") == 0
    assert told(capsys.readouterr().out)["disk"] == (
        "b: 12.3 GB free, 10.3 GB needed for 50000 images (20.0 GB are there)"
    )


def test_the_need_of_pose_is_that_of_its_middle_gear(tmp_path: Path) -> None:
    seed = load_config(Path(doctor.__file__).parents[1] / "configs/higher_hrnet_w32_512.yaml")
    assert doctor.values_an_image(seed) == (3 * 512 * 768, 34 * 128 * 192 + 17 * 256 * 384)
    path = tmp_path / "upstream.yaml"
    path.write_text("MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 640}")
    assert doctor.values_an_image(load_config(path)) == (3 * 640 * 640, 34 * 160 * 160 + 17 * 320 * 320)
    path.write_text("MODEL: {IMAGE_SIZE: [192, 224]}")
    assert doctor.values_an_image(load_config(path)) == (3 * 192 * 224, 1000)


def test_class_folders_are_counted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data/val_label.txt").unlink()
    for name in ("n1/x.JPEG", "n1/y.JPEG", "n2/x.JPEG"):
        (place / "data/val" / name).parent.mkdir(exist_ok=True)
        (place / "data/val" / name).write_bytes(b"x")
    assert doctor.count_images(place / "data", pose=False) == 3
    assert doctor.count_images(place / "data", pose=True) == 0


def test_cocos_images_are_counted_and_both_passes_need_disk(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    coco = place / "coco"
    (coco / "images/val2017").mkdir(parents=True)
    (coco / "images/val2017/1.jpg").touch()
    assert doctor.count_images(coco, pose=True) == 0, "no annotations"
    (coco / "annotations").mkdir()
    (coco / "annotations/person_keypoints_val2017.json").touch()
    assert doctor.count_images(coco, pose=True) == 1
    cfg = ROOT / "configs/higher_hrnet_w32_512.yaml"
    for passes, chunk, gigabytes in (("1", "0", "14.7"), ("2", "0", "24.8"), ("2", "100", "6.7")):
        monkeypatch.setattr(doctor, "count_images", lambda *_: 1000)
        doctor.main(["--cfg", str(cfg), "--dataset", str(coco), "--passes", passes, "--chunk", chunk])
        told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("disk "))
        assert f"{gigabytes} GB needed for 1000 images" in told, told


def test_a_bad_config_is_a_line_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m.yaml").write_text("WEIGHT: {}\n")
    assert call() == 2
    assert capsys.readouterr().err == "make.doctor: missing: m.yaml: unknown key WEIGHT; did you mean WEIGHTS?\n"


def test_it_works_where_nothing_is_installed(place: Path) -> None:
    """-S leaves out site-packages."""
    command = [sys.executable, "-S", "-m", "make.doctor", "--cfg", "configs/hrnet_w18.yaml"]
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    for name in ("numpy", "onnx", "onnxruntime", "Pillow", "PyYAML", "tqdm", "yacs"):
        assert f'missing: {name}: not installed; pip install ".", or make setup\n' in done.stderr
    assert 'missing: torch: not installed; pip install ".[torch]", or make setup\n' in done.stderr
    assert "Traceback" not in done.stderr
    lines = told(done.stdout)
    assert lines["mypy"] == "missing, for make check"
    assert lines["model"].startswith("not looked at without ")


def test_pyproject_names_the_same_packages() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in doctor.PACKAGES:
        assert f'"{name}' in text, name


def test_what_is_brought_is_not_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a board that a bundle came to: no compiler, no checkpoint, no data set."""
    tool(place, "python3", '[ "$1" = -c ]')
    inputs = place / "prep/inputs"
    inputs.mkdir(parents=True)
    for name in ("a.bin", "b.bin", "manifest.json"):
        (inputs / name).write_bytes(b"x")
    given = ["--onnx", "none.onnx", "--dataset", "nowhere", "--om", "my.om", "--prep", "prep/inputs", "--prepared"]
    lack = "make.doctor: missing: my.om"
    assert call(*given) == 2
    assert capsys.readouterr().err == f"{lack}: no such model; give OM=<file>, or OM= for that of make om\n"
    Path("my.om").touch()
    assert call(*given) == 2
    assert capsys.readouterr().err == f"{lack}.json: no record; write it by python -m atc.adopt --om my.om\n"
    Path("my.om.json").touch()
    assert call(*given) == 0
    lines = told(capsys.readouterr().out)
    assert (lines["backend"], lines["compiled"]) == ("auto is ascend: OM=my.om", "my.om, brought")
    assert lines["inputs"] == "prep/inputs: 2, brought" and "data set" not in lines and "checkpoint" not in lines


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torchscript_brings_torch_and_torch_aie_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--backend", "torchscript") == 0
    out, err = capsys.readouterr()
    assert err == "" and told(out)["backend"] == "torchscript, as asked"
    assert told(out)["torch_aie"] == "not installed, for BACKEND=torch_aie"
    assert call("--backend", "torch_aie") == 2
    line = "torch_aie: not installed; it comes from Huawei and no package index, beside its own torch"
    assert capsys.readouterr().err == f"make.doctor: missing: {line}\n"
    (place / "my.ts").write_bytes(b"PK")
    (place / "my.ts.json").touch()
    assert call("--om", "my.ts") == 0
    assert told(capsys.readouterr().out)["backend"] == "auto is torchscript: OM=my.ts"
