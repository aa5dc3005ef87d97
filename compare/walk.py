"""Run a graph and its compiled version side by side, part by part (compare/graphs.py), and add up the errors.

Each matched tensor is computed three times: by the reference, by the compiled graph from its own tensors, and by the
compiled graph from the reference's tensors, which gives the error that this part adds itself. A tensor is kept only
until its last use, so the memory does not grow with the number of images, nor with the depth of the graph.

Parts run in onnxruntime without optimisation and on one thread, so equal parts give equal bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import onnx
import onnxruntime

from compare.graphs import Graph, Part, cut, layer_names, match, order
from compare.sums import Sums
from hrnet.cli import UserError

FLOAT16_LARGEST = 65504.0  # the largest float16 value; a chip in saturation mode returns it instead of infinity
FATAL_ONLY = 4
JUST_ABOVE = 1.001  # factor: because of rounding in float32, an error can be slightly larger than half of the scale

Tensors = dict[str, np.ndarray]


class BatchDiffers(Exception):
    """One of the graphs cannot compute a batch of this size, or their tensors have different shapes."""


@dataclass(frozen=True)
class Operator:
    """The result for one matched tensor over all images."""

    tensor: str
    node: str  # name of the ONNX node
    kind: str  # operator type of this node, such as Conv
    layer: str  # name of the torch module; may be empty
    error: float  # relative, after this operator
    cosine: float
    largest: Optional[float]  # absolute difference
    own_error: Optional[float]  # relative error that the operator itself adds; None if the tool does not measure it
    own_largest: Optional[float]
    overflow: Optional[int]  # values that are NaN or infinite although the reference's are finite
    own_overflow: Optional[int]
    saturated: Optional[int]  # values that quantization clipped, or that are equal to the largest float16 value
    largest_value: Optional[float]  # of the reference, absolute: above 65504 it overflows in float16
    values: Optional[int]


class _Tensor:
    """The sums for one matched tensor."""

    def __init__(self) -> None:
        self.after, self.own = Sums(), Sums()
        self.saturated, self.values, self.largest_value = 0, 0, 0.0

    def add(self, expected: np.ndarray, found: np.ndarray, own: np.ndarray, clipped: int) -> None:
        self.after.add(expected, found)
        self.own.add(expected, own)
        self.saturated += clipped + int((np.abs(found) == FLOAT16_LARGEST).sum())
        self.values += expected.size
        finite = np.abs(expected[np.isfinite(expected)])
        self.largest_value = max(self.largest_value, float(finite.max(initial=0)))


class Walk:
    """Compares a compiled graph with its reference, image by image."""

    def __init__(self, reference: onnx.ModelProto, compiled: onnx.ModelProto) -> None:
        graphs = Graph(reference), Graph(compiled)
        matched = match(*graphs)
        if not matched:
            hint = "compare a model with the file that it was compiled from"
            raise UserError("the two graphs have no tensor of the same name", hint=hint)
        self.inputs = [list(graph.inputs) for graph in graphs]
        self.parts = cut(graphs[0], {tensor: [tensor] for tensor in matched}), cut(graphs[1], matched)
        self.order = order(self.parts)
        self.last_use = {tensor: tensor for tensor in self.order}
        for tensor in self.order:
            for parts in self.parts:
                self.last_use.update(dict.fromkeys(parts[tensor].feeds.values(), tensor))
        self.reset()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}  # by the bytes of the part: equal parts share one
        self._keys: dict[int, str] = {}

    def reset(self) -> None:
        self.sums = {tensor: _Tensor() for tensor in self.order}

    def add(self, reference_input: np.ndarray, compiled_input: np.ndarray) -> None:
        """Add one image, or a batch, to the sums. Raises BatchDiffers if one of the graphs fails or their tensors
        have different shapes; then call `reset`."""
        given = [dict.fromkeys(names, values) for names, values in zip(self.inputs, (reference_input, compiled_input))]
        expected: Tensors = {}
        found: Tensors = {}
        for tensor in self.order:
            by_reference, by_compiled = (parts[tensor] for parts in self.parts)
            expected[tensor] = self._run(by_reference, expected, given[0])[0]
            found[tensor], *exact = self._run(by_compiled, found, given[1])
            own = self._run(by_compiled, expected, given[1])[0]
            if not expected[tensor].shape == found[tensor].shape == own.shape:
                raise BatchDiffers(f"{tensor}: {list(expected[tensor].shape)} and {list(found[tensor].shape)}")
            clipped = _count_clipped(found[tensor], exact, by_compiled.half_scale)
            self.sums[tensor].add(expected[tensor], found[tensor], own, clipped)
            for name in {tensor, *by_reference.feeds.values(), *by_compiled.feeds.values()}:
                if self.last_use[name] == tensor:
                    del expected[name], found[name]

    def _run(self, part: Part, tensors: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> list[Any]:
        feeds: dict[str, Any] = {name: given[name] for name in part.graph_inputs}
        feeds |= {name: tensors[needed].astype(part.dtypes[name], copy=False) for name, needed in part.feeds.items()}
        try:
            outputs: list[Any] = self._session(part).run(None, feeds)
        except Exception as error:  # onnxruntime's exceptions have no other common base class
            what = f"onnxruntime cannot run {part.node.op_type} {part.node.name}: {' '.join(str(error).split())}"
            raise BatchDiffers(what) from None
        return outputs

    def _session(self, part: Part) -> onnxruntime.InferenceSession:
        key = self._keys.get(id(part))
        if key is None:
            content = part.model.SerializeToString(deterministic=True)
            key = self._keys[id(part)] = hashlib.sha256(content).hexdigest()
            if key not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                options.log_severity_level = FATAL_ONLY
                options.enable_cpu_mem_arena = False  # an arena for each of hundreds of sessions keeps too much memory
                options.enable_mem_pattern = False
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                self._sessions[key] = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
            part.model.Clear()  # the session has the weights
        return self._sessions[key]

    def operators(self) -> list[Operator]:
        """The results for all matched tensors, in the order of the graph."""
        nodes = {tensor: part.node for tensor, part in self.parts[0].items()}
        layers = layer_names(node.name for node in nodes.values())
        found = []
        for tensor in self.order:
            sums, node = self.sums[tensor], nodes[tensor]
            after, own = sums.after.error(), sums.own.error()
            operator = Operator(
                tensor=tensor,
                node=node.name,
                kind=node.op_type,
                layer=layers[node.name],
                error=after.relative,
                cosine=after.cosine,
                largest=after.largest,
                own_error=own.relative,
                own_largest=own.largest,
                overflow=sums.after.not_finite,
                own_overflow=sums.own.not_finite,
                saturated=sums.saturated,
                largest_value=sums.largest_value,
                values=sums.values,
            )
            found.append(operator)
        return found


def _count_clipped(found: np.ndarray, exact: list[np.ndarray], half_scale: Optional[float]) -> int:
    """The number of values that quantization changed by more than half of its scale, since they were outside of its
    range."""
    if not exact or half_scale is None:
        return 0
    with np.errstate(invalid="ignore"):  # inf - inf
        return int((np.abs(found - exact[0]) > half_scale * JUST_ABOVE).sum())


def worst(operators: list[Operator]) -> list[Operator]:
    """The operators with an error, worst first: first those that overflow although their inputs do not, sorted by the
    number of values that overflow, then those with the largest own error. If there are no own errors (msprobe), the
    error after the operator is used instead."""

    def badness(operator: Operator) -> tuple[int, float]:
        own = operator.error if operator.own_error is None else operator.own_error
        return (operator.own_overflow or 0, own)

    return sorted((each for each in operators if badness(each) > (0, 0.0)), key=badness, reverse=True)
