"""The table of operators for the screen and the Markdown file, and the facts that explain a loss."""

from __future__ import annotations

from compare.tables import Table, short
from compare.walk import FLOAT16_LARGEST, Operator, worst

HEAD = ("layer", "operator", "own error", "error after", "1 - cosine", "overflow", "saturated", "largest value")


def table(operators: list[Operator], count: int) -> Table:
    """The `count` worst operators."""

    def row(each: Operator) -> list[str]:
        own = "-" if each.own_error is None else short(each.own_error)
        counts = ["-" if value is None else str(value) for value in (each.overflow, each.saturated)]
        largest = "-" if each.largest_value is None else f"{each.largest_value:.3g}"
        cosine = short(1 - each.cosine)
        return [each.layer or each.node or each.tensor, each.kind, own, short(each.error), cosine, *counts, largest]

    shown = worst(operators)[:count]
    if not shown:
        return Table(f"All {len(operators)} operators compute the same values as in the ONNX file", (), ())
    by = "own error" if shown[0].own_error is not None else "error after"
    title = f"Worst {len(shown)} of {len(operators)} operators, by {by}"
    if shown[0].own_overflow:
        title += " (first those that overflow although their inputs do not)"
    return Table(title, HEAD, [row(each) for each in shown])


def findings(operators: list[Operator]) -> list[str]:
    """One line for each fact that explains a loss."""

    def named(operator: Operator) -> str:
        return operator.layer or operator.node or operator.tensor

    lines = []
    overflowing = [each for each in operators if each.own_overflow]
    above = [each for each in operators if (each.largest_value or 0) > FLOAT16_LARGEST]
    clipped = [each for each in operators if each.saturated]
    if overflowing:
        what = "operators that overflow although their inputs do not"
        lines.append(f"{what}: {len(overflowing)}, first {named(overflowing[0])}")
    elif above:
        what = f"operators with values above {FLOAT16_LARGEST:.0f}, which overflow in float16"
        lines.append(f"{what}: {len(above)}, first {named(above[0])}")
    if clipped:
        most = max(clipped, key=lambda each: each.saturated or 0)
        lines.append(f"operators with saturated values: {len(clipped)}, most in layer {named(most)}")
    return lines
