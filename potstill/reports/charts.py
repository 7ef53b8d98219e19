"""Small charts as inline SVG: numbers and names in, markup out.

Positions are percentages and text is in pixels, so a chart fills its column and stays legible on a phone without a
script. Colours come from the page's custom properties (`--student`, ...) with a fallback; what colour shows is also
shown by shape, pattern or words. Every chart has a title and a description for screen readers. All names are escaped
here. Does not cover which numbers to draw, or axes with many ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Role = Literal["student", "teacher", "baseline", "llm", "human", "compute", "lost", "held", "free"]

_COLOURS: dict[Role, str] = {
    "student": "#b8551b",
    "teacher": "#2b6491",
    "baseline": "#8a8580",
    "llm": "#2b6491",
    "human": "#d9a441",
    "compute": "#5f9c95",
    "lost": "#6b6b6b",
    "held": "#a8a29a",
    "free": "none",
}
_INK, _SOFT = "var(--ink,#222)", "var(--soft,#666)"
_TRACK, _PAPER = "var(--track,#ece8e1)", "var(--paper,#fff)"
_HATCHED: tuple[Role, ...] = ("held", "lost")
PLOT_PX, TOP_PX = 190, 10  # the height of a line chart, and the room above it


@dataclass(frozen=True)
class Bar:
    """A row of `bar_chart`. `value`, `low` and `high` are in the chart's unit; `text` is shown at the right."""

    name: str
    value: float
    text: str
    role: Role = "baseline"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tick:
    """A mark on the axis of a chart, in its unit."""

    value: float
    name: str


@dataclass(frozen=True)
class Segment:
    """A segment of `stacked_bar`: its share of the whole in [0, 1].

    With a `start` in [0, 1] it is a strip laid over the segments there: a part of what is already shown.
    """

    name: str
    share: float
    role: Role
    start: float | None = None


@dataclass(frozen=True)
class Dot:
    """A point of `line_chart`, all in [0, 1]; `low` and `high` are the interval of `y`."""

    x: float
    y: float
    low: float
    high: float


def colour(role: Role) -> str:
    """The CSS colour of a role."""
    return "none" if role == "free" else f"var(--{role},{_COLOURS[role]})"


def bar_chart(rows: Sequence[Bar], *, key: str, title: str, top: float, ticks: Sequence[Tick] = ()) -> str:
    """Horizontal bars from zero to `top`, a row of name and figure above each, the interval as a whisker on it.

    Args:
        rows: the bars, from the top.
        key: makes the ids of this chart unique on its page.
        title: one sentence; the rows' names and texts become the description.
        top: the value at the right end.
        ticks: cuts through the bars, named under the last one.
    """
    row_px = 44
    axis_y = row_px * len(rows) + 6
    marks = [_percent(tick.value, top) for tick in ticks]
    parts = [_axis_text(at, axis_y, tick.name) for at, tick in zip(marks, ticks, strict=True)]
    for nth, row in enumerate(rows):
        y = nth * row_px
        parts.append(_row_text(row, y + 13))
        parts.append(_rect(0, 100, y + 21, 12, f"fill:{_TRACK}"))
        parts.append(_rect(0, _percent(row.value, top), y + 21, 12, f"fill:{colour(row.role)}"))
        cut = f"stroke:{_PAPER};stroke-width:1"
        parts.extend(_line(at, at, y + 21, y + 33, cut) for at in marks if 0 < at < 100)
        if row.low is not None and row.high is not None:
            parts.append(_whisker(_percent(row.low, top), _percent(row.high, top), y + 27))
    description = "; ".join(f"{row.name}: {row.text}" for row in rows)
    return _svg(key, title, description, axis_y + 6 if ticks else row_px * len(rows), "".join(parts))


def stacked_bar(segments: Sequence[Segment], *, key: str, title: str) -> str:
    """One bar cut into parts of a whole; `held` and `lost` are hatched, `free` is an empty frame."""
    hatches = "".join(_hatch(f"{key}-{role}", role) for role in _HATCHED)
    drawn, left = [], 0.0
    for part in segments:
        fill = f"url(#{key}-{part.role})" if part.role in _HATCHED else colour(part.role)
        if part.role == "free":
            fill = _TRACK
        style = f"fill:{fill};stroke:{_PAPER};stroke-width:1"
        start = left if part.start is None else 100 * part.start
        width = max(0.0, min(100 * part.share, 100 - start))
        if part.start is None:
            drawn.append(_rect(start, width, 0, 26, style, _segment_text(part)))
            left += width
        else:
            drawn.append(_rect(start, width, 18, 8, style, _segment_text(part)))
    description = "; ".join(_segment_text(part) for part in segments)
    return _svg(key, title, description, 26, f"<defs>{hatches}</defs>{''.join(drawn)}")


