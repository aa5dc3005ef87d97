"""make/doctor.py with fakes of npu-smi, atc and AIS_PYTHON on PATH, and in an interpreter without packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

import hrnet
from hrnet.cli import UserError
from hrnet.config import load_config
from hrnet.resample import COMPILED
from make import doctor, doctor_tools
from make.packages import PACKAGES
from tests.make.doctor_calls import call, report, tool
from tests.support import ROOT, coco_sets
from tests.support.linear_model import prep_folder

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


def test_the_report_of_a_machine_without_an_npu(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    out, err = capsys.readouterr()
    lines = report(out)
    assert err == "" and out.endswith("ready to run m\n")
    assert lines["python"] == f"{platform.python_version()} on {platform.machine()}, {sys.executable}"
    assert lines["make"] == "4.3"
    assert lines["numpy"] == importlib.metadata.version("numpy")
    assert lines["resize"].startswith("in C" if COMPILED else "Pillow")
    assert COMPILED or lines["resize"].endswith(" install --no-deps -e ."), (
        "an editable install: the stages import hrnet from this directory"
    )
    assert (lines["atc"], lines["aoe"], lines["npu-smi"]) == ("not on PATH",) * 3
    assert lines["ais_bench"] == "not found by python3: No such file or directory"
    assert lines["chip"] == "unknown without npu-smi"
    assert lines["backend"] == "onnxruntime (auto: atc is not on PATH)"
    assert lines["remembered"] == "nothing"
    assert lines["data set"] == "data: 3 images"
    assert lines["disk"].endswith(" MB needed for 3 images")


def test_the_report_of_a_machine_with_an_npu(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "atc")
    tool(place, "npu-smi", f'[ "$*" = info ] || exit 3\nwhile read -r line; do echo "$line"; done <<END\n{SMI}END')
    tool(place, "python3", '[ "$1" = -c ]')
    (place / "build/m/settings").mkdir(parents=True)
    (place / "build/m/settings/SOC.mk").write_text("SOC ?= Ascend310P3\n")
    (place / "build/m/settings/BATCH.mk").write_text("BATCH ?= 4\n")
    # listed, but not used: the call below gives an empty OM=
    (place / "build/m/settings/OM.mk").write_text("OM ?= my.om\n")
    assert call(BATCH="4") == 0
    lines = report(capsys.readouterr().out)
    assert lines["atc"] == f"{place}/bin/atc"
    assert lines["ais_bench"] == "found by python3"
    assert lines["chip"] == "SOC=Ascend310P3 (OK), SOC=Ascend310P3 (Alarm)"
    assert lines["backend"] == "ascend (auto: atc is on PATH)"
    assert lines["remembered"] == "BATCH=4, OM=my.om, SOC=Ascend310P3"


def test_each_missing_requirement_is_reported_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(place, "npu-smi", f"while read -r line; do echo \"$line\"; done <<'END'\n{SMI.replace('310P3', '910B4')}END")
    tool(place, "board", 'echo Traceback >&2; echo "ImportError: no libascendcl.so" >&2; exit 1')
    assert call("4.1", BACKEND="ascend", AIS_PYTHON="board", DATASET="nowhere", REFERENCE="torch") == 2
    out, err = capsys.readouterr()
    parts = [
        ("make: 4.1", "4.2"),
        *([] if HAS_TORCH else [("torch", ".[torch]")]),
        ("AIS_PYTHON=board", "no libascendcl.so"),
        ("SOC=Ascend310P3", "SOC=Ascend910B4"),
        ("BACKEND=ascend", "set_env.sh"),
        ("weights/m.pth", "make weights MODEL=m"),
        ("nowhere", "val_label.txt"),
    ]
    lines = err.splitlines()
    assert len(lines) == len(parts)
    for line, (what, hint) in zip(lines, parts):
        assert line.startswith("make doctor: error: ") and what in line and hint in line
    assert "ready to run" not in out
    assert report(out)["backend"] == "ascend (as given)"


def test_openvino_is_needed_only_where_it_is_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor_tools.version_of
    monkeypatch.setattr(
        doctor_tools, "version_of", lambda name, module: None if name == "openvino" else found(name, module)
    )
    assert call() == 0
    assert report(capsys.readouterr().out)["openvino"] == "missing (needed for BACKEND=openvino)"
    assert call(BACKEND="openvino") == 2
    out, err = capsys.readouterr()
    assert report(out)["backend"] == "openvino (as given)"
    assert err.count("\n") == 1 and 'pip install ".[openvino]"' in err


def test_a_tool_that_hangs_is_stopped(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_tools, "TIMEOUT", 0.2)
    tool(place, "npu-smi", "while :; do :; done")
    assert call() == 0
    assert report(capsys.readouterr().out)["chip"] == "unknown, npu-smi info failed: no answer in 0.2 s"


def test_a_file_with_a_time_in_the_future_is_reported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with a time in the future is named; a minute of difference is tolerated."""
    later = time.time() + 30
    os.utime("m.yaml", (later, later))
    assert call() == 0
    assert "future" not in "".join(capsys.readouterr())
    os.utime("m.yaml", (later + 3600, later + 3600))
    assert call() == 0
    printed = "".join(capsys.readouterr())
    assert "m.yaml: its time is 36" in printed and "every call of make" in printed and "touch m.yaml" in printed


