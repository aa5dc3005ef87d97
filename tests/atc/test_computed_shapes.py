"""Models whose output shapes ONNX cannot infer: the record has the shapes that onnxruntime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from atc import adopt, convert, graph
from atc.shapes import DYNAMIC, AtcError
from hrnet.io.compiled import CompiledModel, TensorInfo
from tests.atc.calls import arguments
from tests.support.onnx_models import model_of, padded, saved


@pytest.mark.parametrize("batch", [1, 4])
def test_the_record_has_the_computed_output_shape(batch: int, here: Path) -> None:
    saved(here, padded())
    assert convert.main(arguments("out.onnx", "--batch_size", str(batch))) == 0
    assert CompiledModel.read(Path("out.onnx")).outputs == [TensorInfo("what", "float32", [batch, 3, 32, 32])]


def test_records_of_atc_and_of_adopt_have_the_computed_shape(here: Path, atc: pytest.MonkeyPatch) -> None:
    saved(here, padded())
    assert convert.main(arguments("out.om", "--batch_size", "2")) == 0
    expected = [TensorInfo("what", "float32", [2, 3, 32, 32])]
    assert CompiledModel.read(Path("out.om")).outputs == expected
    Path("out.om.json").unlink()
    assert adopt.main(["--om", "out.om", "--model", "model.onnx", "--batch_size", "2"]) == 0
    assert CompiledModel.read(Path("out.om")).outputs == expected


def test_each_gear_has_its_own_shape() -> None:
    model = padded("side")
    for side, found in ((30, 32), (64, 64), (65, 80)):
        shape = graph.output_shapes(model, {"image": [1, 3, side, side]}, strict=True)[0].shape
        assert shape == [1, 3, found, found]
    unknown = graph.output_shapes(model, {"image": [1, 3, DYNAMIC, DYNAMIC]})[0].shape
    assert not unknown or DYNAMIC in unknown


def test_a_shape_at_which_the_model_does_not_run_is_rejected() -> None:
    """A shape that fails only when the model runs: 5400 values cannot be reshaped to [2, 3, 2, 2], the sizes modulo
    7."""
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Mod", ["shape", "m"], ["rest"]),
        helper.make_node("Reshape", ["image", "rest"], ["what"]),
    ]
    model = model_of(nodes, {"image": ["batch", 3, 30, 30]}, {"what": None}, m=np.array([7], np.int64))
    with pytest.raises(AtcError) as caught:
        graph.output_shapes(model, {"image": [2, 3, 30, 30]})
    assert caught.value.code == "E10001" and "2,3,30,30" in caught.value.text
    with pytest.raises(ValueError, match="Reshape"):
        graph.output_shapes(model, {"image": [2, 3, 30, 30]}, strict=True)
