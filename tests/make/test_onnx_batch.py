"""make/onnx_batch.py agrees with onnx; and the default of BATCH and BATCHES for a file with a fixed batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from hrnet.io.recognise import MAGIC
from make.onnx_batch import fixed_batch
from tests.make.option_calls import rejected, resolve
from tests.support.onnx_models import classifier

pytestmark = pytest.mark.usefixtures("checkout")


def saved(name: str, batch: object) -> Path:
    model = classifier()
    axis = model.graph.input[0].type.tensor_type.shape.dim[0]
    axis.Clear()
    if isinstance(batch, int):
        axis.dim_value = batch
    elif batch:
        axis.dim_param = str(batch)
    listed = [helper.make_tensor_value_info(each.name, 1, each.dims) for each in model.graph.initializer]
    inputs = [*listed, *model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, name)
    return Path(name)


@pytest.mark.parametrize(("batch", "found"), [(1, 1), (4, 4), (300, 300), (70_000, 70_000), ("N", 0), ("", 0), (0, 0)])
def test_the_first_dimension_of_the_first_input(batch: object, found: int) -> None:
    """Also in a file that lists its weights as inputs."""
    assert fixed_batch(saved("a.onnx", batch)) == found


def test_weights_in_a_separate_file() -> None:
    model = onnx.load(saved("a.onnx", 4))
    onnx.save(model, "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    assert fixed_batch(Path("b.onnx")) == 4


def test_damaged_files_have_no_batch_size() -> None:
    """Each prefix of a file, and changed bytes: the stages report what is wrong."""
    whole = saved("a.onnx", 4).read_bytes()
    path, random = Path("cut.onnx"), np.random.default_rng(0)
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert fixed_batch(path) in (0, 4)
    for _ in range(300):
        changed = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            changed[at] = random.integers(0, 256)
        path.write_bytes(changed)
        assert fixed_batch(path) >= 0
    assert fixed_batch(Path("none.onnx")) == fixed_batch(Path("configs")) == 0


def test_the_batch_size_of_the_file_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    saved("four.onnx", 4)
    found = resolve("bench", ONNX="four.onnx")
    assert (found["BATCH"], found["BATCHES"]) == ("4", "4")
    assert "BATCHES=4: four.onnx has this fixed batch size" in capsys.readouterr().err
    for goal in ("eval", "qps", "serve"):
        assert resolve(goal)["BATCHES"] == "4", "ONNX is remembered"
    assert "BATCH=4 BATCHES=4: four.onnx" in capsys.readouterr().err
    assert {path.stem for path in Path("build/net/settings").iterdir()} == {"ONNX"}
    assert resolve("eval", BATCH="4")["BATCH"] == "4"
    saved("n.onnx", "N")
    assert resolve("qps", ONNX="n.onnx")["BATCHES"] == "1,4,8,16,32,64"


def test_after_weights_were_given_the_file_does_not_matter() -> None:
    saved("four.onnx", 4)
    Path("w.pth").write_bytes(MAGIC)
    resolve(ONNX="four.onnx")
    assert resolve(WEIGHTS="w.pth")["BATCH"] == "16"
    assert resolve()["ONNX"] == "build/net/model.onnx"


@pytest.mark.parametrize(
    ("goals", "given"),
    [("eval", {"BATCH": "16"}), ("bench", {"BATCHES": "1,4"}), ("serve", {"BATCHES": "8"}), ("qps", {"BATCHES": "1"})],
)
def test_other_batch_sizes_are_rejected(goals: str, given: dict[str, str]) -> None:
    saved("four.onnx", 4)
    line = rejected(goals, ONNX="four.onnx", **given)
    ((name, value),) = given.items()
    assert line.startswith(f"{name}={value}: ") and "four.onnx is fixed: 4" in line and line.endswith(f"give {name}=4")
