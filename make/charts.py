"""Draw charts with matplotlib.

`draw` writes a scatter chart to files (SVG and PNG). Its labels overlap neither points nor each other if there is room.
`scatter`, `curves`, `bars`, `stacked` and `intervals` return an SVG element for an HTML page; its text and axes have
the colour of the page's text.

Only the functions that draw import matplotlib (the extra `report`). The same values give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from hrnet.cli import UserError
from hrnet.hints import install
from hrnet.io.files import replacing

SIZE, DPI = (8.0, 5.5), 150  # inches, pixels per inch of the PNG
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito's, for the colour-blind
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKER = 6.5  # diameter, points
FONT = 8.0  # of a label, points
MARGIN = 0.08  # free space around the points, as a share of the axis
SHORT = 30  # characters: if the first name is longer, the legend has one column
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "hrnet",
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "grid.color": "black",
    "grid.alpha": 0.15,
    "legend.frameon": False,
}
INK, GREY = "#010203", "#8a9099"  # INK becomes currentColor
WIDTH, HEIGHT = 4.6, 2.9  # of a chart in a page, inches
SCATTER_HEIGHT = 3.7  # of a scatter chart in a page, inches
PAGE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may contain $
    "font.size": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
GAP = 2.0  # in 1/72 inch: between a point and its label, and between two labels
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # of a label from its point


class Point(NamedTuple):
    """One point of a chart."""

    label: str  # empty: no label
    x: float
    y: float
    filled: bool = True


class Series(NamedTuple):
    """Points of one colour."""

    name: str
    points: Sequence[Point]


class Curve(NamedTuple):
    """Points that are connected. `grey`: values published by others."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    grey: bool = False


class Interval(NamedTuple):
    """A value with its interval; NaN: no interval."""

    name: str
    value: float
    low: float
    high: float


class Box(NamedTuple):
    """A rectangle: left, bottom, right, top."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """The area that two rectangles share."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height if width > 0 and height > 0 else 0.0

    def grow(self, margin: float) -> Box:
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)


def check_installed() -> None:
    """Raise UserError unless matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("matplotlib is not installed", hint=install("matplotlib", "report"))


def candidates(anchor: tuple[float, float], size: tuple[float, float], reach: float, far: float) -> Iterator[Box]:
    """Possible places for a label of `size` (width, height) around its point, the nearest first, at distances from
    `reach` to `far`."""
    x, y = anchor
    width, height = size
    distance = reach
    while distance < far:
        for right, up in DIRECTIONS:
            away = distance * (0.75 if right and up else 1.0)
            x0 = x - width / 2 + right * (width / 2 + away)
            y0 = y - height / 2 + up * (height / 2 + away)
            yield Box(x0, y0, x0 + width, y0 + height)
        distance += height / 2


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    markers: Sequence[Box],
    lines: Sequence[Box],
    bounds: Box,
) -> list[Box]:
    """A box for each label: the nearest place to its anchor, inside `bounds`, that overlaps no earlier label, no marker
    and no line, and that is not beside the marker of another point; if none exists, the place that overlaps least."""
    taken: list[Box] = []
    far = math.hypot(bounds.x1 - bounds.x0, bounds.y1 - bounds.y0)
    for anchor, size in zip(anchors, sizes):
        best, least = Box(*anchor, *anchor), math.inf
        own = Box(*anchor, *anchor).grow(GAP)  # around the label's own point
        avoided = [marker if marker.overlap(own) else marker.grow(MARKER) for marker in markers]
        for box in candidates(anchor, size, MARKER / 2 + GAP, far):
            if box.x0 < bounds.x0 or box.y0 < bounds.y0 or box.x1 > bounds.x1 or box.y1 > bounds.y1:
                continue
            overlap = sum(box.grow(GAP / 2).overlap(other) for other in (*taken, *avoided, *lines))
            if overlap < least:
                best, least = box, overlap
            if not overlap:
                break
        taken.append(best)
    return taken


def draw(output: Path, title: str, x: str, series: Sequence[Series], *, log: bool = False) -> None:
    """Write `<output>.svg` and `<output>.png`: Top-1 against `x`, on white."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(SIZE, 72, layout="constrained")  # 72 dpi: a pixel is 1/72 inch while labels are placed
        axes = figure.add_subplot(title=title)
        _scatter(figure, axes, x, series, log)
        with replacing(output.with_suffix(".svg")) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
        with replacing(output.with_suffix(".png")) as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def scatter(x: str, series: Sequence[Series], *, log: bool = False) -> str:
    """The same chart as that of `draw`, without a title, as an SVG element."""
    return _page_chart(SCATTER_HEIGHT, lambda figure, axes: _scatter(figure, axes, x, series, log))


