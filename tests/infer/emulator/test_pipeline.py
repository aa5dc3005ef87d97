"""The pipeline with a runtime that only does arithmetic: any number of inputs and any batch size give equal outputs."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet.cli import UserError, WorkFailed
from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel, TensorInfo
from hrnet.io.manifest import InputImage, Manifest
from infer.emulator import path_checks, pipeline
from infer.emulator.pipeline import Pipeline, run_all
from infer.output_dir import OutputDir, keep_finished
from infer.runtimes.base import Runtime
from tests.support.examples import examples

SHAPE = [3, 2]
OUTPUTS = [TensorInfo("sum", "float32", [-1]), TensorInfo("twice", "float32", [-1, *SHAPE])]
COMPILED = CompiledModel("a", "b", [], "atc", [TensorInfo("image", "float32", [1, *SHAPE])], OUTPUTS, [], {})


class Plain(Runtime):
    """The sum of each image, and the image times 2; keeps the batches that it was given."""

    def __init__(self, batch: int) -> None:
        self.inputs = [TensorInfo("image", "float32", [batch, *SHAPE])]
        self.outputs = [TensorInfo(tensor.name, tensor.dtype, [batch, *tensor.shape[1:]]) for tensor in OUTPUTS]
        self.version, self.requests = "plain", 2
        self.batches: list[np.ndarray] = []

    def compute(self, batch: np.ndarray) -> list[np.ndarray]:
        self.batches.append(batch.copy())
        return [batch.sum(axis=(1, 2)), batch * 2]


def write_inputs(folder: Path, names: list[str], suffix: str) -> dict[str, np.ndarray]:
    images = {name: np.random.default_rng(i).standard_normal(SHAPE).astype(np.float32) for i, name in enumerate(names)}
    for name, image in images.items():
        tensors.write_output(folder / f"{name}.{suffix}", image if suffix == "bin" else image[None])
    return images


NAMES = st.lists(st.text("ab019_-", min_size=1, max_size=5), min_size=1, max_size=20, unique=True)


@settings(max_examples=examples(30), deadline=None)
@given(
    names=NAMES, batch=st.integers(1, 7), suffix=st.sampled_from(["bin", "npy"]), ending=st.sampled_from(["bin", "npy"])
)
def test_results_do_not_depend_on_the_batch_size(names: list[str], batch: int, suffix: str, ending: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        source, target = Path(root, "in"), Path(root, "out")
        source.mkdir()
        target.mkdir()
        images = write_inputs(source, names, suffix)
        inputs = path_checks.list_inputs(str(source))
        runtime = Plain(batch)
        times = Pipeline(runtime, inputs, target, ending).run()
        assert sorted(os.listdir(target)) == sorted(f"{name}_{k}.{ending}" for name in names for k in (0, 1))
        for name, image in images.items():
            expected = Plain(1).compute(image[None])
            for k, output in enumerate(expected):
                found = tensors.read_output(target / f"{name}_{k}.{ending}")
                assert found.reshape(-1).tobytes() == output.tobytes(), name
                assert ending == "bin" or found.shape == output.shape
        assert len(times.device_ms) == len(runtime.batches) == -(-len(names) // batch)

        # In natural order, the last batch padded with its own first image, as ais_bench does.
        ordered = [images[file.stem] for file in inputs]
        expected_batches = {}
        for start in range(0, len(ordered), batch):
            part = ordered[start : start + batch]
            expected_batches[part[0].tobytes()] = np.stack(part + [part[0]] * (batch - len(part)))
        for given_batch in runtime.batches:
            assert np.array_equal(given_batch, expected_batches[given_batch[0].tobytes()])


def test_npy_files_are_read_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In some versions of Python two threads that read npy headers at the same time fail (cpython issue 106905)."""
    write_inputs(tmp_path, [f"img{i}" for i in range(6)], "npy")
    (tmp_path / "out").mkdir()
    lock, load, seen = threading.Lock(), np.load, []

    def locked_load(*args: Any, **options: Any) -> np.ndarray:
        seen.append(lock.locked())
        return load(*args, **options)

    monkeypatch.setattr(pipeline, "NPY_LOCK", lock)
    monkeypatch.setattr(np, "load", locked_load)
    Pipeline(Plain(2), path_checks.list_inputs(str(tmp_path)), tmp_path / "out", "bin").run()
    assert len(seen) >= 6 and all(seen)


