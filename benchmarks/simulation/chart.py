"""Lag against threads as a picture: four panels of SVG, drawn by hand so that nothing has to be installed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from kiket_worker.ledger.organizations import Plan

_COLOURS = {Plan.STARTER: "#8a8f98", Plan.TEAM: "#2f7ed8", Plan.BUSINESS: "#0a7d4f", Plan.ENTERPRISE: "#c2410c"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP_X, _GAP_Y = 330, 200, 60, 70, 80, 80
_SECONDS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h"}


@dataclass(frozen=True)
class Point:
    """The lag of one plan with a number of threads, in seconds."""

    threads: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Panel:
    """One picture of several. `formula` is how many threads the formula gives, `target` a lag in seconds."""

    title: str
    lines: Mapping[Plan, Sequence[Point]]
    formula: int
    target: float


def chart(title: str, panels: Sequence[Panel]) -> str:
    """The panels, two in a row, as one SVG."""
    rows = (len(panels) + 1) // 2
    width = _LEFT + 2 * (_WIDTH + _GAP_X)
    height = _TOP + rows * (_HEIGHT + _GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="11" role="img" aria-label="{title}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 22, title, size=15),
        *_legend(),
    ]
    for number, panel in enumerate(panels):
        left = _LEFT + (number % 2) * (_WIDTH + _GAP_X)
        parts += _panel(panel, left, _TOP + (number // 2) * (_HEIGHT + _GAP_Y))
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    parts = []
    for number, (plan, colour) in enumerate(_COLOURS.items()):
        left = _LEFT + 90 * number
        parts += [_line(left, 38, left + 22, 38, colour), _text(left + 27, 42, plan)]
    return [*parts, _text(_LEFT + 370, 42, "solid p99, dashed p50; vertical: the formula; dotted: the target")]


def _panel(panel: Panel, left: float, top: float) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    fewest, most = min(point.threads for point in points), max(point.threads for point in points)
    lowest, highest = 1.0, max(10.0, *(point.p99 for point in points), panel.target)

    def x(threads: float) -> float:
        return left + _WIDTH * (threads - fewest) / max(1, most - fewest)

    def y(seconds: float) -> float:
        return top + _HEIGHT * (1 - log10(max(lowest, seconds) / lowest) / log10(highest / lowest))

    bottom = top + _HEIGHT
    parts = [_text(left, top - 8, panel.title, size=12)]
    for seconds, label in _SECONDS.items():
        if seconds <= highest:
            parts += [
                _line(left, y(seconds), left + _WIDTH, y(seconds), "#e5e7eb"),
                _text(left - 6, y(seconds) + 4, label, anchor="end"),
            ]
    for threads in sorted({point.threads for point in points}):
        parts.append(_text(x(threads), bottom + 16, str(threads), anchor="middle"))
    parts.append(_text(left + _WIDTH / 2, bottom + 32, "refreshes at a time", anchor="middle"))
    if fewest <= panel.formula <= most:
        parts.append(_line(x(panel.formula), top, x(panel.formula), bottom, "#111827"))
    parts.append(_line(left, y(panel.target), left + _WIDTH, y(panel.target), "#111827", dashes="1 3"))
    for plan, line in panel.lines.items():
        for dashes, values in ((None, [one.p99 for one in line]), ("5 4", [one.p50 for one in line])):
            path = " ".join(f"{x(one.threads):.1f},{y(value):.1f}" for one, value in zip(line, values, strict=True))
            style = f' stroke-dasharray="{dashes}"' if dashes else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{_COLOURS[plan]}" stroke-width="1.8"{style}/>')
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str | None = None) -> str:
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{style}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#111827">{text}</text>'