def line_chart(
    dots: Sequence[Dot],
    *,
    key: str,
    title: str,
    target: float | None = None,
    highlight: Dot | None = None,
    axis: Sequence[Tick] = (),
) -> str:
    """A line over the share x in [0, 1] with its interval as a band; y from a round share below all up to one.

    Args:
        dots: by ascending x.
        key: makes the ids of this chart unique on its page.
        title: one sentence; first, last and marked dot become the description.
        target: a share to reach, drawn as a dashed line.
        highlight: one dot, drawn as a ring on the line.
        axis: ticks under the line, x in [0, 1], and then every dot is drawn; without them x is a share in percent.
    """
    lowest = min([*(dot.low for dot in dots), *([] if target is None else [target])])
    step = 0.1 if lowest < 0.7 else 0.05 if lowest < 0.9 else 0.02
    bottom = max(0.0, min(int(lowest / step) * step, 1 - 2 * step))

    def y_of(share: float) -> float:
        return round(PLOT_PX * (1 - (share - bottom) / (1 - bottom)), 2)

    parts = []
    for nth in range(round((1 - bottom) / step) + 1):
        share = bottom + nth * step
        parts.append(_grid_line(TOP_PX + y_of(share), f"{100 * share:.0f} %"))
    ticks = axis or [Tick(at / 100, f"{at} %") for at in (0, 25, 50, 75, 100)]
    parts += [_axis_text(100 * tick.value, TOP_PX + PLOT_PX + 20, tick.name) for tick in ticks]
    parts.append(_band(dots, y_of))
    for dot in dots if axis else ():
        filled = f"fill:{colour('student')}"
        parts.append(f'<circle cx="{100 * dot.x:.2f}%" cy="{TOP_PX + y_of(dot.y)}" r="3" style="{filled}"/>')
    dashes = f"stroke:{_INK};stroke-width:1;stroke-dasharray:3 4"
    if target is not None:
        parts.append(_line(0, 100, TOP_PX + y_of(target), TOP_PX + y_of(target), dashes))
    if highlight is not None:
        x, y = 100 * highlight.x, TOP_PX + y_of(highlight.y)
        parts.append(_line(x, x, y, TOP_PX + PLOT_PX, dashes))
        ring = f"fill:{_PAPER};stroke:{colour('student')};stroke-width:2.5"
        parts.append(f'<circle cx="{x:.2f}%" cy="{y}" r="5.5" style="{ring}"/>')
    named = [*dots[:1], *([] if highlight is None else [highlight]), *dots[-1:]]
    description = "; ".join(f"{100 * dot.y:.1f} % on {100 * dot.x:.0f} %" for dot in named)
    frame = _svg(key, title, description, TOP_PX + PLOT_PX + 26, "".join(parts))
    return frame.replace('class="chart"', 'class="chart plot"', 1)


def _grid_line(y: float, name: str) -> str:
    label = f'<text x="-8" y="{y + 4}" text-anchor="end" style="fill:{_SOFT};font-size:12px">{name}</text>'
    return _line(0, 100, y, y, f"stroke:{_TRACK};stroke-width:1") + label


def _band(dots: Sequence[Dot], y_of: Callable[[float], float]) -> str:
    """The line through the dots on the band of their intervals, stretched to the width; its strokes are not."""
    upper = [f"{100 * dot.x:.2f},{y_of(dot.high)}" for dot in dots]
    lower = [f"{100 * dot.x:.2f},{y_of(dot.low)}" for dot in reversed(dots)]
    middle = " ".join(f"{100 * dot.x:.2f},{y_of(dot.y)}" for dot in dots)
    pen = f"fill:none;stroke:{colour('student')};stroke-width:2;stroke-linejoin:round;stroke-linecap:round"
    return (
        f'<svg x="0" y="{TOP_PX}" width="100%" height="{PLOT_PX}" viewBox="0 0 100 {PLOT_PX}"'
        f' preserveAspectRatio="none" style="overflow:visible"><polygon points="{" ".join(upper + lower)}"'
        f' style="fill:{colour("student")};opacity:.16"/>'
        f'<polyline points="{middle}" vector-effect="non-scaling-stroke" style="{pen}"/></svg>'
    )