def test_free_disk_space_is_compared_with_the_needed_space(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """50,000 images of 224 x 224 with 1000 logits need 30.3 GB in float32; existing files are subtracted."""
    monkeypatch.setattr(doctor, "count_images", lambda *_: (50_000, 0))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 12_340_000_000))
    assert call(BUILD="b") == 2
    out, err = capsys.readouterr()
    assert report(out)["disk"] == "b: 12.3 GB free, 30.3 GB needed for 50000 images"
    assert err.count("\n") == 1 and "12.3 GB free, 30.3 GB needed;" in err and "BUILD=" in err
    assert call(BUILD="b", INPUT="uint8") == 0
    assert report(capsys.readouterr().out)["disk"] == "b: 12.3 GB free, 7.7 GB needed for 50000 images"
    assert call(BUILD="b", LIMIT="200") == 0
    assert report(capsys.readouterr().out)["disk"] == "b: 12.3 GB free, 121.2 MB needed for 200 images"
    (place / "prep").mkdir()
    with open(place / "prep/x.bin", "wb") as file:
        file.truncate(20_000_000_000)  # a sparse file, which takes no disk space
    assert call(BUILD="b", inputs="prep") == 0
    assert report(capsys.readouterr().out)["disk"].startswith(
        "b: 12.3 GB free, 10.3 GB needed for 50000 images (20.0 GB"
    )


def test_disk_space_for_pose_is_computed_for_the_median_gear(tmp_path: Path) -> None:
    shipped = load_config(Path(doctor.__file__).parents[1] / "configs/higher_hrnet_w32_512.yaml")
    assert doctor.values_per_image(shipped) == (3 * 512 * 768, 34 * 128 * 192 + 17 * 256 * 384)
    path = tmp_path / "upstream.yaml"
    path.write_text("MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 640}\n" + coco_sets.DECODING)
    assert doctor.values_per_image(load_config(path)) == (3 * 640 * 640, 34 * 160 * 160 + 17 * 320 * 320)
    path.write_text("MODEL: {IMAGE_SIZE: [192, 224]}")
    assert doctor.values_per_image(load_config(path)) == (3 * 192 * 224, 1000)


def test_data_sets_are_read_as_preprocessing_reads_them(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data/val/gone.JPEG").symlink_to("nowhere")
    with (place / "data/val_label.txt").open("a") as file:
        file.write("gone.JPEG 3\n")
    for given in ({"MAX_REJECTED": "1"}, {"LIMIT": "2"}):
        assert call(**given) == 0
        assert report(capsys.readouterr().out)["data set"] == "data: 3 images, 1 file would be rejected"
    assert call() == 2
    error = capsys.readouterr().err
    assert "data: 1 file would be rejected, 0 allowed" in error and error.endswith("MAX_REJECTED=1\n")
    (place / "data/val_label.txt").unlink()
    for name in ("n1/x.JPEG", "n1/y.JPEG", "n2/x.JPEG", "empty/.hidden"):
        (place / "data/val" / name).parent.mkdir(exist_ok=True)
        (place / "data/val" / name).write_bytes(b"x")
    assert call() == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("make doctor: error: data/val: wrong number of class directories ") and error.count("\n") == 1
    )
    assert "expected 1000" in error and "1 without images: empty" in error
    (place / "m.yaml").write_text("MODEL: {NUM_CLASSES: 2}\n")
    assert call(MAX_REJECTED="4") == 0
    assert report(capsys.readouterr().out)["data set"] == "data: 3 images, 4 files would be rejected"


