"""Assignment with the lowest total cost, with the same result as munkres 1.x if several assignments have that cost.

Equal costs occur in crowds. The result of the Hungarian algorithm then depends on the order in which it searches for
zeros, and on rounding. Order and rounding are as in the package that upstream uses (munkres 1.1.4, `Munkres.compute`),
but with bit sets instead of nested lists.
"""

from __future__ import annotations

import sys

import numpy as np


def assign(costs: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column), sorted by row, with the lowest total cost. costs: float64 [R, C], finite. Every row or every
    column is assigned, whichever are fewer."""
    rows, columns = costs.shape
    n = max(rows, columns)
    cost = np.zeros((n, n))
    cost[:rows, :columns] = costs
    cost -= cost.min(axis=1, keepdims=True)
    star_of_row, star_of_column = [-1] * n, [-1] * n
    zeros = _zeros(cost)
    for row, bits in enumerate(zeros):
        for column in range(n):
            if bits >> column & 1 and star_of_column[column] < 0:
                star_of_row[row], star_of_column[column] = column, row
                break
    while -1 in star_of_row:
        open_rows = [True] * n
        open_columns = sum(1 << column for column in range(n) if star_of_column[column] < 0)
        prime_of_row = [-1] * n
        row = column = 0
        while True:
            row, column = _find(zeros, open_rows, open_columns, row, column)
            if row < 0:
                _shift(cost, open_rows, open_columns)
                zeros = _zeros(cost)
                row = column = 0
                continue
            prime_of_row[row] = column
            if star_of_row[row] < 0:
                break
            column = star_of_row[row]
            open_rows[row] = False
            open_columns |= 1 << column
        while row >= 0:  # follow alternating primes and stars; each prime becomes a star
            column = prime_of_row[row]
            freed = star_of_column[column]
            star_of_row[row], star_of_column[column] = column, row
            row = freed
    return [(row, star_of_row[row]) for row in range(rows) if star_of_row[row] < columns]


def _zeros(cost: np.ndarray) -> list[int]:
    """For each row, a bit set of the columns with a zero."""
    packed = np.packbits(cost == 0, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _find(zeros: list[int], open_rows: list[bool], open_columns: int, row: int, column: int) -> tuple[int, int]:
    """Row and column of an uncovered zero; -1, -1 if there is none. Rows are searched cyclically from `row`; in the
    first row with a zero, the last zero in cyclic order from `column` is taken."""
    n = len(zeros)
    before = (1 << column) - 1
    for i in (*range(row, n), *range(row)):
        if open_rows[i]:
            bits = zeros[i] & open_columns
            if bits:
                return i, ((bits & before) or bits).bit_length() - 1
    return -1, -1


def _shift(cost: np.ndarray, open_rows: list[bool], open_columns: int) -> None:
    """Add the lowest uncovered cost to covered rows, then subtract it from uncovered columns. As in munkres, these are
    two operations, so a value may be rounded twice."""
    rows = np.array(open_rows)
    columns = np.array([bool(open_columns >> column & 1) for column in range(len(cost))])
    least = min(float(cost[np.ix_(rows, columns)].min()), float(sys.maxsize))
    cost += np.where(rows, 0.0, least)[:, None]
    cost -= np.where(columns, least, 0.0)[None, :]
