"""COCO images to inputs: pixels and arithmetic bit-identical to the reference, in the gears of the config."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrnet.calibration import choose
from hrnet.io.files import locked
from hrnet.io.manifest import Manifest
from preprocess import folder as prep_folder
from preprocess.pose import main
from tests.support import coco_sets
from tests.support.coco_sets import FOLDER, GEARS, SHORT, SIZES, annotations, coco_set, write_config
from tests.support.image_sets import contents, noise, record
from tests.support.real_images import COCO, needs_coco
from tests.support.reference_pixels import aligned, normalise

UPSTREAM = os.environ.get("HIGHERHRNET")  # a checkout of HRNet/HigherHRNet-Human-Pose-Estimation aa23881


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return coco_set(tmp_path / "coco")


@pytest.fixture
def prep(tmp_path: Path) -> Path:
    return tmp_path / "prep"


def prepare(dataset: Path, output: Path, *options: object, cfg: str = coco_sets.CONFIG) -> int:
    config = write_config(dataset.parent, cfg)
    return main(
        ["--cfg", config, "--dataset", str(dataset), "--output", str(output), "--workers", "1", *map(str, options)]
    )


def manifest(output: Path) -> Manifest:
    return Manifest.read(output / "manifest.json")


def test_calibration_images_are_those_of_the_training_split(dataset: Path, prep: Path) -> None:
    assert prepare(dataset, prep, "--calibration", 2) == 0
    assert {image.source for image in manifest(prep).images} == choose([f"{FOLDER}/{name}" for name in SIZES], 2)
    shutil.copytree(dataset / FOLDER, dataset / "images/train2017")
    names = [f"person_keypoints_{split}2017.json" for split in ("val", "train")]
    shutil.copy(*(dataset / "annotations" / name for name in names))
    assert prepare(dataset, prep, "--calibration", 2) == 0
    found = [image.source for image in manifest(prep).images]
    assert len(found) == 2 and all(source.startswith("images/train2017/") for source in found)


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def test_inputs_equal_the_reference(dataset: Path, prep: Path, tmp_path: Path) -> None:
    assert prepare(dataset, prep, "--output_flip", tmp_path / "flip") == 0
    found = {image.source: image for image in manifest(prep).images}
    assert list(found) == [f"{FOLDER}/{name}" for name in SIZES]
    for name, (width, height) in SIZES.items():
        image = found[f"{FOLDER}/{name}"]
        pixels, center, scale = aligned(dataset / FOLDER / name, SHORT, [64, 128])
        assert (image.width, image.height, image.center, image.scale) == (width, height, center, scale)
        planes = normalise(pixels)
        assert image.shape == list(planes.shape)
        plain, flipped = (np.load(folder / f"{image.stem}.npy") for folder in (prep, tmp_path / "flip"))
        assert (plain.dtype, plain.shape) == (np.float32, (1, *planes.shape))
        assert plain.tobytes() == planes.tobytes()
        assert np.array_equal(flipped, plain[:, :, :, ::-1])
    assert [image.shape[1:] for image in found.values()] == [[64, 128], [128, 64], [64, 64], [64, 128]]


def test_uint8_inputs_are_the_pixels(dataset: Path, prep: Path, tmp_path: Path) -> None:
    assert prepare(dataset, prep, "--input_dtype", "uint8", "--output_flip", tmp_path / "flip") == 0
    written = manifest(prep)
    assert (written.dtype, written.layout, written.suffix) == ("uint8", "NHWC", "npy")
    for image in written.images:
        pixels, _, _ = aligned(dataset / image.source, SHORT, [64, 128])
        assert image.shape == list(pixels.shape)
        assert image.sides() == pixels.shape[:2]
        assert np.array_equal(np.load(prep / f"{image.stem}.npy"), pixels[None])
        assert np.array_equal(np.load(tmp_path / f"flip/{image.stem}.npy"), pixels[None, :, ::-1])


def test_unusual_files_are_read_as_by_opencv(tmp_path: Path, prep: Path) -> None:
    sizes = {"grey.jpg": (70, 60), "cmyk.jpg": (70, 60), "turned.jpg": (70, 60), "alpha.png": (70, 60)}
    dataset = coco_set(tmp_path / "coco", sizes)
    rgb, folder = noise(70, 60), dataset / FOLDER
    exif = rgb.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    rgb.convert("L").save(folder / "grey.jpg")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.save(folder / "turned.jpg", exif=exif)
    rgba = np.dstack([np.asarray(rgb), np.arange(70, dtype=np.uint8)[None].repeat(60, 0)])
    cv2.imwrite(str(folder / "alpha.png"), rgba)
    assert prepare(dataset, prep, "--input_dtype", "uint8") == 0
    for image in manifest(prep).images:
        pixels, _, _ = aligned(dataset / image.source, SHORT, [64, 128])
        assert np.array_equal(np.load(prep / f"{image.stem}.npy")[0], pixels), image.source


def test_without_gears_the_whole_image_fits(dataset: Path, prep: Path) -> None:
    cfg = coco_sets.CONFIG.replace(str(GEARS), "[]")
    assert prepare(dataset, prep, cfg=cfg) == 0
    assert [image.shape for image in manifest(prep).images] == [[3, 64, 128], [3, 128, 64], [3, 64, 64], [3, 64, 256]]


@pytest.mark.parametrize("named", [False, True], ids=["option", "config"])
def test_gears_are_read_from_a_file(
    named: bool, dataset: Path, prep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "g.yaml"
    options = () if named else ("--gears", path)
    cfg = coco_sets.CONFIG.replace(str(GEARS), "g.yaml") if named else coco_sets.CONFIG
    assert prepare(dataset, prep, *options, cfg=cfg) == 2
    assert f"error: {path}: " in capsys.readouterr().err
    path.write_text("GEARS: [[64, 192], [192, 64]]\n")
    assert prepare(dataset, prep, *options, cfg=cfg) == 0
    assert {tuple(image.shape) for image in manifest(prep).images} == {(3, 64, 192), (3, 192, 64)}
    assert record(prep / "settings.json")["settings"]["gears"] == [[64, 192], [192, 64]]


@needs_coco
def test_real_images_equal_the_reference(prep: Path) -> None:
    given = ["--cfg", "higher_hrnet_w32_512", "--dataset", str(COCO), "--output", str(prep), "--limit", "12"]
    assert main(given) == 0
    images = manifest(prep).images
    assert len(images) == 12
    for image in images:
        pixels, center, scale = aligned(COCO / image.source, 512, list(range(512, 1025, 64)))
        assert (image.center, image.scale) == (center, scale)
        assert (prep / f"{image.stem}.npy").read_bytes()[128:] == normalise(pixels).tobytes(), image.source


@pytest.mark.slow
@needs_coco
@pytest.mark.skipif(not UPSTREAM, reason="HIGHERHRNET is not a checkout of upstream")
def test_real_images_equal_upstream(prep: Path, tmp_path: Path) -> None:
    """Upstream has no gears; without gears all inputs are equal."""
    cfg = "MODEL: {NAME: pose_higher_hrnet}\nDATASET: {INPUT_SIZE: 512}\n" + coco_sets.DECODING
    given = ["--cfg", write_config(tmp_path, cfg), "--dataset", str(COCO), "--output", str(prep)]
    assert main([*given, "--input_dtype", "uint8"]) == 0
    code = (
        "import json, sys, cv2, numpy as np\n"
        "sys.path.insert(0, sys.argv[1] + '/lib')\n"
        "from utils.transforms import resize_align_multi_scale\n"
        "for source, target in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "    image = cv2.imread(source, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)\n"
        "    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)\n"
        "    resized, center, scale = resize_align_multi_scale(image, 512, 1.0, 1)\n"
        "    ours = np.load(target)\n"
        "    assert np.array_equal(ours[0], resized), source\n"
        "    print(json.dumps([center.tolist(), scale.tolist()]))\n"
    )
    images = manifest(prep).images
    pairs = [str(path) for image in images for path in (COCO / image.source, prep / f"{image.stem}.npy")]
    done = subprocess.run([sys.executable, "-c", code, str(UPSTREAM), *pairs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[image.center, image.scale] for image in images]
    assert len(images) == 40


# --- the output directories -------------------------------------------------------------------------------------------


def test_the_output_directories_have_this_content(
    dataset: Path, prep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(dataset, prep, "--output_flip", tmp_path / "flip") == 0
    inputs = {"9.npy", "10.npy", "a_b.npy", "wide.npy"}
    written = manifest(prep)
    assert (written.dataset, written.classes, written.rejected, written.flipped) == ("coco", 1, 0, False)
    entries = [(image.stem, image.label, image.image_id) for image in written.images]
    assert entries == [("9", None, 100), ("10", None, 101), ("a_b", None, 102), ("wide", None, 103)]
    for folder, flipped in ((prep, False), (tmp_path / "flip", True)):
        assert set(contents(folder)) == inputs | {"settings.json", "rejected.json", "manifest.json"}
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
        assert record(folder / "settings.json")["settings"]["flipped"] is flipped
    assert manifest(tmp_path / "flip").flipped
    assert manifest(tmp_path / "flip").images == written.images
    expected = f"1 image is longer than the longest gear, both ends are cut off: {FOLDER}/wide.jpg"
    assert expected in capsys.readouterr().out


def test_a_rerun_writes_what_is_missing(
    dataset: Path, prep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip = tmp_path / "flip"
    assert prepare(dataset, prep, "--output_flip", flip) == 0
    before = {folder: contents(folder) for folder in (prep, flip)}
    times = {path.name: path.stat().st_mtime_ns for path in prep.glob("*.npy")}
    (flip / "9.npy").unlink()
    (prep / "10.npy").write_bytes(b"half")
    capsys.readouterr()
    assert prepare(dataset, prep, "--output_flip", flip) == 0
    assert {folder: contents(folder) for folder in (prep, flip)} == before
    assert (prep / "wide.npy").stat().st_mtime_ns == times["wide.npy"]
    assert capsys.readouterr().out.splitlines()[-1].endswith("; kept 2 of an earlier run")


@pytest.mark.parametrize("option", [("--input_dtype", "uint8"), ("--limit", "2"), ("--gears", "g.yaml")])
def test_other_settings_start_again(
    option: tuple[str, str],
    dataset: Path,
    prep: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(dataset)
    Path("g.yaml").write_text("GEARS: [[64, 128], [128, 64], [64, 64], [64, 192]]")
    assert prepare(dataset, prep) == 0
    assert prepare(dataset, prep, *option) == 0
    assert "kept" not in capsys.readouterr().out
    if option[0] == "--limit":
        assert [image.image_id for image in manifest(prep).images] == [100, 101], "the first in natural order"
        assert not (prep / "wide.npy").exists()


def test_a_second_run_only_touches_the_manifests(
    dataset: Path, prep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = tmp_path / "flip"
    assert prepare(dataset, prep, "--output_flip", flip) == 0
    before = {folder: contents(folder) for folder in (prep, flip)}
    for path in (*prep.iterdir(), *flip.iterdir()):
        os.utime(path, ns=(0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(prep_folder, "map_files", None)
        assert prepare(dataset, prep, "--output_flip", flip) == 0
    assert {folder: contents(folder) for folder in (prep, flip)} == before
    touched = {path for path in (*prep.iterdir(), *flip.iterdir()) if path.stat().st_mtime_ns > 0}
    assert touched == {prep / "manifest.json", flip / "manifest.json"}


def test_two_runs_exclude_each_other(dataset: Path, prep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(f"{prep}_lock"):
        assert prepare(dataset, prep) == 2
    assert f"{prep}_lock: locked by another run" in capsys.readouterr().err
    assert not prep.exists()


# --- subsets and errors -----------------------------------------------------------------------------------------------


def test_only_listed_images_are_prepared(dataset: Path, prep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / FOLDER / "wide.jpg").unlink()
    shutil.copy(dataset / FOLDER / "9.jpg", dataset / FOLDER / "stranger.jpg")
    assert prepare(dataset, prep) == 0
    assert [image.stem for image in manifest(prep).images] == ["9", "10", "a_b"]
    absent, unlisted, *_ = capsys.readouterr().out.splitlines()
    assert absent.startswith(f"{annotations(dataset)}: 1 ") and absent.endswith(": wide.jpg")
    assert unlisted.startswith(f"{annotations(dataset)}: 1 ") and unlisted.endswith(": stranger.jpg")


def test_images_with_crowds_or_without_people_are_prepared(dataset: Path, prep: Path) -> None:
    content = json.loads(annotations(dataset).read_text())
    crowd = {"id": 0, "image_id": 100, "category_id": 1, "iscrowd": 1, "num_keypoints": 0, "area": 9.5}
    content["annotations"] = [{**crowd, "bbox": [0, 0, 9, 9], "keypoints": [0] * 51}]
    coco_sets.write_annotations(dataset, content)
    assert prepare(dataset, prep) == 0
    assert len(manifest(prep).images) == 4


def test_files_that_cannot_be_read_are_rejected(dataset: Path, prep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dataset / FOLDER
    (folder / "9.jpg").write_bytes((folder / "9.jpg").read_bytes()[:-40])
    (folder / "10.jpg").write_bytes(b"")
    noise(64, 60).save(folder / "a b.jpg")
    assert prepare(dataset, prep) == 1
    reasons = record(prep / "rejected.json")["images"]
    assert list(reasons) == [f"{FOLDER}/{name}" for name in ("9.jpg", "10.jpg", "a b.jpg")]
    assert reasons[f"{FOLDER}/9.jpg"].startswith("OSError: image file is truncated")
    assert reasons[f"{FOLDER}/10.jpg"] == "empty file"
    assert "64 x 60" in reasons[f"{FOLDER}/a b.jpg"] and "64 x 64" in reasons[f"{FOLDER}/a b.jpg"]
    line = capsys.readouterr().err
    assert f"{prep / 'rejected.json'}: 3 of 4 files rejected" in line and "MAX_REJECTED=3" in line
    assert not (prep / "manifest.json").exists()
    assert (prep / "wide.npy").exists()
    assert prepare(dataset, prep, "--max_rejected", 3) == 0
    assert ([image.stem for image in manifest(prep).images], manifest(prep).rejected) == (["wide"], 3)


def test_broken_links_and_rotated_images_are_rejected_and_listed(dataset: Path, prep: Path) -> None:
    (dataset / FOLDER / "9.jpg").unlink()
    (dataset / FOLDER / "9.jpg").symlink_to("nowhere")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(62, 40).save(dataset / FOLDER / "10.jpg", exif=exif)
    assert prepare(dataset, prep) == 1
    reasons = record(prep / "rejected.json")["images"]
    assert list(reasons) == [f"{FOLDER}/9.jpg", f"{FOLDER}/10.jpg"]
    assert reasons[f"{FOLDER}/9.jpg"] == "a broken link"
    assert "62 x 40 pixels, but 40 x 62" in reasons[f"{FOLDER}/10.jpg"]
    assert "EXIF orientation 6" in reasons[f"{FOLDER}/10.jpg"]


def test_images_may_be_in_sub_folders_of_any_split(tmp_path: Path, prep: Path) -> None:
    dataset = coco_set(tmp_path / "coco", {"9.jpg": (70, 60), "10.jpg": (40, 62)})
    (dataset / FOLDER / "cam1").mkdir()
    os.rename(dataset / FOLDER / "9.jpg", dataset / FOLDER / "cam1/9.jpg")
    content = json.loads(annotations(dataset).read_text())
    content["images"][1]["file_name"] = "./cam1/9.jpg"
    content["images"][0]["file_name"] = str(dataset / FOLDER / "10.jpg")
    coco_sets.write_annotations(dataset, content)
    assert prepare(dataset, prep) == 0
    assert [image.source for image in manifest(prep).images] == [f"{FOLDER}/10.jpg", f"{FOLDER}/cam1/9.jpg"]
    os.rename(annotations(dataset), dataset / "annotations/person_keypoints_mine.json")
    os.rename(dataset / FOLDER, dataset / "images/mine")
    content["images"][0]["file_name"] = "10.jpg"
    (dataset / "annotations/person_keypoints_mine.json").write_text(json.dumps(content))
    cfg = coco_sets.CONFIG.replace("INPUT_SIZE", "TEST: mine, INPUT_SIZE")
    assert prepare(dataset, prep, cfg=cfg) == 0
    assert [image.source for image in manifest(prep).images] == ["images/mine/10.jpg", "images/mine/cam1/9.jpg"]


def test_an_image_too_long_for_opencv_is_rejected(tmp_path: Path, prep: Path) -> None:
    dataset = coco_set(tmp_path / "coco", {"long.png": (33000, 2), "9.jpg": (70, 60)})
    assert prepare(dataset, prep, "--max_rejected", 1) == 0
    assert list(record(prep / "rejected.json")["images"]) == [f"{FOLDER}/long.png"]


@pytest.mark.parametrize(
    ("cfg", "parts"),
    [
        (coco_sets.CONFIG.replace(str(GEARS), "[[64, 128]]"), ("images/val2017/10.jpg", "make gears")),
        (coco_sets.CONFIG + "TEST: {SCALE_FACTOR: [0.5, 1]}\n", ("TEST.SCALE_FACTOR", "[0.5, 1]")),
        (
            coco_sets.CONFIG.replace("higher_hrnet}", "higher_hrnet, TAG_PER_JOINT: false}"),
            ("MODEL.TAG_PER_JOINT", "expected True, found False"),
        ),
        (
            coco_sets.CONFIG + "LOSS: {WITH_AE_LOSS: [true, true]}\n",
            ("LOSS.WITH_AE_LOSS", "expected [True, False], found [True, True]"),
        ),
        (coco_sets.CONFIG.replace("64", "96"), ("DATASET.INPUT_SIZE", "96")),
        ("MODEL: {NAME: cls_hrnet}\n", ("MODEL.NAME", "cls_hrnet")),
    ],
)
def test_invalid_configs_are_rejected(
    cfg: str, parts: tuple[str, str], dataset: Path, prep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(dataset, prep, cfg=cfg) == 2
    line = capsys.readouterr().err
    assert f"error: {dataset.parent / 'pose.yaml'}: " in line and all(part in line for part in parts)
    assert not prep.exists()


def test_invalid_directories_are_rejected(dataset: Path, prep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(dataset, prep, "--output_flip", prep) == 2, "one directory for both"
    assert f"error: {prep}: " in capsys.readouterr().err
    assert prepare(dataset.parent / "nowhere", prep) == 2
    assert f"error: {dataset.parent / 'nowhere'}: " in capsys.readouterr().err
