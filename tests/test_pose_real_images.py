"""HigherHRNet-W32 at 512 pixels on 40 real images of many sizes: the pipeline compared with upstream.

TEST_DATA=<directory with coco/> HIGHERHRNET=<checkout of HRNet/HigherHRNet-Human-Pose-Estimation at aa23881> \\
    make test SLOW=1
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.upstream_pose import UpstreamDecoder
from hrnet.config import load_config
from hrnet.gears import choose, whole_size
from hrnet.io.coco import read_annotations
from hrnet.io.manifest import Manifest
from hrnet.io.parts import keypoints_path
from hrnet.pose.decode import to_image
from tests.support import ROOT
from tests.support.coco_sets import FOLDER, PERSON, annotations, write_annotations
from tests.support.real_images import COCO, needs_coco
from tests.support.reference_pixels import aligned, normalise

UPSTREAM = os.environ.get("HIGHERHRNET", "")
CFG = "configs/higher_hrnet_w32_512.yaml"
GEARS = [(height, width) for height, width in load_config(ROOT / CFG).INPUT.GEARS]
LONGS = list(range(512, 1025, 64))  # the model zoo's
TOLERANCE = 1e-3  # of the largest value; float32 sums in another order differ by some 1e-5
# Keypoints may differ by PIXELS (to_image computes in float32). Where two values are nearly equal, another pixel may be
# chosen; OTHERS is the largest fraction of such keypoints.
PIXELS, OTHERS = 1e-3, 0.01

pytestmark = [
    pytest.mark.slow,
    needs_coco,
    pytest.mark.skipif(not UPSTREAM, reason="HIGHERHRNET is not a checkout of upstream"),
]

# Upstream's preprocessing and net on images. Where upstream's input would be longer than the longest gear, the source
# is an input (.npy) instead of an image.
NET = """
import sys
import cv2, numpy as np, torch
checkout, weights, *calls = sys.argv[1:]
sys.path.insert(0, checkout + "/lib")
from config import cfg
from models.pose_higher_hrnet import get_pose_net
from utils.transforms import resize_align_multi_scale
config = cfg.clone()
config.merge_from_file(checkout + "/experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml")
net = get_pose_net(config, is_train=False)
net.load_state_dict(torch.load(weights), strict=True)
net.eval()
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
for source, target in zip(calls[::2], calls[1::2]):
    if source.endswith(".npy"):
        image = torch.from_numpy(np.load(source))
    else:
        pixels = cv2.imread(source, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        pixels, _, _ = resize_align_multi_scale(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), 512, 1.0, 1)
        image = torch.from_numpy(pixels.transpose(2, 0, 1)).float().div(255)
        image = ((image - mean[:, None, None]) / std[:, None, None])[None]
    with torch.inference_mode():
        for flip, given in (("", image), ("_flip", torch.flip(image, [3]))):
            for number, output in enumerate(net(given)):
                np.save(f"{target}{flip}_{number}.npy", output.numpy())
"""


def python(*arguments: object) -> None:
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and the outputs of the pipeline and of upstream."""
    place = tmp_path_factory.mktemp("pose_images")
    (place / "coco/annotations").mkdir(parents=True)
    (place / "coco/images").mkdir()
    (place / "coco" / FOLDER).symlink_to(COCO / FOLDER)
    listed = [
        {"id": image.image_id, "file_name": image.file_name, "width": image.width, "height": image.height}
        for image in read_annotations(annotations(COCO)).images
        if (COCO / FOLDER / image.file_name).is_file()
    ]
    write_annotations(place / "coco", {"images": listed, "annotations": [], "categories": [PERSON]})
    weights, onnx = place / "w32.pth", place / "model.onnx"
    seeded = ["--cfg", CFG, "--images", COCO / FOLDER, "--output", weights, "--count", 4]
    python("-m", "benchmarks.seeded_checkpoint", *seeded)
    python("-m", "pth2onnx.pose", "--cfg", CFG, "--weights", weights, "--output", onnx)
    folders = ["--output", place / "prep", "--output_flip", place / "prep-flip"]
    python("-m", "preprocess.pose", "--cfg", CFG, "--dataset", place / "coco", *folders)
    convert(place, "float32")
    infer(place, "float32", "prep", "plain", "--output_flip", place / "out/flip")
    calls: list[object] = []
    (place / "theirs").mkdir()
    for image in images(place):
        source = COCO / image.source
        if whole_size(image.width, image.height, 512) not in GEARS:
            source = place / f"{image.stem}.npy"
            np.save(source, normalise(aligned(COCO / image.source, 512, LONGS)[0])[None])
        calls += [source, place / "theirs" / image.stem]
    python("-c", NET, UPSTREAM, weights, *calls)
    return place


