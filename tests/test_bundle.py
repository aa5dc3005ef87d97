"""`make bundle`, from a machine with a compiler to a board that has none, and models that were compiled elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from PIL import Image

from hrnet.io.files import make_folder
from tests.support import ROOT, fakes
from tests.support.board import Board
from tests.support.checkout import Checkout
from tests.support.onnx_models import classifier
from tests.support.processes import lines_until

COUNT = 20
SETTINGS = ["DATASET=photos", "ONNX=own.onnx", "BATCH=4", "GATE=100", "REFERENCE=config", "BACKEND=onnxruntime"]
BUILT = "build/demo_digits"
# Packages that no board has. Only a board that runs the emulator has onnxruntime.
ABSENT = ("torch", "onnx", "simplejpeg", "safetensors")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with an ONNX file of its own and 20 labelled images for the demo's config: evaluated and packed."""
    checkout = Checkout(tmp_path_factory.mktemp("host"))
    for name in ("constraints.txt", "LICENSE"):
        shutil.copy(ROOT / name, checkout.root)
    onnx.save(classifier(size=64), checkout.root / "own.onnx")
    images(checkout.root / "photos")
    done = checkout.make("onnx", "om", "preprocess", "eval", "bundle", *SETTINGS)
    assert done.returncode == 0, done.stderr
    return checkout


def images(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "val").mkdir(parents=True)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((70, 70)).save(folder / f"val/img{number}.png")
    (folder / "val_label.txt").write_text("".join(f"img{n}.png {n % 10}\n" for n in range(COUNT)))


class Packed(NamedTuple):
    """The files of the fixture on the host."""

    archive: Path
    metrics: Path
    om: Path


@pytest.fixture(scope="module")
def packed(host: Checkout) -> Packed:
    built = host.root / BUILT
    return Packed(
        built / "bundle/demo_digits-onnxruntime-bs4-fp32-photos-float32.tar",
        built / "eval/photos-float32/onnxruntime-bs4-fp32.json",
        built / "om/bs4-float32-fp32.onnx",
    )


def test_a_board_computes_the_hosts_top1_to_top5(packed: Packed, tmp_path: Path) -> None:
    expected = json.loads(packed.metrics.read_text())
    board = Board(tmp_path, packed.archive, ABSENT)
    assert board.root.name.startswith(f"{packed.archive.stem}-")
    for path in board.root.rglob("*"):
        mode, wanted = path.stat().st_mode & 0o777, 0o750 if path.is_dir() else 0o640
        assert (path.is_symlink(), mode, path.stat().st_mtime) == (False, wanted, 1), path
    done = board.make("infer", "eval", "MODEL=demo_digits", "PYTHON=python3", "AIS_PYTHON=python3")
    assert done.returncode == 0, done.stderr
    stages = ("pth2onnx.classification", "atc.convert", "preprocess.classification")
    assert not any(f"-m {stage}" in done.stdout for stage in stages)
    found = board.metrics()
    for key in ("metrics", "images", "counts", "verdict", "reference", "drop", "model"):
        assert found[key] == expected[key], key
    for key in ("manifest_sha256", "model_sha256"):
        assert found["evaluated"][key] == expected["evaluated"][key], key
    again = board.make("eval")
    assert again.returncode == 0 and " -m infer.run" not in again.stdout and "PASS: demo_digits" in again.stdout
    due = board.make("-n", "eval", "GATE=99").stdout
    assert " -m postprocess.classification" in due and "-m infer.run" not in due, "a setting of the board's own"
    assert "is ignored" not in again.stderr
    for given in ("INPUT=uint8", "BATCH=2", "BATCHES=1,8", "LOOP=3", "SOC=Ascend910B1", "LIMIT=3", "DATASET=prep"):
        assert f"{given} is ignored" in board.make("gate", given).stderr
    kept = [path.name for path in (board.root / "build/demo_digits/settings").iterdir()]
    assert kept == ["AIS_PYTHON.mk"], "what has no effect is not remembered"
    assert not re.search("BATCHES|LOOP", (board.root / "bundle.mk").read_text())
    assert "--models model/bs4-float32-fp32.onnx --metrics build/" in board.make("-n", "serve").stdout
    assert board.make("clean").returncode == 0
    assert (board.root / "model").is_dir() and (board.root / "prep").is_dir(), (
        "the given model and inputs are not products"
    )


