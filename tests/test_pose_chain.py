"""The pose pipeline through make: the emulator, the fakes of the NPU's tools, parts and the flip test agree; with the
oracle's outputs instead of a network's, the pipeline computes COCO's AP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import people as drawn_people
from hrnet.gears import whole_size
from hrnet.io.coco import read_keypoints
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from postprocess import pose
from preprocess import pose as preprocess
from pth2onnx import pose as export
from tests.support import ROOT, fakes, tiny
from tests.support.board import Board
from tests.support.checkout import Checkout
from tests.support.pose_run import write_runs
from tests.support.real_images import COCO, needs_coco

MODEL, IMAGES = "tiny_pose", 5
EMULATED, ASCEND = "onnxruntime-bs1-fp32", "ascend-bs1-Ascend310P3"
CHAIN = ("pth2onnx.pose", "atc.convert", "preprocess.pose", "infer.run", "postprocess.pose")


class PoseCheckout(Checkout):
    def make(self, *arguments: str, model: str = MODEL, **environment: str) -> subprocess.CompletedProcess[str]:
        """No reference is known for these weights: `not judged` is accepted."""
        return super().make(*arguments, model=model, **{"GATE": "none", **environment})

    def pose(self, *arguments: str, code: int = 0, **environment: str) -> list[str]:
        """Which stages a call runs, in order."""
        done = self.make(*arguments, model=MODEL, **environment)
        assert done.returncode == code, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{sys.executable} -m ")]
        modules = [line.split()[2] for line in lines]
        return [stage for stage in modules if stage not in ("infer.emulator", "postprocess.gate")]

    def place(self, folder: str, name: str = "people-float32", build: str = "build") -> Path:
        return self.root / build / MODEL / folder / name

    def keypoints(self, tag: str = EMULATED, name: str = "people-float32", build: str = "build") -> Path:
        return self.place("eval", name, build) / tag / "keypoints.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> PoseCheckout:
    """A checkout in which the whole chain ran, with the emulators and the flip test. The weights are random, but the
    values in the maps are as large as those of a trained net, so it finds people everywhere."""
    checkout = PoseCheckout(tmp_path_factory.mktemp("pose_chain"))
    root = checkout.root
    for name in ("constraints.txt", "LICENSE"):
        shutil.copy(ROOT / name, root)
    weights = tiny.write_pose_weights(root / "weights")
    shutil.move(weights.with_suffix(".yaml"), root / "configs")
    data = ["--output", str(root / "data/people"), "--images", str(IMAGES), "--size", "64", "--seed", "4"]
    assert drawn_people.main(data) == 0
    (command,) = (line for line in checkout.make("-n", "onnx").stdout.splitlines() if " -m pth2onnx.pose " in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # not by make: this process has already imported torch
        assert export.main(command.split()[3:]) == 0
    assert checkout.pose("eval", "DATASET=data/people") == list(CHAIN[1:])
    return checkout


def compare(one: Path, other: Path, elsewhere: float = 0.0) -> None:
    """Check that both files have the same people, and that their keypoints are equal to 1e-3 pixels, except for the
    fraction `elsewhere`. If outputs differ by rounding, another pixel may have the largest value; then a keypoint is
    somewhere else."""
    found, expected = read_keypoints(one), read_keypoints(other)
    assert [person["image_id"] for person in found] == [person["image_id"] for person in expected]
    np.testing.assert_allclose([person["score"] for person in found], [person["score"] for person in expected], 1e-4)
    numbers = [np.array([person["keypoints"] for person in people]).reshape(-1, 3) for people in (found, expected)]
    moved = np.abs(numbers[0] - numbers[1]).max(axis=1) > 1e-3
    assert moved.mean() <= elsewhere, f"{moved.sum()} of {moved.size}"


def test_the_pipeline_runs_with_the_emulator(built: PoseCheckout) -> None:
    metrics = json.loads((built.place("eval") / f"{EMULATED}.json").read_text())
    assert (metrics["flip"], metrics["images"], metrics["verdict"]) == (True, IMAGES, "not judged")
    assert metrics["people"] == len(read_keypoints(built.keypoints())) > IMAGES
    assert sum(gear["images"] for gear in metrics["gears"].values()) == IMAGES
    assert not built.place("prep", "people-float32-flip").exists(), "the emulator flips in memory"
    shapes = [built.place("out", name) / EMULATED for name in ("people-float32", "people-float32-flip")]
    assert [len(list(folder.glob("*.npy"))) for folder in shapes] == [2 * IMAGES, 2 * IMAGES]


def test_second_eval_computes_nothing_and_still_judges(built: PoseCheckout) -> None:
    done = built.make("eval", model=MODEL)
    assert done.returncode == 0 and "NOT JUDGED: tiny_pose AP " in done.stdout
    assert not any(stage in done.stdout for stage in CHAIN)


@pytest.mark.parametrize(
    "script, expected",
    [
        ("pth2onnx/pose.py", (*CHAIN[:2], *CHAIN[3:])),
        ("preprocess/pose.py", CHAIN[2:]),
        ("infer/run.py", CHAIN[3:]),
        ("hrnet/pose/group.py", CHAIN),
        ("postprocess/decode.py", CHAIN[4:]),
        (f"configs/{MODEL}.yaml", CHAIN),
        ("data/people/annotations/person_keypoints_val2017.json", CHAIN[2:]),
    ],
)
def test_touching_a_file_reruns_what_follows(built: PoseCheckout, script: str, expected: tuple[str, ...]) -> None:
    before = (built.root / script).stat().st_mtime_ns
    (built.root / script).touch()
    try:
        assert sorted(built.pose("-n", "eval")) == sorted(expected)
    finally:
        os.utime(built.root / script, ns=(before, before))


def test_a_missing_flip_pass_is_inferred_again(built: PoseCheckout) -> None:
    (built.place("out", "people-float32-flip") / f"{EMULATED}_run.json").unlink()
    assert built.pose("eval") == ["infer.run", "postprocess.pose"]
    assert built.pose("eval") == []


def test_the_flip_test_can_be_turned_off(built: PoseCheckout) -> None:
    outputs = {path: path.stat().st_mtime_ns for path in built.root.glob(f"build/{MODEL}/out/*/*/*.npy")}
    shown = built.pose("-n", "eval", "FLIP=0")
    assert built.pose("eval", "FLIP=0") == shown == ["infer.run", "postprocess.pose"]
    assert {path: path.stat().st_mtime_ns for path in outputs} == outputs, "nothing is inferred again"
    metrics = json.loads((built.place("eval") / f"{EMULATED}-noflip.json").read_text())
    assert metrics["flip"] is False
    assert built.keypoints(f"{EMULATED}-noflip").read_bytes() != built.keypoints().read_bytes()
    keypoints = built.keypoints().stat().st_mtime_ns
    built.pose("eval", "FLIP=1")
    assert {path: path.stat().st_mtime_ns for path in outputs} == outputs
    assert built.keypoints().read_bytes() and keypoints <= built.keypoints().stat().st_mtime_ns
    assert built.pose("eval") == []


@pytest.mark.slow
def test_parts_give_the_keypoints_of_all_images(built: PoseCheckout) -> None:
    """Finished parts are not computed again."""
    whole, tag = built.place("eval"), EMULATED
    names = [f"{tag}/keypoints.json", f"{tag}/predictions.jsonl"]
    undivided = [(whole / name).read_bytes() for name in names]
    expected = json.loads((whole / f"{tag}.json").read_text())
    given = ["BUILD=parts", "DATASET=data/people"]
    assert built.pose("-n", "eval", *given, "SHARDS=3") == [*CHAIN[:2], "make.shards", "postprocess.merge"]
    done = built.make("eval", *given, "SHARDS=3", model=MODEL)
    assert done.returncode == 0, done.stderr
    place = built.place("eval", build="parts")
    assert [(place / name).read_bytes() for name in names] == undivided
    found = json.loads((place / f"{tag}.json").read_text())
    for name in ("metrics", "images", "people", "gears", "flip", "verdict", "images_sha256"):
        assert found[name] == expected[name], name
    assert built.pose("eval", "BUILD=parts") == [], "SHARDS is remembered"
    (place / tag / "parts/2-of-3.json").unlink()
    done = built.make("part", "BUILD=parts", "SHARD=2/3", model=MODEL)
    assert done.returncode == 0 and "-m infer.emulator" in done.stdout, done.stderr
    done = built.make("part", "BUILD=parts", "SHARD=2/3", model=MODEL)
    assert done.returncode == 0 and "-m infer.emulator" not in done.stdout
    assert built.make("merge", "BUILD=parts", "SHARDS=3", model=MODEL).returncode == 0
    assert [(place / name).read_bytes() for name in names] == undivided
    with open(built.root / "hrnet/pose/group.py", "a") as changed:
        changed.write("# another decoder\n")
    done = built.make("part", "BUILD=parts", "SHARD=2/3", model=MODEL)
    assert done.returncode == 0, done.stderr
    assert "-m infer.emulator" in done.stdout, "after a change of the code, a finished part is computed again"
    built.pose("eval")


def visible(keypoints: list[float]) -> list[float]:
    """Keypoints x, y, score, … as annotations: x, y, 2, …."""
    return [2 if at % 3 == 2 else value for at, value in enumerate(keypoints)]


@pytest.mark.slow
def test_pytorch_on_the_same_images_is_the_reference(built: PoseCheckout) -> None:
    """The reference uses the flip test as the run does. The best people that the chain finds are the annotations, so
    that AP is not 0. Only images whose gear equals the input size that upstream would choose are used, so that torch
    finds the same people."""
    images = Manifest.read(built.place("prep") / "manifest.json").images
    fit = [image.image_id for image in images if image.sides() == whole_size(image.width, image.height, 64)]
    best = sorted(read_keypoints(built.keypoints()), key=lambda person: -person["score"])
    people = [person for i in fit for person in [each for each in best if each["image_id"] == i][:8]]
    shutil.copytree(built.root / "data/people", built.root / "data/fit")
    truth = built.root / "data/fit/annotations/person_keypoints_val2017.json"
    content = json.loads(truth.read_text())
    content["images"] = [image for image in content["images"] if image["id"] in fit]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] in fit]
    content["annotations"] = [
        {
            **{"id": number, "image_id": person["image_id"], "category_id": 1, "iscrowd": 0, "num_keypoints": 17},
            **{"area": 900.0, "bbox": [0, 0, 30, 30], "keypoints": visible(person["keypoints"])},
        }
        for number, person in enumerate(people, 1)
    ]
    truth.write_text(json.dumps(content))
    given = ["BUILD=fit", "DATASET=data/fit", "REFERENCE=torch", "GATE=5"]
    assert built.pose("eval", *given) == [*CHAIN[:-1], "train.pose.reference", CHAIN[-1]]
    metrics = json.loads((built.place("eval", "fit-float32", "fit") / f"{EMULATED}.json").read_text())
    assert metrics["verdict"] == "pass" and metrics["images"] == len(fit) > 1
    assert metrics["metrics"]["AP"] > 90 and metrics["reference"]["AP"] > 90
    assert metrics["reference"]["source"].startswith("torch ")
    assert built.pose("-n", "eval", "BUILD=fit", "GATE=5") == []
    commands = built.make("-n", "eval", "BUILD=fit", "FLIP=0", model=MODEL).stdout
    call = next(line for line in commands.replace("\\\n", "").splitlines() if "train.pose.reference" in line)
    assert f"--output fit/{MODEL}/reference/fit-float32-noflip.json" in call and " --flip 0" in call


@pytest.mark.slow
def test_bench_has_a_row_for_each_gear(built: PoseCheckout) -> None:
    done = built.make("bench", "LOOP=2", model=MODEL)
    assert done.returncode == 0, done.stderr
    content = json.loads((built.root / f"build/{MODEL}/bench/onnxruntime-fp32-dev0.json").read_text())
    assert [(row["batch"], row["gear"]) for row in content["rows"]] == [(1, gear) for gear in tiny.GEARS]
    assert "| 1 | 96x64 | " in done.stdout
    assert "infer.bench" not in built.make("-n", "bench", model=MODEL).stdout


OFF_THE_BOARD = ("torch", "onnx", "simplejpeg", "safetensors", "munkres")


@pytest.mark.slow
def test_a_board_finds_the_hosts_people_and_ap(built: PoseCheckout, tmp_path: Path) -> None:
    """On a board without torch and onnx; then with the fake ais_bench, which also needs flipped inputs."""
    archive = built.root / f"build/{MODEL}/bundle/{MODEL}-{EMULATED}-people-float32.tar"
    assert built.pose("bundle") == ["make.bundle"]
    places = [make_folder(tmp_path / name) for name in ("emulator", "npu", "tools")]
    board = Board(places[0], archive, OFF_THE_BOARD)
    done = board.make("infer", "eval", f"MODEL={MODEL}", "PYTHON=python3")
    assert done.returncode == 0, done.stderr
    assert not any(f"-m {stage} " in done.stdout for stage in CHAIN[:3])
    tag = "onnxruntime-om-bs1-float32-fp32"
    found = board.root / f"build/{MODEL}/eval/people-float32"
    assert (found / f"{tag}/keypoints.json").read_bytes() == built.keypoints().read_bytes()
    expected = json.loads((built.place("eval") / f"{EMULATED}.json").read_text())
    metrics = json.loads((found / "onnxruntime-om-bs1-float32-fp32.json").read_text())
    for key in ("metrics", "interval95", "images", "people", "gears", "verdict", "flip"):
        assert metrics[key] == expected[key], key
    assert "-m infer.run" not in board.make("eval").stdout

    fakes.atc(places[2])
    path = f"{places[2]}{os.pathsep}{os.environ['PATH']}"
    python = f"AIS_PYTHON={fakes.ais_python(places[2])}"
    packed = built.pose("bundle", "BUILD=packed", "DATASET=data/people", "BACKEND=ascend", python, PATH=path)
    assert packed == [*CHAIN[:3], "make.bundle"]
    archive = built.root / f"packed/{MODEL}/bundle/{MODEL}-{ASCEND}-people-float32.tar"
    board = Board(places[1], archive, (*OFF_THE_BOARD, "onnxruntime"))
    done = board.make("infer", "eval", python)
    assert done.returncode == 0, done.stderr
    assert " --inputs_flip prep/people-float32-flip" in done.stdout
    (people,) = board.root.glob(f"build/{MODEL}/eval/people-float32/*/keypoints.json")
    compare(people, built.keypoints())


def test_show_draws_once(built: PoseCheckout) -> None:
    first = built.make("show", model=MODEL)
    assert first.returncode == 0 and f"the first {IMAGES} images" in first.stdout, first.stderr
    assert "Nothing to be done for 'show'" in built.make("show", model=MODEL, LC_ALL="C").stdout


@pytest.mark.slow
def test_uint8_gives_the_same_people(built: PoseCheckout) -> None:
    assert built.pose("eval", "INPUT=uint8", "BUILD=pixels", "DATASET=data/people") == list(CHAIN)
    for file in (built.place("out") / EMULATED).glob("*.npy"):
        found = np.load(built.place("out", "people-uint8", "pixels") / EMULATED / file.name)
        np.testing.assert_allclose(found, np.load(file), rtol=0, atol=1e-5 * np.abs(found).max())
    compare(built.keypoints(name="people-uint8", build="pixels"), built.keypoints(), elsewhere=1e-3)


@pytest.mark.slow
def test_the_pipeline_runs_with_the_fake_tools(built: PoseCheckout, tmp_path: Path) -> None:
    """atc and ais_bench, which needs the flipped inputs as a directory; then by parts."""
    fakes.atc(tmp_path)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    given = ["BUILD=npu", "DATASET=data/people", "BACKEND=ascend", f"AIS_PYTHON={fakes.ais_python(tmp_path)}"]
    assert built.pose("eval", *given, PATH=path) == list(CHAIN)
    flipped = built.place("prep", "people-float32-flip", "npu")
    assert len(list(flipped.glob("*.npy"))) == IMAGES
    run = json.loads((built.place("out", "people-float32-flip", "npu") / f"{ASCEND}_run.json").read_text())
    assert run["flipped"] and str(flipped.relative_to(built.root)) in run["command"]
    keypoints = built.keypoints(ASCEND, build="npu")
    compare(keypoints, built.keypoints())
    undivided = keypoints.read_bytes()
    assert "make.shards" in built.pose("eval", "BUILD=npu", "SHARDS=2", PATH=path)
    assert keypoints.read_bytes() == undivided
    assert built.pose("eval", "BUILD=npu", PATH=path) == []


# --- outputs of the oracle instead of a network -----------------------------------------------------------------------


def oracle_ap(dataset: Path, folder: Path, cfg: str, *more: str) -> dict[str, Any]:
    """AP of the oracle's outputs for a data set, through the stages' files."""
    prep, out, flipped = folder / "prep", folder / "out/run", folder / "out-flip/run"
    manifest, annotations = prep / "manifest.json", dataset / "annotations/person_keypoints_val2017.json"
    metrics = folder / "eval/metrics.json"
    source = ["--cfg", cfg, "--dataset", str(dataset), "--output", str(prep), "--workers", "1"]
    assert preprocess.main([*source, *more]) == 0
    for each in (out, flipped):
        each.parent.mkdir(parents=True)
    write_runs(manifest, annotations, out, flipped)
    given = ["--cfg", cfg, "--manifest", str(manifest), "--dataset", str(dataset), "--output", str(metrics)]
    assert pose.main([*given, "--dump_dir", str(out), "--dump_dir_flip", str(flipped), "--workers", "1"]) == 0
    content: dict[str, Any] = json.loads(metrics.read_text())
    return content


CONFIG = str(ROOT / "configs/higher_hrnet_w32_512.yaml")


def test_outputs_of_the_oracle_give_the_drawn_people(tmp_path: Path) -> None:
    assert drawn_people.main(["--output", str(tmp_path / "people"), "--images", "5", "--size", "512"]) == 0
    found = oracle_ap(tmp_path / "people", tmp_path, CONFIG)
    assert found["metrics"]["AP"] >= 99.0, found["metrics"]


@pytest.mark.slow
@needs_coco
def test_outputs_of_the_oracle_give_the_people_of_coco(tmp_path: Path) -> None:
    found = oracle_ap(COCO, tmp_path, CONFIG, "--limit", "40")
    assert found["metrics"]["AP"] >= 99.0, found["metrics"]