@pytest.mark.parametrize("error", ["missing", "short", "long"])
@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 12), batch=st.integers(1, 4), data=st.data())
def test_an_invalid_input_stops_the_run_and_is_named(error: str, count: int, batch: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        source, target = Path(root, "in"), Path(root, "out")
        source.mkdir()
        target.mkdir()
        write_inputs(source, [f"img{i}" for i in range(count)], "bin")
        inputs = path_checks.list_inputs(str(source))
        pipeline = Pipeline(Plain(batch), inputs, target, "bin")
        bad = inputs[data.draw(st.integers(0, count - 1))]
        if error == "missing":
            bad.unlink()
        else:
            bad.write_bytes(bad.read_bytes()[:-4] if error == "short" else bad.read_bytes() + bytes(4))
        with pytest.raises((OSError, WorkFailed)) as caught:
            pipeline.run()
        assert str(bad) in str(caught.value)
        assert not (target / f"{bad.stem}_0.bin").exists()
        assert all(path.stat().st_size in (4, 24) for path in target.iterdir())


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=3), batch=st.integers(1, 3))
def test_several_passes_are_inferred_in_one_queue(counts: list[int], batch: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        runtime, pipelines = Plain(batch), []
        for number, count in enumerate(counts):
            source, target = Path(root, f"in{number}"), Path(root, f"out{number}")
            source.mkdir()
            target.mkdir()
            write_inputs(source, [f"img{i}" for i in range(count)], "bin")
            pipelines.append(Pipeline(runtime, path_checks.list_inputs(str(source)), target, "bin"))
        times = run_all(pipelines)
        assert [len(each.device_ms) for each in times] == [-(-count // batch) for count in counts]
        assert all(each.total > 0 and each.infer > 0 for each in times)
        for number, count in enumerate(counts):
            assert len(os.listdir(Path(root, f"out{number}"))) == 2 * count


def test_outputs_of_another_batch_size_are_not_written(tmp_path: Path) -> None:
    write_inputs(tmp_path, ["img0"], "bin")
    runtime = Plain(1)
    runtime.compute = lambda batch: [np.zeros(2, np.float32), np.zeros((2, *SHAPE), np.float32)]  # type: ignore[method-assign]
    pipeline = Pipeline(runtime, path_checks.list_inputs(str(tmp_path)), tmp_path / "out", "bin")
    with pytest.raises(UserError, match="sum"):
        pipeline.run()
    assert not (tmp_path / "out").exists()


STATES = st.sampled_from(["whole", "half", "missing", "temporary"])


@settings(max_examples=examples(60), deadline=None)
@given(states=st.lists(st.tuples(STATES, STATES), min_size=1, max_size=8), foreign=st.booleans())
def test_an_interrupted_run_keeps_finished_outputs(states: list[tuple[str, str]], foreign: bool) -> None:
    stems = [f"img{i}" for i in range(len(states))]
    images = [InputImage(stem, f"val/{stem}.JPEG", 0, 9, 9, SHAPE) for stem in stems]
    manifest = Manifest("imagenet", "c", "d", "float32", "NCHW", "bin", 1, 0, images)
    with tempfile.TemporaryDirectory() as root:
        output = OutputDir(Path(root, "run"), "BIN")
        assert keep_finished(output, manifest, COMPILED, {"model": "m"}) == []
        for stem, pair in zip(stems, states):
            for k, state in enumerate(pair):
                data = bytes(OUTPUTS[k].bytes_of_one())
                if state in ("whole", "half"):
                    (output.folder / f"{stem}_{k}.bin").write_bytes(data if state == "whole" else data[:-1])
                elif state == "temporary":
                    (output.folder / f".{stem}_{k}.bin.tmp").write_bytes(data)
        if foreign:
            (output.folder / "other_0.bin").write_bytes(bytes(4))
        whole = [stem for stem, pair in zip(stems, states) if pair == ("whole", "whole")]
        kept = keep_finished(output, manifest, COMPILED, {"model": "m"})
        assert kept == whole[: len(stems) - 1], "at least one input is left for the tool"
        assert sorted(os.listdir(output.folder)) == sorted(f"{stem}_{k}.bin" for stem in kept for k in (0, 1))
        assert keep_finished(output, manifest, COMPILED, {"model": "other"}) == []
        assert os.listdir(output.folder) == []