def _scatter(figure: Any, axes: Any, x: str, series: Sequence[Series], log: bool) -> None:
    """Draw Top-1 against `x`. Points with the same label are connected, and only the rightmost one is labelled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    lines: dict[str, list[Point]] = {}
    for point in sorted((point for each in series for point in each.points), key=lambda point: point.x):
        lines.setdefault(point.label, []).append(point)
    canvas = FigureCanvasAgg(figure)
    axes.set(xlabel=x, ylabel="Top-1, %")
    axes.grid()
    axes.margins(MARGIN, MARGIN)
    for line in lines.values():
        axes.plot([point.x for point in line], [point.y for point in line], color=GREY, alpha=0.5, lw=1, zorder=1)
    for number, (name, points) in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        style: dict[str, Any] = {"marker": marker, "ms": MARKER, "mec": colour, "ls": ""}
        axes.plot([], [], label=name, mfc=colour, **style)
        for point in points:
            axes.plot(point.x, point.y, mfc=colour if point.filled else "none", clip_on=False, **style)
    _scale(axes, log)
    if len(series) > 1:
        columns = 1 if len(series[0].name) > SHORT else 3
        figure.legend(loc="outside lower center", ncols=columns, fontsize=FONT)
    canvas.draw()
    _label(axes, canvas, list(lines.values()))


def _scale(axes: Any, log: bool) -> None:
    """Set the horizontal axis: it starts at 0, or is logarithmic with ticks at 1, 2 and 5 times powers of 10. Labels
    have room on the right."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter("")
    left, right = axes.get_xlim()
    axes.set_xlim(left if log else 0.0, right * (right / left) ** MARGIN if log else right * (1 + MARGIN))


def _label(axes: Any, canvas: Any, lines: Sequence[Sequence[Point]]) -> None:
    """Place a label at the last point of each line. If it is not beside the point, a line connects them."""
    shown = sorted((line[-1] for line in lines if line[-1].label), key=lambda point: (-point.y, point.x))
    at = {point: tuple(axes.transData.transform((point.x, point.y))) for line in lines for point in line}
    texts = [axes.annotate(point.label, (point.x, point.y), fontsize=FONT, annotation_clip=False) for point in shown]
    sizes = [(each.width, each.height) for each in (text.get_window_extent(canvas.get_renderer()) for text in texts)]
    for text in texts:
        text.remove()
    markers = [Box(x, y, x, y).grow(MARKER / 2) for x, y in at.values()]
    drawn = [box for line in lines for start, end in zip(line, line[1:]) for box in steps(at[start], at[end])]
    bounds = Box(*axes.get_window_extent().extents).grow(-GAP)
    for point, box in zip(shown, place_labels([at[point] for point in shown], sizes, markers, drawn, bounds)):
        x, y = at[point]
        away = max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1)
        line_to = {"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": MARKER / 2}
        axes.annotate(
            point.label,
            (point.x, point.y),
            ((box.x0 + box.x1) / 2 - x, (box.y0 + box.y1) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
            arrowprops=line_to if away > MARKER else None,
        )


def steps(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Small boxes along a line."""
    count = max(1, math.ceil(math.dist(start, end) / MARKER))
    where = [tuple(a + (b - a) * step / count for a, b in zip(start, end)) for step in range(count + 1)]
    return [Box(x, y, x, y).grow(1) for x, y in where]


def _page_chart(height: float, plot: Callable[[Any, Any], None], width: float = WIDTH) -> str:
    """An SVG element without a size, for a page of HTML. `plot` draws on a figure and its axes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, **PAGE}), io.StringIO() as file:
        figure = Figure((width, height), 72, layout="constrained")
        axes = figure.add_subplot()
        plot(figure, axes)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
        text = file.getvalue()
    unused = (
        r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*"  # a style would apply to the whole page
    )
    text = re.sub(unused, "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' (width|height)="[0-9.]+pt"', "", text, count=2).replace(INK, "currentColor")
    text = text.replace("'DejaVu Sans'", "sans-serif")
    for number, colour in enumerate(COLOURS):  # a page may define brighter ones for a dark background
        text = text.replace(colour, f"var(--chart{number}, {colour})")
    prefix = f"c{hashlib.sha256(text.encode()).hexdigest()[:8]}-"  # ids are unique in the page
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}", text)


