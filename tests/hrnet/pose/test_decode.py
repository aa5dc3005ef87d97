"""The whole decoder: people equal golden files of upstream, and upstream's code if a checkout is given.

HIGHERHRNET=<checkout of HRNet/HigherHRNet-Human-Pose-Estimation> make test SLOW=1
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.upstream_pose import UpstreamDecoder, first_difference
from hrnet.pose.decode import STEPS, People, Settings, decode, to_image
from tests.hrnet.pose import make_golden
from tests.support.pose_scenes import KINDS, outputs_of


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(make_golden.GOLDEN) as file:
        return dict(file)


def expected(golden: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return golden[f"{name}_keypoints"], golden[f"{name}_scores"]


@pytest.mark.parametrize("name", make_golden.SCENES)
def test_people_equal_upstreams_golden_files(name: str, golden: dict[str, np.ndarray]) -> None:
    pair = make_golden.scene(name)
    other_scene = "numpy draws another scene: write golden.npz again with make_golden"
    assert make_golden.sum_of(pair) == pytest.approx(golden[f"{name}_sum"], rel=1e-9), other_scene
    people = decode(*pair)
    assert first_difference(people, *expected(golden, name)) is None
    assert (people.keypoints.dtype, people.scores.dtype) == (np.float32, np.float32)


def test_golden_scenes_have_these_numbers_of_people(golden: dict[str, np.ndarray]) -> None:
    counts = {name: len(golden[f"{name}_scores"]) for name in make_golden.SCENES}
    assert counts["one"] == 1 and counts["five"] == 5 and counts["ten"] == 10
    assert counts["thirty"] >= 30 and counts["crowd_of_near_tags"] >= 20 and counts["nobody"] == 0


def test_a_hundredth_of_a_pixel_counts_as_a_difference(golden: dict[str, np.ndarray]) -> None:
    keypoints, scores = expected(golden, "five")
    shifted = keypoints.copy()
    shifted[3, 9, 0] += 0.01
    found = first_difference(People(shifted, scores), keypoints, scores)
    assert found == f"person 3 left_wrist x: {shifted[3, 9, 0]}, expected {keypoints[3, 9, 0]}"


def test_other_people_count_as_a_difference(golden: dict[str, np.ndarray]) -> None:
    keypoints, scores = expected(golden, "five")
    assert first_difference(People(keypoints[:4], scores[:4]), keypoints, scores) == "4 people, expected 5"
    order = [0, 2, 1, 3, 4]
    assert str(first_difference(People(keypoints[order], scores[order]), keypoints, scores)).startswith(
        "person 1 nose x"
    )
    assert str(first_difference(People(keypoints, scores + 1), keypoints, scores)).startswith("person 0 score: ")
    assert first_difference(People(keypoints * np.nan, scores), keypoints, scores) is not None


@pytest.mark.parametrize("off", [{"refine": False}, {"adjust": False}, {"detection_threshold": 0.3}])
def test_each_setting_changes_the_people(off: dict[str, float], golden: dict[str, np.ndarray]) -> None:
    people = decode(*make_golden.scene("half_the_joints"), settings=Settings(**off))
    assert first_difference(people, *expected(golden, "half_the_joints")) is not None


def test_without_refine_joints_stay_missing() -> None:
    pair = make_golden.scene("half_the_joints")
    before, after = (decode(*pair, settings=Settings(refine=on)) for on in (False, True))
    missing = before.keypoints[:, :, 2] == 0
    assert missing.any() and (before.keypoints[missing] == 0).all()
    assert (after.keypoints[missing][:, 2] > 0).all()
    assert after.keypoints[~missing].tobytes() == before.keypoints[~missing].tobytes()
    assert after.scores.tobytes() == before.scores.tobytes()
    assert before.scores[0] == pytest.approx(before.keypoints[0, :, 2].sum() / 17)


def test_without_adjust_positions_are_whole_pixels() -> None:
    pair = make_golden.scene("without_flip")
    whole, between = (decode(*pair, settings=Settings(adjust=on, refine=False)) for on in (False, True))
    seen = whole.keypoints[:, :, 2] > 0
    inside = between.keypoints[seen][:, :2] - whole.keypoints[seen][:, :2]
    assert set(np.unique(inside).tolist()) == {0.25, 0.75}


def test_timings_add_up_by_step() -> None:
    timings: dict[str, float] = {}
    pair = outputs_of(0, 2, 160, 128)
    decode(*pair, timings=timings)
    once = dict(timings)
    decode(*pair, timings=timings)
    assert tuple(timings) == STEPS
    assert all(timings[step] > once[step] > 0 for step in STEPS)


def test_outputs_are_not_changed() -> None:
    pair = outputs_of(0, 3, 160, 128)
    before = [array.tobytes() for outputs in pair for array in outputs]
    for outputs in pair:
        for array in outputs:
            array.setflags(write=False)
    decode(*pair)
    assert [array.tobytes() for outputs in pair for array in outputs] == before


def test_positions_are_transformed_to_the_source_image() -> None:
    keypoints = np.zeros((1, 17, 5), np.float32)
    keypoints[0, 0] = (352, 256, 0.5, 1, 2)
    keypoints[0, 1] = (452, 156, 0.5, 1, 2)
    placed = to_image(keypoints, (320, 240), (660 / 200, 480 / 200), (704, 512))
    assert placed[0, 0].tolist() == [320, 240, 0.5, 1, 2]
    # 660 / 704 pixels of the source image for each pixel, in x and in y
    assert placed[0, 1].tolist() == [413.75, 146.25, 0.5, 1, 2]
    assert placed[0, 2].tolist() == [-10, 0, 0, 0, 0]
    assert (placed.dtype, keypoints[0, 0, 0]) == (np.float32, 352)


@pytest.fixture(scope="module")
def checkout() -> Path:
    path = os.environ.get("HIGHERHRNET")
    if not path:
        pytest.skip("HIGHERHRNET names no checkout of upstream")
    pytest.importorskip("munkres")
    return Path(path)


COUNTS = (1, 5, 10, 30, 20, 2, 0)
SIZES = ((384, 256), (256, 384), (512, 512))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(30))
def test_people_equal_those_of_upstreams_code(seed: int, kind: str, checkout: Path) -> None:
    width, height = SIZES[seed % 3]
    outputs, outputs_flip = outputs_of(seed, COUNTS[(seed + KINDS.index(kind)) % 7], width, height, kind)
    pair = (outputs, outputs_flip if seed % 4 else None)
    assert first_difference(decode(*pair), *UpstreamDecoder(checkout).decode(*pair)) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "changes",
    [
        {"use_detection_val": False},
        {"ignore_too_much": True, "max_num_people": 5},
        {"tag_threshold": 0.4, "detection_threshold": 0.3},
        {"adjust": False},
        {"refine": False},
    ],
)
def test_people_equal_upstreams_at_other_settings(seed: int, changes: dict[str, float], checkout: Path) -> None:
    keys = {
        f"{'DATASET' if key == 'max_num_people' else 'TEST'}.{key.upper()}": value for key, value in changes.items()
    }
    pair = outputs_of(seed, 10, 384, 256, KINDS[seed % len(KINDS)])
    people = decode(*pair, settings=Settings(**changes))
    assert first_difference(people, *UpstreamDecoder(checkout, **keys).decode(*pair)) is None


@pytest.mark.slow
def test_positions_in_the_source_image_equal_upstreams(checkout: Path) -> None:
    upstream, random = UpstreamDecoder(checkout), np.random.default_rng(0)
    for width, height in ((640, 427), (427, 640), (333, 500), (500, 333), (37, 51), (3000, 4000)):
        size, center, scale = upstream.transforms.get_multi_scale_size(np.zeros((height, width, 3)), 512, 1, 1)
        keypoints = random.uniform(0, 700, (4, 17, 5)).astype(np.float32)
        theirs = upstream.transforms.get_final_preds([keypoints], center, scale, list(size))
        assert to_image(keypoints, center, scale, size) == pytest.approx(np.stack(theirs), abs=1e-3)
