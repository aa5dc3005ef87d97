"""tests/support/oracle.py: peaks are at the annotated positions, and flipped outputs are correct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data import people
from hrnet.images import alignment
from hrnet.io import tensor_names, tensors
from hrnet.io.manifest import InputImage, Manifest
from hrnet.pose.joints import FLIPPED, NAMES
from tests.support import oracle

WIDTH, HEIGHT, SIZE = 200, 150, (128, 96)


def image(width: int = WIDTH, height: int = HEIGHT, size: tuple[int, int] = SIZE) -> InputImage:
    shape = tensor_names.input_shape("float32", *size)
    return InputImage("1", "1.jpg", None, width, height, shape, 1, *alignment(width, height, size))


def person(**joints: tuple[float, float]) -> dict[str, object]:
    values = [0.0] * 51
    for name, (x, y) in joints.items():
        k = 3 * NAMES.index(name)
        values[k : k + 3] = [x, y, 2]
    return {"keypoints": values, "num_keypoints": len(joints), "iscrowd": 0}


def peak(heat: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return int(column), int(row)


def test_peaks_are_at_the_joints_and_tags_differ_by_person() -> None:
    two = [person(nose=(50, 60), left_ear=(10, 10)), person(nose=(150, 60))]
    low, high = oracle.render(image(), two)
    assert (low.shape, high.shape, low.dtype) == ((1, 34, 24, 32), (1, 17, 48, 64), np.float32)
    factor = 96 / 150  # from the image to the input
    assert peak(high[0, 0, :, :32]) == (int(50 * factor / 2), int(60 * factor / 2))
    assert peak(low[0, 3]) == (int(10 * factor / 4), int(10 * factor / 4))
    assert low[0, 0].max() == high[0, 0].max() == 1
    assert low[0, 17, 9, int(50 * factor / 4)] == oracle.TAG_STEP
    assert low[0, 17, 9, int(150 * factor / 4)] == 2 * oracle.TAG_STEP
    assert not low[0, 1].any()
    column, row = peak(high[0, 3])
    assert high[0, 3, row, column + 1] == pytest.approx(np.exp(-1 / 8))


def test_joints_outside_the_input_are_ignored() -> None:
    cut = image(600, 100, (128, 96))
    low, _ = oracle.render(cut, [person(nose=(5, 50), left_ear=(300, 50))])
    assert not low[0, 0].any()
    assert low[0, 3].max() == 1


def test_flipped_outputs_exchange_left_and_right() -> None:
    low, high = outputs = oracle.render(image(), [person(left_ear=(50, 60))])
    flipped_low, flipped_high = oracle.flip(outputs)
    column, row = peak(high[0, 3])
    assert peak(flipped_high[0, 4]) == (63 - column, row)
    assert not flipped_high[0, 3].any()
    assert np.array_equal(flipped_low[0, 17 + 4], low[0, 17 + 3, :, ::-1])
    again = oracle.flip((flipped_low, flipped_high))
    assert all(np.array_equal(one, other) for one, other in zip(again, outputs))
    assert [FLIPPED[FLIPPED[joint]] for joint in range(17)] == list(range(17))


def test_outputs_are_written_for_a_manifest(tmp_path: Path) -> None:
    assert people.main(["--output", str(tmp_path), "--images", "4", "--size", "64"]) == 0
    index = tmp_path / "annotations/person_keypoints_val2017.json"
    manifest = Manifest("coco", "", "", "float32", "NCHW", "npy", 1, 0, [image()])
    (tmp_path / "out").mkdir()
    assert oracle.write_outputs(manifest, index, tmp_path / "out") == {"1": ["1_0.npy", "1_1.npy"]}
    low = tensors.read_output(tmp_path / "out/1_0.npy")
    marked = oracle.marked_people(index)
    assert all(each["num_keypoints"] and not each["iscrowd"] for group in marked.values() for each in group)
    assert np.array_equal(low, oracle.render(image(), marked.get(1, []))[0])