def curves(
    lines: Sequence[Curve], x: str, y: str, *, ticks: Sequence[float] = (), log: bool = False, zero: bool = True
) -> str:
    """Curves of y against x, with a legend. `ticks`: the only values to mark on the x axis; `log`: x is logarithmic."""

    def plot(figure: Any, axes: Any) -> None:
        own = 0
        for line in lines:
            style = {"color": GREY, "ls": "--"} if line.grey else {"color": COLOURS[own % len(COLOURS)]}
            marker = MARKERS[own % len(MARKERS)] if len(line.x) < 40 else ""
            axes.plot(line.x, line.y, label=line.name, marker=marker, ms=4, lw=1.4, clip_on=False, **style)
            own += not line.grey
        axes.set(xlabel=x, ylabel=y)
        axes.grid()
        if log:
            axes.set_xscale("log")
        if ticks:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        if zero:
            axes.set_ylim(bottom=0)
        if any(line.name for line in lines):
            figure.legend(loc="outside upper left", ncols=2, fontsize=FONT - 1)

    return _page_chart(HEIGHT, plot)


def bars(names: Sequence[str], values: Sequence[float], x: str) -> str:
    """Horizontal bars, the first one on top, each with its value."""

    def plot(_: Any, axes: Any) -> None:
        drawn = axes.barh(range(len(names)), values, color=COLOURS[0], height=0.7)
        axes.bar_label(drawn, fmt="{:.4g}", padding=3, fontsize=FONT - 1)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel=x)
        axes.grid(axis="x")

    return _page_chart(0.8 + 0.2 * len(names), plot)


def stacked(parts: Sequence[tuple[str, float]], x: str) -> str:
    """One horizontal bar in parts, with a legend."""

    def plot(figure: Any, axes: Any) -> None:
        left = 0.0
        for number, (name, value) in enumerate(parts):
            hatch = "//" if number >= len(COLOURS) else ""
            colour = COLOURS[number % len(COLOURS)]
            axes.barh(
                0,
                value,
                left=left,
                color=colour,
                hatch=hatch,
                label=f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}",
                height=0.6,
            )
            left += value
        axes.set(xlabel=x, yticks=[], xlim=(0, left or 1))
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, fontsize=FONT - 1)

    return _page_chart(1.6, plot)


def intervals(rows: Sequence[Interval], x: str, limit: Optional[float] = None, width: float = WIDTH) -> str:
    """A dot with its interval for each row, the first one on top; `limit`: the lowest value that passes."""

    def plot(_: Any, axes: Any) -> None:
        for number, row in enumerate(rows):
            axes.plot([row.low, row.high], [number, number], color=COLOURS[0], lw=4, alpha=0.45, solid_capstyle="butt")
            axes.plot(row.value, number, color=COLOURS[0], marker="o", ms=MARKER)
        if limit is not None:
            axes.axvline(limit, color=COLOURS[1], lw=1.4)
            axes.annotate(
                f"limit {limit:.2f}",
                (limit, 1),
                (3, -8),
                ("data", "axes fraction"),
                "offset points",
                color=COLOURS[1],
                fontsize=FONT - 1,
            )
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.8)
        axes.margins(x=0.1)
        axes.set(xlabel=x)
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.grid(axis="x")

    return _page_chart(0.8 + 0.24 * len(rows), plot, width)