def test_a_data_set_that_does_not_exist_is_missing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(DATASET="gone") == 2
    shown = capsys.readouterr()
    assert report(shown.out)["data set"] == "gone is missing" and "error: gone: no such data set" in shown.err
    assert report(shown.out)["disk"].endswith(" GB free"), "the number of images is not known"
    (place / "empty").mkdir()
    assert call(DATASET="empty") == 2
    assert report(capsys.readouterr().out)["data set"] == "empty: no images"


def test_the_hint_for_a_missing_checkpoint_downloads_only_to_the_default_path(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(REFERENCE="torch") == 2
    assert "weights/m.pth: no such checkpoint; make weights MODEL=m " in capsys.readouterr().err
    assert call(REFERENCE="torch", WEIGHTS="my.pth") == 2
    hint = "give WEIGHTS=<file>; or make weights MODEL=m "
    err = capsys.readouterr().err
    assert f"my.pth: no such checkpoint; {hint}" in err and err.endswith(" WEIGHTS=weights/m.pth\n")


def test_coco_sets_are_read_and_both_passes_need_disk(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    coco = place / "coco"
    (place / "pose.yaml").write_text("MODEL: {NAME: pose_higher_hrnet}\nDATASET: {TEST: mine}\n" + coco_sets.DECODING)
    config = load_config(place / "pose.yaml")
    (coco / "images/mine").mkdir(parents=True)
    (coco / "images/mine/1.jpg").touch()
    with pytest.raises(UserError, match="no annotations/person_keypoints_mine"):
        doctor.count_images(coco, config)
    (coco / "annotations").mkdir()
    listed = {"images": [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 8}], "annotations": []}
    content = {**listed, "categories": [{"id": 1, "name": "person"}]}
    (coco / "annotations/person_keypoints_mine.json").write_text(json.dumps(content))
    assert doctor.count_images(coco, config) == (1, 0)
    monkeypatch.setattr(doctor, "count_images", lambda *_: (1000, 0))
    monkeypatch.chdir(ROOT)
    for backend, flip, gigabytes in (
        ("onnxruntime", "0", "14.7"),
        ("onnxruntime", "1", "24.8"),
        ("ascend", "1", "29.5"),
    ):
        values = {"FLIP": flip, "SHARDS": "1", "DATASET": str(coco), "BACKEND": backend, "BUILD": str(place / "b")}
        call(
            inputs=str(place / "none"), MODEL="higher_hrnet_w32_512", CFG="configs/higher_hrnet_w32_512.yaml", **values
        )
        assert f"{gigabytes} GB needed for 1000 images" in report(capsys.readouterr().out)["disk"]


def test_an_invalid_config_is_reported_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m.yaml").write_text("WEIGHT: {}\n")
    assert call() == 2
    assert "m.yaml: unknown key WEIGHT; did you mean WEIGHTS?" in capsys.readouterr().err


def test_the_doctor_works_without_packages(place: Path) -> None:
    """With -S, Python does not find site-packages."""
    (place / "bin/python_s").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (place / "bin/python_s").chmod(0o755)
    command = ["make", "doctor", "MODEL=hrnet_w18", f"PYTHON={place}/bin/python_s", f"BUILD={place}/build"]
    env = {"PATH": os.defpath}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if "not installed; " in line and "torch_npu" not in line)
    assert line.endswith(f'; {sys.executable} -m pip install ".[torch]", or make setup'), "one command for all"
    named = set(line.split(": ")[2].split(", "))
    assert named > {"numpy", "onnx", "onnxruntime", "Pillow", "PyYAML", "tqdm", "yacs", "torch"}
    assert "Traceback" not in done.stderr
    lines = report(done.stdout)
    assert lines["mypy"] == "missing (needed for make check)"
    assert "not checked: " in lines["model"]


def test_pyproject_names_the_same_packages() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in PACKAGES:
        assert f'"{name}' in text, name