def swatch(role: Role) -> str:
    """A small square in a role's colour or pattern, for a legend; hidden from screen readers."""
    key = f"swatch-{role}"
    fill, frame = colour(role), ""
    defs = ""
    if role in _HATCHED:
        defs, fill = f"<defs>{_hatch(key, role)}</defs>", f"url(#{key})"
    elif role == "free":
        fill, frame = _TRACK, f";stroke:{colour('baseline')};stroke-width:1"
    box = f'<rect x="0.5" y="0.5" width="11" height="11" rx="2" style="fill:{fill}{frame}"/>'
    return f'<svg class="swatch" width="12" height="12" aria-hidden="true">{defs}{box}</svg>'


def dot_plot(student: float, teacher: float | None = None, *, label: str) -> str:
    """A track from 0 to 1 with a filled dot (student) and a hollow ring (teacher), for one row of a table."""
    text = f"{label}: student {student:.2f}" + ("" if teacher is None else f", teacher {teacher:.2f}")
    parts = [_line(0, 100, 9, 9, f"stroke:{_TRACK};stroke-width:4;stroke-linecap:round")]
    if teacher is not None:
        ends = sorted((100 * student, 100 * teacher))
        parts.append(_line(ends[0], ends[1], 9, 9, f"stroke:{colour('baseline')};stroke-width:1.5"))
        ring = f"fill:{_PAPER};stroke:{colour('teacher')};stroke-width:2"
        parts.append(f'<circle cx="{100 * teacher:.2f}%" cy="9" r="4.5" style="{ring}"/>')
    parts.append(f'<circle cx="{100 * student:.2f}%" cy="9" r="5" style="fill:{colour("student")}"/>')
    body = f"<title>{escape(text)}</title>{''.join(parts)}"
    return f'<svg class="dots" role="img" width="100%" height="18" style="overflow:visible">{body}</svg>'


def share_bar(share: float, *, label: str) -> str:
    """A thin bar of `share` in [0, 1], for one row of a table."""
    drawn = _rect(0, 100 * min(max(share, 0.0), 1.0), 3, 6, f"fill:{colour('baseline')}")
    return f'<svg class="meter" role="img" width="100%" height="12"><title>{escape(label)}</title>{drawn}</svg>'


def _svg(key: str, title: str, description: str, height: int, body: str) -> str:
    ids = f'aria-labelledby="{key}-title {key}-desc"'
    head = f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
    return f'<svg class="chart" role="img" {ids} width="100%" height="{height}">{head}{body}</svg>'


def _row_text(row: Bar, y: int) -> str:
    # The nested svg clips a long name before it can run into the figure.
    name = (
        f'<svg x="0" y="0" width="70%" height="{y + 6}"><text x="0" y="{y}" {_text()}>{escape(row.name)}</text></svg>'
    )
    return f'{name}<text x="100%" y="{y}" text-anchor="end" {_text(600)}>{escape(row.text)}</text>'


def _axis_text(at: float, y: int, name: str) -> str:
    anchor = "start" if at <= 0 else "end" if at >= 100 else "middle"
    style = f"fill:{_SOFT};font-size:12px"
    return f'<text x="{at:.2f}%" y="{y}" text-anchor="{anchor}" style="{style}">{escape(name)}</text>'


def _text(weight: int = 400) -> str:
    return f'style="fill:{_INK};font-size:13px;font-weight:{weight}"'


def _rect(x: float, width: float, y: float, height: float, style: str, text: str = "") -> str:
    at = f'x="{x:.2f}%" y="{y}" width="{width:.2f}%" height="{height}" rx="2"'
    title = f"<title>{escape(text)}</title>" if text else ""
    return f'<rect {at} style="{style}">{title}</rect>'


def _line(x1: float, x2: float, y1: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1}" y2="{y2}" style="{style}"/>'


def _whisker(low: float, high: float, y: float) -> str:
    # A pale halo keeps the dark whisker visible on the bar and off it.
    halo = _line(low, high, y, y, f"stroke:{_PAPER};stroke-width:5;stroke-linecap:round")
    pen = f"stroke:{_INK};stroke-width:1.5"
    ends = "".join(_line(x, x, y - 4, y + 4, pen) for x in (low, high))
    return halo + _line(low, high, y, y, pen) + ends


def _hatch(name: str, role: Role) -> str:
    angle = 45 if role == "held" else -45
    lines = (
        f'<rect width="6" height="6" style="fill:{_TRACK}"/><line y2="6" style="stroke:{colour(role)};stroke-width:5"/>'
    )
    size = f'width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate({angle})"'
    return f'<pattern id="{name}" {size}>{lines}</pattern>'


def _percent(value: float, top: float) -> float:
    return 100 * min(max(value / top, 0.0), 1.0) if top > 0 else 0.0


def _segment_text(part: Segment) -> str:
    return f"{part.name}: {100 * part.share:.1f} %"