@pytest.mark.slow
def test_a_board_serves_what_passed(packed: Packed, tmp_path: Path) -> None:
    """Only with the files of the bundle, without torch and onnx, as its README describes."""
    board = Board(tmp_path, packed.archive, ("torch", "onnx", "safetensors"))
    assert "starlette" in (text := (board.root / "README.md").read_text()) and "simplejpeg" in text
    words = ("MODEL=demo_digits", "PYTHON=python3")
    assert board.make("infer", "eval", *words).returncode == 0
    with board.start("serve", *words, "PORT=0") as process:
        lines = lines_until(process, "ready: ")
        process.terminate()
    assert "batch sizes 4; PASS: demo_digits" in lines[-1], lines


def test_a_bundle_is_packed_only_after_a_change_and_with_equal_bytes(host: Checkout, packed: Packed) -> None:
    first = packed.archive.read_bytes()
    assert "-m make.bundle" not in host.make("-n", "bundle", "GATE=100").stdout
    with tarfile.open(packed.archive) as archive:
        members = archive.getmembers()
    names = [member.name.partition("/")[2] for member in members]
    assert names == sorted(names, key=lambda name: name.split("/"))
    folders = "configs hrnet hrnet/io hrnet/nets hrnet/pose infer infer/emulator infer/runtimes make model"
    assert [name for name, member in zip(names, members) if member.isdir()] == [
        *("", *folders.split(), "postprocess", "prep", "prep/photos-float32", "preprocess", "serve")
    ]
    listed = (ROOT / "docs/formats.md").read_text().partition("## `bundle/")[2].split("```")[1]
    assert not [name for name in folders.split() if "/" not in name and f"{name}/" not in listed]
    assert not [name for name in names if name and "/" not in name and name not in listed]
    model = "model/bs4-float32-fp32.onnx"
    products = {"bundle.mk", "README.md", "Makefile", model, f"{model}.json", "configs/demo_digits.yaml"}
    assert products < set(names) and sum(name.endswith(".bin") for name in names) == COUNT
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    (host.root / "infer/emulator/path_checks.py").touch()
    assert "-m make.bundle" in host.make("bundle", "GATE=100").stdout
    assert packed.archive.read_bytes() == first
    assert "-m make.bundle" in host.make("bundle", "GATE=2").stdout
    with tarfile.open(packed.archive) as changed, tarfile.open(fileobj=io.BytesIO(first)) as before:
        assert changed.getnames()[0] != before.getnames()[0], "another bundle has another directory"