def test_a_given_model_and_inputs_need_no_compiler_or_data_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a board with a bundle."""
    tool(place, "python3", '[ "$1" = -c ]')
    inputs = place / "prep/inputs"
    inputs.mkdir(parents=True)
    inputs.rmdir()
    prep_folder(inputs, 2)
    given = {"ONNX": "none.onnx", "DATASET": "nowhere", "OM": "my.om", "PREP": "prep/inputs", "inputs": "prep/inputs"}
    assert call(**given) == 2
    assert capsys.readouterr().err.startswith("make doctor: error: OM=my.om: ")
    Path("my.om").touch()
    assert call(**given) == 2
    err = capsys.readouterr().err
    assert err.startswith("make doctor: error: my.om.json ") and "-m atc.adopt --om my.om" in err
    Path("my.om.json").touch()
    assert call(**given) == 0
    lines = report(capsys.readouterr().out)
    assert lines["backend"] == "ascend (auto: OM=my.om)" and "my.om" in lines["compiled"]
    assert lines["inputs"].startswith("prep/inputs: 2") and "data set" not in lines and "checkpoint" not in lines


def test_given_inputs_are_checked_as_a_data_set_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep_folder(place / "prep", 3)
    (place / "m.yaml").write_text("MODEL: {NUM_CLASSES: 5}\n")
    weights = place / "weights/m.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"\x80\x02")
    assert call(PREP="prep") == 0 and report(capsys.readouterr().out)["inputs"] == "prep: 3 inputs"
    assert call(PREP="prep", INPUT="uint8") == 2
    assert "INPUT=float32" in capsys.readouterr().err
    (place / "prep/img1.bin").unlink()
    assert call(PREP="prep") == 2
    err = capsys.readouterr().err
    assert "error: prep: 1 of 3 inputs in manifest.json are missing: img1.bin; give a complete directory" in err
    manifest = place / "prep/manifest.json"
    manifest.write_text(manifest.read_text()[:99])
    assert call(PREP="prep") == 2
    assert "error: prep/manifest.json: not JSON" in capsys.readouterr().err
    assert call(PREP="perp", inputs="perp") == 2
    err = capsys.readouterr().err
    assert err == "make doctor: error: PREP=perp: no such file or directory; did you mean PREP=prep?\n"


@pytest.mark.parametrize("config", ["", "MODEL: {NAME: onnx, NUM_CLASSES: 9, IMAGE_SIZE: [8, 8]}\n"])
def test_a_board_needs_only_the_packages_of_its_bundle(
    config: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs neither onnx, even for a model that was given as an ONNX file, nor the other packages of make setup."""
    monkeypatch.setattr(hrnet, "BOARD", True)
    monkeypatch.setattr(doctor_tools, "version_of", lambda name, module: None)
    (place / "m.yaml").write_text(config)
    (place / "m.onnx").unlink()
    (place / "prep").mkdir()
    for name in ("my.onnx", "my.onnx.json", "prep/manifest.json"):
        (place / name).touch()
    for backend in ("onnxruntime", "openvino"):
        assert call(OM="my.onnx", PREP="prep", BACKEND=backend, ONNX="build/m/model.onnx") == 2
        out, err = capsys.readouterr()
        (line,) = (line for line in err.splitlines() if "not installed" in line)
        missing = set(line.split(": ")[2].split(", "))
        assert missing == {"numpy", "Pillow", "PyYAML", "tqdm", "yacs", backend}
        command = line.partition(" -m pip install -c constraints.txt ")[2]
        assert set(command.split()) == missing and "make setup" not in err
        shown = report(out)
        assert missing < set(shown) and not {"onnx", "torch", "torch_npu", "scikit-learn", "ruff"} & set(shown)


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_is_required_only_by_backends_that_use_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "m.ts").touch()
    assert call(BACKEND="torchscript") == 0
    out, err = capsys.readouterr()
    assert err == "" and report(out)["backend"] == "torchscript (as given)"
    assert report(out)["torch_aie"] == "not installed (needed for BACKEND=torch_aie)"
    assert call(BACKEND="torch_aie") == 2
    assert capsys.readouterr().err.startswith("make doctor: error: torch_aie: ")
    (place / "my.ts").write_bytes(b"PK")
    (place / "my.ts.json").touch()
    assert call(OM="my.ts") == 0
    assert report(capsys.readouterr().out)["backend"] == "torchscript (auto: OM=my.ts)"
