"""Values in windows equal those of whole maps to the bit; the whole maps equal torch's interpolation."""

from __future__ import annotations

import re
from typing import Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.pose.maps import Maps, cut_windows, upsample
from tests.hrnet.pose import plain
from tests.support.pose_scenes import Outputs, outputs_of


def random_outputs(seed: int, width: int = 160, height: int = 128) -> Outputs:
    random = np.random.default_rng(seed)
    low, high = (1, 34, height // 4, width // 4), (1, 17, height // 2, width // 2)
    return random.standard_normal(low, np.float32), random.standard_normal(high, np.float32)


@pytest.mark.parametrize("shape", [(17, 32, 48), (17, 40, 64), (34, 64, 33)])
def test_reference_maps_equal_torch(shape: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    planes = np.random.default_rng(0).standard_normal(shape, np.float32)
    size = (2 * shape[1], 2 * shape[2])
    theirs = torch.nn.functional.interpolate(torch.from_numpy(planes)[None], size=size, mode="bilinear")[0].numpy()
    if not re.search("AVX2|AVX512", torch.backends.cpu.get_cpu_capability()):
        pytest.skip("torch fuses no products here")
    assert plain.doubled(planes).tobytes() == theirs.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(-3, 12), st.integers(-3, 12), st.integers(2, 9), st.integers(2, 9))
def test_double_in_a_window(seed: int, top: int, left: int, m: int, n: int) -> None:
    planes = np.random.default_rng(seed).standard_normal((2, 8, 10), np.float32)
    channels, tops, lefts = np.array([0, 1, 1]), np.array([top, 0, -1]), np.array([left, -1, 3])
    found = upsample(cut_windows(planes, channels, tops, lefts, m, n), tops, lefts, 8, 10)
    expected = cut_windows(plain.doubled(planes), channels, 2 * tops + 1, 2 * lefts + 1, 2 * m - 2, 2 * n - 2)
    assert found.dtype == np.float32
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("flip", [True, False])
def test_heat_and_tags_equal_the_whole_maps(flip: bool) -> None:
    outputs, outputs_flip = random_outputs(1), random_outputs(2) if flip else None
    heat, tags = plain.whole_maps(outputs, outputs_flip)
    maps = Maps(outputs, outputs_flip)
    assert (maps.height, maps.width, maps.dimensions) == (128, 160, 2 if flip else 1)
    joints = np.arange(17).repeat(3)
    top, left = np.random.default_rng(3).integers(0, (31, 39), (51, 2)).T
    top[:6], left[:6] = [0, 0, 30, 30, 0, 30], [0, 38, 0, 38, 5, 5]
    mine = maps.heat(joints, top, left, 2, 1), *maps.tags(joints, top, left, 2, 1)
    for found, whole in zip(mine, (heat, *np.moveaxis(tags, 3, 0))):
        assert found.tobytes() == cut_windows(whole, joints, 4 * top - 1, 4 * left - 1, 10, 6).tobytes()
    assert maps.whole_heat(4).tobytes() == heat[4].tobytes()
    assert maps.whole_tags(4).tobytes() == np.moveaxis(tags[4], 2, 0).tobytes()


@pytest.mark.parametrize("flip", [True, False])
def test_the_mean_is_within_its_error_bound(flip: bool) -> None:
    outputs, outputs_flip = random_outputs(1), random_outputs(2) if flip else None
    maps = Maps(outputs, outputs_flip)
    distance = np.abs(plain.doubled(maps.mean()) - plain.whole_maps(outputs, outputs_flip)[0]).max()
    assert 0 < distance < maps.error / 8
    assert maps.error < 3e-5


def test_tags_before_upsampling_are_those_of_the_outputs() -> None:
    maps = Maps(*outputs_of(0, 3, 160, 128))
    order = (0, 2, 1)
    for joint, flipped in enumerate(order):
        here, there = maps.low_tags(joint)
        assert here.tobytes() == maps.low[0][17 + joint].tobytes()
        assert there.tobytes() == maps.low[1][17 + flipped][:, ::-1].tobytes()


def broken(part: int, array: np.ndarray) -> Outputs:
    outputs = list(random_outputs(0))
    outputs[part] = array
    return outputs[0], outputs[1]


SHAPES = "not HigherHRNet outputs (expected float32 [1, 34, H/4, W/4] and [1, 17, H/2, W/2], found "
SIZE = "invalid size of the input (expected multiples of 32, found 144 x 128)"
FINITE = "NaN or infinity in the outputs; check inputs and weights; fp16 may overflow"
TWICE_HIGH = "float32 [1, 17, 64, 80] and float32 [1, 17, 64, 80])"
TURNED = "float32 [1, 34, 40, 32] and float32 [1, 17, 80, 64])"
LOW, HIGH = (1, 34, 32, 40), (1, 17, 64, 80)


@pytest.mark.parametrize(
    ("outputs", "outputs_flip", "message"),
    [
        (random_outputs(0)[::-1], None, SHAPES + "float32 [1, 17, 64, 80] and float32 [1, 34, 32, 40])"),
        (broken(0, np.zeros(HIGH, np.float32)), None, SHAPES + TWICE_HIGH),
        (broken(1, np.zeros(HIGH)), None, SHAPES + "float32 [1, 34, 32, 40] and float64 [1, 17, 64, 80])"),
        (random_outputs(0), random_outputs(0, 128, 160), SHAPES + TURNED),
        (random_outputs(0, 144, 128), None, SIZE),
        (broken(0, np.full(LOW, np.nan, np.float32)), None, FINITE),
        (random_outputs(0), broken(1, np.full(HIGH, -np.inf, np.float32)), FINITE),
    ],
)
def test_outputs_that_do_not_fit_are_rejected(outputs: Outputs, outputs_flip: Optional[Outputs], message: str) -> None:
    with pytest.raises(UserError) as error:
        Maps(outputs, outputs_flip)
    assert str(error.value) == message