def convert(place: Path, dtype: str) -> None:
    options = ["--cfg", CFG, "--batch_size", 1, "--input_dtype", dtype, "--precision", "fp32"]
    python("-m", "atc.convert", "--model", place / "model.onnx", "--output", place / f"{dtype}.onnx", *options)


def infer(place: Path, model: str, prep: str, name: str, *options: object) -> None:
    given = ["--model", place / f"{model}.onnx", "--inputs", place / prep, "--output", place / "out" / name]
    python("-m", "infer.run", *given, *options)


def images(place: Path) -> list:
    return Manifest.read(place / "prep/manifest.json").images


def outputs(place: Path, name: str, stem: str) -> list[np.ndarray]:
    return [np.load(place / f"{name.format(stem)}_{number}.npy") for number in (0, 1)]


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of any map, relative to its largest value."""
    assert [each.shape for each in found] == [each.shape for each in expected]
    return max(float(np.abs(mine - other).max() / np.abs(other).max()) for mine, other in zip(found, expected))


def test_inputs_have_the_sizes_of_upstream_up_to_the_longest_gear(place: Path) -> None:
    """One image is so long that upstream's input is 512 x 1088; the model zoo uses its longest gear."""
    found = [(image.shape[1], image.shape[2]) for image in images(place)]
    assert (len(found), len(set(found))) == (40, 10)
    assert set(found) < set(GEARS)
    wanted = [whole_size(image.width, image.height, 512) for image in images(place)]
    assert [(size, gear) for size, gear in zip(wanted, found) if size != gear] == [((512, 1088), (512, 1024))]
    listed = [choose(image.width, image.height, 512, GEARS) for image in images(place)]
    assert listed == found


@pytest.mark.parametrize(("ours", "theirs"), [("out/plain/{}", "theirs/{}"), ("out/flip/{}", "theirs/{}_flip")])
def test_outputs_equal_upstream(place: Path, ours: str, theirs: str) -> None:
    for image in images(place):
        assert difference(outputs(place, ours, image.stem), outputs(place, theirs, image.stem)) < TOLERANCE, image.stem


def test_flipping_in_memory_equals_a_flipped_directory(place: Path) -> None:
    infer(place, "float32", "prep-flip", "folder")
    for image in images(place):
        for found, expected in zip(
            outputs(place, "out/flip/{}", image.stem), outputs(place, "out/folder/{}", image.stem)
        ):
            np.testing.assert_array_equal(found, expected)


def test_uint8_is_as_good_as_float32(place: Path) -> None:
    convert(place, "uint8")
    pixels = ["--output", place / "pixels", "--input_dtype", "uint8"]
    python("-m", "preprocess.pose", "--cfg", CFG, "--dataset", place / "coco", *pixels)
    infer(place, "uint8", "pixels", "uint8")
    for image in images(place):
        found, expected = (outputs(place, f"out/{name}/{{}}", image.stem) for name in ("uint8", "plain"))
        assert difference(found, expected) < TOLERANCE, image.stem


def test_people_equal_upstream(place: Path) -> None:
    """Each side decodes its own network outputs: the same number and order of people, and all but a few keypoints at
    the same position."""
    dumps = ["--dump_dir", place / "out/plain", "--dump_dir_flip", place / "out/flip"]
    given = ["--manifest", place / "prep/manifest.json", "--dataset", place / "coco", "--part", place / "part.json"]
    python("-m", "postprocess.pose", "--cfg", CFG, *given, *dumps)
    people = json.loads(keypoints_path(place / "part.json").read_text())
    upstream, moved = UpstreamDecoder(Path(UPSTREAM)), []
    for image in images(place):
        pair = [outputs(place, name, image.stem) for name in ("theirs/{}", "theirs/{}_flip")]
        keypoints, scores = upstream.decode(*pair)
        positions = to_image(keypoints, image.center, image.scale, (image.shape[2], image.shape[1]))
        ours = [person for person in people if person["image_id"] == image.image_id]
        assert [person["score"] for person in ours] == pytest.approx(scores.tolist(), abs=TOLERANCE), image.stem
        if ours:
            found = np.array([person["keypoints"] for person in ours]).reshape(-1, 17, 3)
            moved += (np.abs(found - positions[:, :, :3])[:, :, :2].max(axis=2) > PIXELS).ravel().tolist()
            np.testing.assert_allclose(found[:, :, 2], positions[:, :, 2], rtol=0, atol=TOLERANCE)
    print(f"{sum(moved)} of {len(moved)} keypoints elsewhere")
    assert len(moved) > 17 * 10, "few people would prove nothing"
    assert np.mean(moved) < OTHERS
