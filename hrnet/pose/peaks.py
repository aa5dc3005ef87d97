"""Find the peaks of the full-size heatmaps, their tags, and their subpixel positions.

A peak is a pixel above the threshold with the highest value of the 5 x 5 pixels around it. Of each joint, the
DATASET.MAX_NUM_PEOPLE highest peaks are used, highest first. Candidates are found in the mean heatmaps and checked with
exact values.

Source of the algorithm: HRNet/HigherHRNet-Human-Pose-Estimation aa23881, lib/core/group.py (nms, top_k, adjust). Equal
peaks have the order of torch.topk on the CPU, which uses std::partial_sort of libstdc++.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hrnet.pose.maps import Maps

KERNEL = np.ones((5, 5), np.uint8)
AROUND = np.arange(-2, 3)
MANY = 1000  # with more candidates than this for a joint, its whole map is faster than windows


@dataclass(frozen=True)
class Peaks:
    """The peaks of one joint, the highest first."""

    xy: np.ndarray  # int64 [N, 2], pixels of the network's input
    values: np.ndarray  # float32 [N], from the heatmap
    tags: np.ndarray  # float32 [N, D]


def find_peaks(maps: Maps, means: np.ndarray, threshold: float, most: int) -> list[Peaks]:
    """The `most` highest peaks above `threshold` of each joint. means float32 [17, H/2, W/2]: `Maps.mean`."""
    places = [candidates(maps, mean, threshold) for mean in means]
    few = [place if len(place) <= MANY else place[:0] for place in places]
    joints = _owners(few)
    values, is_highest = local_values(maps, joints, np.concatenate(few))
    is_highest &= values.astype(np.float64) > threshold
    chosen = []
    for k, place in enumerate(few):
        is_peak = is_highest[joints == k]
        xy, peak_values = place[is_peak], values[joints == k][is_peak]
        if len(place) < len(places[k]) or len(np.unique(peak_values)) < len(peak_values):
            xy, peak_values = peaks_of_whole_map(maps, k, threshold, most)
        order = np.argsort(-peak_values, kind="stable")[:most]
        chosen.append((xy[order], peak_values[order]))
    joints = _owners([xy for xy, _ in chosen])
    x, y = np.concatenate([xy for xy, _ in chosen]).T
    tags = maps.tags(joints, y // 4, x // 4, 1, 1)[:, np.arange(len(x)), y % 4 + 1, x % 4 + 1].T
    return [Peaks(*chosen[k], tags[joints == k]) for k in range(len(chosen))]


def _owners(parts: list[np.ndarray]) -> np.ndarray:
    """int64: for each element of the concatenated parts, the index of its part."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def candidates(maps: Maps, mean: np.ndarray, threshold: float) -> np.ndarray:
    """int64 [N, 2]: x and y of the pixels that may be peaks of one joint; mean float32 [H/2, W/2]."""
    rows, columns = (np.flatnonzero((mean > threshold - maps.error).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    top, left = max(rows[0] - 3, 0), max(columns[0] - 3, 0)  # 3: 1 for interpolation, 2 for the kernel
    part = mean[top : rows[-1] + 4, left : columns[-1] + 4]
    full = cv2.resize(part, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    likely = full > threshold - maps.error
    likely &= full >= cv2.dilate(full, KERNEL) - np.float32(2 * maps.error)
    y, x = np.nonzero(likely)
    return np.stack([x + 2 * left, y + 2 * top], axis=1)


def local_values(maps: Maps, joints: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The heatmap values of joints [N] at pixels xy [N, 2], float32 [N]; whether each is the highest of the 5 x 5
    pixels around it, bool [N]."""
    x, y = xy.T
    top, left = (y - 2) // 4, (x - 2) // 4
    near = maps.heat(joints, top, left, 2, 2)
    rows = (y - 4 * top + 1)[:, None] + AROUND
    columns = (x - 4 * left + 1)[:, None] + AROUND
    near = near[np.arange(len(xy))[:, None, None], rows[:, :, None], columns[:, None, :]]  # [N, 5, 5]
    values = near[:, 2, 2]
    return values, values == near.max(axis=(1, 2))


def peaks_of_whole_map(maps: Maps, joint: int, threshold: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """xy and values of the peaks of one joint from its whole map; equal values have the order of torch.topk."""
    plane = np.ascontiguousarray(maps.whole_heat(joint))
    flat = np.where(cv2.dilate(plane, KERNEL) == plane, plane, np.float32(0)).reshape(-1)
    places = np.array(partial_sort(flat, most), np.int64)
    places = places[flat[places].astype(np.float64) > threshold]
    return np.stack([places % maps.width, places // maps.width], axis=1), flat[places]


def partial_sort(values: np.ndarray, most: int) -> list[int]:
    """The indices of the `most` highest of values [N], in the order of std::partial_sort, which torch.topk uses if N is
    at least 64 * `most`."""
    heap = [(value, place) for place, value in enumerate(values[:most].tolist())]  # the lowest value is first
    for place in range(most // 2 - 1, -1, -1):
        _sift(heap, place, heap[place], most)
    for place in (most + np.flatnonzero(values[most:] > heap[0][0])).tolist():
        if values[place] > heap[0][0]:
            _sift(heap, 0, (float(values[place]), place), most)
    for end in range(most - 1, 0, -1):
        last, heap[end] = heap[end], heap[0]
        _sift(heap, 0, last, end)
    return [place for _, place in heap]


def _sift(heap: list[tuple[float, int]], hole: int, item: tuple[float, int], size: int) -> None:
    """Move lower children up from `hole` to a leaf of the heap's first `size` items, then move `item` up from there."""
    top = hole
    while 2 * hole + 1 < size:
        child = 2 * hole + 2
        if child == size or heap[child][0] > heap[child - 1][0]:
            child -= 1
        heap[hole], hole = heap[child], child
    while hole > top and heap[(hole - 1) // 2][0] > item[0]:
        heap[hole], hole = heap[(hole - 1) // 2], (hole - 1) // 2
    heap[hole] = item


def subpixel_positions(maps: Maps, joints: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """float32 [N, 2]: the centres of pixels xy [N, 2] (xy + 0.5), moved by a quarter of a pixel towards the higher
    neighbour in the heatmaps of joints [N]; left and up if neighbours are equal."""
    x, y = xy.T
    near = maps.heat(joints, y // 4, x // 4, 1, 1)
    each, row, column = np.arange(len(xy)), y % 4 + 1, x % 4 + 1
    right = near[each, row, column + 1] > near[each, row, column - 1]
    down = near[each, row + 1, column] > near[each, row - 1, column]
    return (xy + np.where(np.stack([right, down], axis=1), 0.75, 0.25)).astype(np.float32)