def test_a_model_of_atc_is_judged_by_the_hosts_reference(host: Checkout, packed: Packed, tmp_path: Path) -> None:
    """atc on the host, ais_bench on the board; the bundle contains the host's metrics as the reference."""
    tools, npu, place = tmp_path / "tools", tmp_path / "npu", tmp_path / "board"
    for folder in (tools, npu, place):
        folder.mkdir()
    fakes.atc(tools)
    python = fakes.ais_python(npu)
    prep, reference = f"{BUILT}/prep/photos-float32", packed.metrics.relative_to(host.root)
    given = ["BUILD=npu", "BACKEND=auto", "SOC=310P3", f"PREP={prep}", f"REFERENCE={reference}", "GATE=0"]
    done = host.make("bundle", *SETTINGS[:3], *given, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    archive = host.root / "npu/demo_digits/bundle/demo_digits-ascend-bs4-Ascend310P3-photos-float32.tar"
    board = Board(place, archive, (*ABSENT, "onnxruntime"))
    shown = board.make("doctor", f"AIS_PYTHON={python}").stdout
    assert (
        "\nbackend        ascend (as given)\n" in shown
        and f"\ninputs         prep/photos-float32: {COUNT} inputs\n" in shown
    )
    done = board.make("infer", "eval", f"AIS_PYTHON={python}")
    assert done.returncode == 0, done.stderr
    assert "-m ais_bench --model model/bs4-float32-Ascend310P3.om --input prep/photos-float32 " in done.stdout
    expected, found = json.loads(packed.metrics.read_text()), board.metrics()
    assert found["metrics"] == expected["metrics"] and found["tool"] == "ais_bench"
    assert found["verdict"] == "pass" and found["drop"]["points"] == 0
    assert " on the same images): a drop of 0.00 points, 0 allowed" in board.make("gate").stdout


def test_a_bundle_can_preprocess_on_the_board(host: Checkout, packed: Packed, tmp_path: Path) -> None:
    om = packed.om.relative_to(host.root)
    given = ["BUILD=stage", "BUNDLE=stage", "LIMIT=7", f"OM={om}", "GATE=100", "REFERENCE=config"]
    done = host.make("bundle", *given)
    assert done.returncode == 0, done.stderr
    assert not (host.root / "stage/demo_digits/prep").exists()
    archive = host.root / "stage/demo_digits/bundle/demo_digits-onnxruntime-om-bs4-float32-fp32-stage.tar"
    board = Board(tmp_path, archive, ("torch", "onnx"))
    assert not (board.root / "prep").exists()
    given = ("BATCH=2", "BATCHES=1,8", "LOOP=3", "CALIB=9", "SOC=Ascend910B1", "KEEP_FLOAT=auto")
    shown = board.make("preprocess", f"DATASET={host.root}/photos", *given).stderr
    assert all(f"{each} is ignored" in shown for each in given), shown
    assert [path.name for path in (board.root / "build/demo_digits/settings").iterdir()] == ["DATASET.mk"]
    shutil.rmtree(board.root / "build")
    for target in ("preprocess", "eval", "doctor"):
        done = board.make(target)
        assert done.returncode == 2 and "no DATASET: this bundle contains no images; give DATASET=" in done.stderr
        assert "data/imagenet" not in done.stderr
    images(tmp_path / "own")
    done = board.make("preprocess", "infer", "eval", f"DATASET={tmp_path}/own")
    assert done.returncode == 0, done.stderr
    assert board.metrics()["images"] == 7
    done = board.make("show")
    assert done.returncode == 0 and "show.png" in done.stdout, done.stderr


def test_a_board_judges_an_onnx_classifier_by_the_hosts_reference(host: Checkout, tmp_path: Path) -> None:
    """The board judges the same images and rejects others; without a reference the run is not judged."""
    (host.root / "any.yaml").write_text("MODEL: {NAME: onnx}\nINPUT: {MEAN: [0, 0, 0], STD: [1, 1, 1]}\n")
    given = ["BUILD=any", "BUNDLE=stage", "CFG=any.yaml", "ONNX=own.onnx", "DATASET=photos", "BACKEND=onnxruntime"]
    done = host.make("bundle", *given, "REFERENCE=onnx", model="any")
    assert done.returncode == 0, done.stderr
    (archive,) = (host.root / "any/any/bundle").glob("*.tar")
    board = Board(tmp_path, archive, ("torch", "onnx"))
    done = board.make("doctor", f"DATASET={host.root}/photos")
    assert done.returncode == 0 and "ready to run any" in done.stdout, done.stderr
    done = board.make("eval", f"DATASET={host.root}/photos")
    assert done.returncode == 0 and "in float32 on the same images): a drop of 0.00 points" in done.stdout, done.stderr
    done = board.make("eval", "LIMIT=3")
    assert done.returncode == 2 and "reference.json: the reference was computed on other images" in done.stderr
    hint = done.stderr.partition("to accept NOT JUDGED: ")[2].splitlines()[0]
    done = board.make(*hint.split()[1:])
    assert done.returncode == 0 and "NOT JUDGED: any top1" in done.stdout, done.stderr


def test_a_board_names_what_it_has(packed: Packed, tmp_path: Path) -> None:
    """Its help has only targets that exist there, and no hint names a command or a file that it lacks."""
    board = Board(tmp_path, packed.archive, (*ABSENT, "onnxruntime", "openvino"))
    shown = board.make("help").stdout
    listed = [line.split()[0] for line in shown.split("\n\n")[1].splitlines()]
    assert {"infer", "eval", "serve"} < set(listed) and not {"setup", "bench", "onnx", "report"} & set(listed)
    for target in ("setup", "bench", "test", "nonsense"):
        done = board.make(target)
        assert done.returncode == 2 and f"make {target}: not available in a bundle" in done.stderr and not done.stdout
        assert all(name in done.stderr for name in listed), done.stderr
    assert board.make("doctor").returncode == 0
    for words, package in ((("infer",), "onnxruntime"), (("infer", "BACKEND=openvino"), "openvino")):
        done = board.make(*words)
        assert done.returncode == 2 and f" -m pip install -c constraints.txt {package}" in done.stderr
        assert "make setup" not in done.stderr
    assert not (board.root / "build/demo_digits/settings/BACKEND.mk").exists()
    for reference, file in (("torch", "weights/demo_digits.pth"), ("onnx", "build/demo_digits/model.onnx")):
        done = board.make("eval", f"REFERENCE={reference}")
        assert done.returncode == 2 and f"{file} is not in the bundle; give REFERENCE=" in done.stderr, done.stderr
    done = board.make("infer", "PREP=nowhere")
    assert done.returncode == 2 and "PREP=nowhere: no such file" in done.stderr and "leave out PREP=" in done.stderr
    (board.root / "prep/photos-float32/img3.bin").unlink()
    done = board.make("infer")
    assert "this board has no make preprocess; on the machine that packed the bundle: " in done.stderr, done.stderr


def test_a_model_compiled_elsewhere_runs_after_adopt(host: Checkout, tmp_path: Path) -> None:
    """Without a record, one line shows the command that writes it; then the model runs."""
    fakes.atc(tmp_path)
    python = fakes.ais_python(tmp_path)
    make_folder(host.root / "elsewhere")
    shapes = ["--input_format=NCHW", "--input_shape=image:5,3,64,64", "--soc_version=Ascend310"]
    atc = [tmp_path / "atc", "--framework=5", "--model=own.onnx", "--output=elsewhere/my", *shapes]
    subprocess.run(atc, cwd=host.root, check=True, stdout=subprocess.DEVNULL)
    given = [
        "DATASET=photos",
        "GATE=100",
        "REFERENCE=config",
        "BATCH=4",
        "ONNX=own.onnx",
        "BUILD=mine",
        "OM=elsewhere/my.om",
    ]
    done = host.make("infer", "eval", *given, f"AIS_PYTHON={python}")
    assert done.returncode == 2 and "preprocess" not in done.stdout
    hint = f"{sys.executable} -m atc.adopt --om elsewhere/my.om --model <its ONNX file> --batch_size <its batch>"
    assert "elsewhere/my.om.json is missing" in done.stderr and hint in done.stderr
    words = ["-m", "atc.adopt", "--om", "elsewhere/my.om", "--model", "own.onnx", "--batch_size", "5"]
    subprocess.run([sys.executable, *words], cwd=host.root, check=True, stdout=subprocess.DEVNULL)
    done = host.make("infer", "eval", *given, f"AIS_PYTHON={python}")
    assert done.returncode == 0, done.stderr
    assert "BACKEND=auto: using ascend (OM=elsewhere/my.om)" in done.stderr, "by its ending, without atc"
    assert "BATCH=4 is ignored because OM=elsewhere/my.om is set" in done.stderr
    assert "-m ais_bench --model elsewhere/my.om " in done.stdout and "-m atc.convert" not in done.stdout
    (metrics,) = host.root.glob("mine/demo_digits/eval/*/*.json")
    assert metrics.name == "ascend-om-my.json"
    assert "-m infer.run" not in host.make("eval", "BUILD=mine").stdout
    subprocess.run([sys.executable, *words], cwd=host.root, check=True, stdout=subprocess.DEVNULL)
    assert "-m infer.run" in host.make("-n", "eval", "BUILD=mine").stdout, "another record, another run"
    back = host.make("-n", "eval", "BUILD=mine", "OM=", "BATCH=4", "ONNX=own.onnx", "BACKEND=onnxruntime").stdout
    assert "--output mine/demo_digits/om/bs4-float32-fp32.onnx" in back and "onnxruntime-bs4-fp32 " in back
    rejected = host.make("infer", "BUILD=mine", "BACKEND=onnxruntime").stderr
    assert "OM=elsewhere/my.om (remembered in " in rejected and "BACKEND=onnxruntime needs a .onnx file" in rejected


def test_a_compiled_onnx_file_from_elsewhere_runs(host: Checkout, packed: Packed) -> None:
    shutil.copy(packed.om, host.root / "theirs.onnx")
    given = ["DATASET=photos", "BUILD=theirs", "OM=theirs.onnx"]
    done = host.make("infer", *given)
    assert done.returncode == 2 and f"{sys.executable} -m atc.adopt --om theirs.onnx" in done.stderr
    words = [sys.executable, "-m", "atc.adopt", "--om", "theirs.onnx"]
    subprocess.run(words, cwd=host.root, check=True, stdout=subprocess.DEVNULL)
    done = host.make("infer", *given)
    assert done.returncode == 0, done.stderr
    assert (host.root / "theirs/demo_digits/out/photos-float32/onnxruntime-om-theirs_run.json").exists()


def test_a_model_tuned_by_aoe_is_a_separate_product(host: Checkout, tmp_path: Path) -> None:
    fakes.atc(tmp_path)
    fakes.aoe(tmp_path)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = host.make("om", *SETTINGS[:3], "BUILD=tuned", "TUNE=aoe", "BACKEND=ascend", PATH=path)
    assert done.returncode == 0, done.stderr
    om = "tuned/demo_digits/om/bs4-float32-Ascend310P3-aoe"
    command = "aoe --framework=5 --model=own.onnx --input_format=NCHW --input_shape=image:4,3,64,64 --output="
    for job in (1, 2):
        assert f"{command}{om} --job_type={job}\n" in done.stdout
    commands = host.make("-n", "infer", "BUILD=tuned", PATH=path).stdout
    assert f"--model {om}.om " in commands and "/ascend-bs4-Ascend310P3-aoe " in commands
