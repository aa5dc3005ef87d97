"""postprocess/topn.py: ranks, accuracies, and the bytes of the model zoo's result.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hrnet.io import tensors
from postprocess import topn
from postprocess.classification import main
from postprocess.topn import cumulative_accuracies, label_ranks, result, write_result
from tests.support.classification_run import Run, labels_of, logits_of, zoo_result
from tests.support.examples import examples

LOGITS = nps.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
    lambda shape: nps.arrays(np.float32, shape, elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, np.inf]))
)
ZOO_RESULT = (
    '{"title": "Overall statistical evaluation", "value": [{"key": "Number of images", "value": "50000"}, '
    '{"key": "Number of classes", "value": "1000"}, {"key": "Top1 accuracy", "value": "76.46%"}, '
    '{"key": "Top2 accuracy", "value": "86.33%"}, {"key": "Top3 accuracy", "value": "90.0%"}, '
    '{"key": "Top4 accuracy", "value": "91.97%"}, {"key": "Top5 accuracy", "value": "93.14%"}]}'
)


def written(run: Run) -> str:
    """result.json of a run that is evaluated."""
    assert main(run.arguments()) == 0
    return (run.output.with_suffix("") / "result.json").read_text()


@settings(max_examples=examples(300))
@given(LOGITS, st.data())
def test_ranks_are_places_in_a_stable_descending_sort(logits: np.ndarray, data: st.DataObject) -> None:
    images, classes = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)))
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [order[i].tolist().index(labels[i]) for i in range(images)]
    assert label_ranks(logits, labels).tolist() == expected


def test_outputs_that_are_probabilities_stay_as_they_are() -> None:
    """`softmax=False` is for a model that ends in Softmax: its metadata has `output: probabilities`."""
    values = np.array([[0.1, 0.7, 0.2], [0.25, 0.25, 0.5]], np.float32)
    best, probabilities = topn.best_classes(values, 2, softmax=False)
    assert best.tolist() == [[1, 2], [2, 0]]
    np.testing.assert_array_equal(probabilities, values[[[0], [1]], best].astype(np.float64))
    softmax = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(topn.best_classes(values, 1)[1][:, 0], softmax.max(axis=1), rtol=1e-6)


def test_accuracies_are_cumulative() -> None:
    assert cumulative_accuracies(np.array([0, 0, 1, 4, 9]), 5) == [0.4, 0.6, 0.6, 0.6, 0.8]


@pytest.mark.parametrize(
    ("images", "outputs", "classes"),
    [(1, 1000, 1000), (37, 1001, 1000), (50, 10, 10), (50, 11, 10), (30, 3, 3), (30, 2, 2), (9, 1, 1)],
)
def test_result_equals_the_model_zoo(images: int, outputs: int, classes: int, tmp_path: Path) -> None:
    logits, labels = logits_of(images, outputs), labels_of(images, classes)
    for i in range(0, images, 3):  # some hits, in one of the first five places
        logits[i, labels[i] + outputs - classes] = np.sort(logits[i])[-1 - i % min(5, outputs)] + 0.005
    assert written(Run(tmp_path, logits, labels, classes)) == zoo_result(logits, labels, shift=outputs - classes)


@pytest.mark.parametrize("ending", ["bin", "npy", "txt"])
@pytest.mark.parametrize("alone", [0, 2048], ids=["processes", "one process"])
def test_more_images_than_one_block_are_read(
    ending: str, alone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topn, "MAX_SERIAL_IMAGES", alone)
    monkeypatch.setattr(topn, "BLOCK_IMAGES", 4)
    logits, labels = logits_of(90, 6), labels_of(90, 6)  # more blocks than a worker is given at once
    assert written(Run(tmp_path, logits, labels, 6, ending)) == zoo_result(logits, labels)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_an_npy_of_another_dtype_among_float32_is_read(dtype: str, tmp_path: Path) -> None:
    logits, labels = np.rint(logits_of(20, 64) * 10), labels_of(20, 64)  # 64 float16 are as long as npy's header
    run = Run(tmp_path, logits.astype(np.float32), labels, 64, "npy")
    tensors.write_output(run.folder / "img5_0.npy", logits[5:6].astype(dtype))
    assert written(run) == zoo_result(logits.astype(np.float32), labels)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
@pytest.mark.parametrize("ending", ["bin", "npy", "txt"])
def test_all_formats_and_dtypes_give_the_same(ending: str, dtype: str, tmp_path: Path) -> None:
    logits, labels = np.rint(logits_of(20, 7) * 10).astype(dtype), labels_of(20, 7)
    assert written(Run(tmp_path, logits, labels, 7, ending)) == zoo_result(logits.astype(np.float32), labels)


def test_the_result_has_these_bytes(tmp_path: Path) -> None:
    write_result(tmp_path / "result.json", [0.7646, 0.86328, 0.9, 0.9197, 0.93144], 50000, 1000)
    assert (tmp_path / "result.json").read_bytes() == ZOO_RESULT.encode()


@settings(max_examples=examples(300))
@given(st.integers(1, 60_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_percentages_are_rounded_by_numpy(counts: tuple[int, int]) -> None:
    hits, images = counts
    theirs = np.cumsum(np.array([hits, 0.0])) / images
    assert result([hits / images], images, 2)["value"][2]["value"] == str(round(theirs[0] * 100, 2)) + "%"


def test_halves_are_rounded_by_numpy_and_not_by_python() -> None:
    value = result([1 / 20_000, 3 / 20_000], 20_000, 2)["value"]
    assert [each["value"] for each in value[2:]] == ["0.0%", "0.02%"]
