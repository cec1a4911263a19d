"""A plot of a report, drawn by hand as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from benchmarks.speed.clients import K3ETCD, OURS, PYTHON_ETCD, RAW
from benchmarks.speed.model import Curve, Report, Work

_COLOURS = {OURS: "#2563eb", PYTHON_ETCD: "#9ca3af", K3ETCD: "#d4d4d8", RAW: "#111827"}
_LINES = ("#2563eb", "#dc2626", "#e0a5a5", "#93a8d8")
_WIDTH = 880
_LEFT, _RIGHT = 230, 60
_BAR, _GAP = 9, 16
_PANEL, _PANEL_HEIGHT = 400, 250
#: Bars that would be longer are cut here.
_LONGEST = 1.3


def draw(report: Report) -> str:
    """Give the text of an SVG file."""
    works = [work for work in report.works if PYTHON_ETCD in work.samples]
    parts: list[str] = []
    top = 30
    if works:
        parts += _title(top, "Time for the same work; python-etcd = 1 (less is better)")
        parts += _legend(top + 20)
        top += 40
        for work in works:
            parts += _bars(work, top)
            top += _BAR * _bar_count(work) + _GAP
        parts += _axis(70, top)
        top += 50
    if report.curves:
        parts += _title(top, "How the cost grows: microseconds, both axes logarithmic")
        top += 20
    for at, curve in enumerate(report.curves):
        left = 10 + (at % 2) * (_PANEL + 40)
        parts += _panel(curve, left, top + (at // 2) * (_PANEL_HEIGHT + 20))
    height = top + math.ceil(len(report.curves) / 2) * (_PANEL_HEIGHT + 20) + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _title(top: float, text: str) -> list[str]:
    return [_text(10, top, text, 'font-size="15" font-weight="bold"')]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}"/>'
    )


def _rect(x: float, y: float, width: float, colour: str) -> str:
    height = _BAR - 1
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" '
        f'fill="{colour}"/>'
    )


def _legend(top: float) -> Iterator[str]:
    for at, (client, colour) in enumerate(_COLOURS.items()):
        yield _rect(_LEFT + at * 120, top - 8, 12, colour)
        yield _text(_LEFT + at * 120 + 16, top, client)


# --- bars


def _x(ratio: float) -> float:
    return _LEFT + min(ratio, _LONGEST) / _LONGEST * (_WIDTH - _LEFT - _RIGHT)


def _bar_count(work: Work) -> int:
    return sum(client in work.samples for client in _COLOURS)


def _bars(work: Work, top: float) -> Iterator[str]:
    count = _bar_count(work)
    middle = top + _BAR * count / 2 + 4
    yield _text(_LEFT - 8, middle, work.name, 'text-anchor="end"')
    present = [client for client in _COLOURS if client in work.samples]
    for at, client in enumerate(present):
        ratio = work.ratio(client) or 0.0
        y = top + at * _BAR
        yield _rect(_LEFT, y, _x(ratio) - _LEFT, _COLOURS[client])
        if client == OURS:
            label = f"{ratio:.2f}"
            yield _text(_x(ratio) + 4, y + _BAR - 1, label, 'font-size="10"')


def _axis(top: float, bottom: float) -> Iterator[str]:
    for tenths in range(0, 13, 2):
        ratio = tenths / 10
        x = _x(ratio)
        yield _line(x, top - 6, x, bottom, "#00000022")
        yield _text(x, bottom + 14, f"{ratio:g}", 'text-anchor="middle"')


# --- curves


def _panel(curve: Curve, left: float, top: float) -> Iterator[str]:
    """Draw the lines of one curve on axes of their own."""
    sizes = sorted({size for line in curve.lines.values() for size in line})
    times = [time for line in curve.lines.values() for time in line.values()]
    scale_x = _Scale(sizes[0], sizes[-1], left + 50, left + _PANEL - 10)
    scale_y = _Scale(min(times), max(times), top + _PANEL_HEIGHT - 70, top + 25)
    yield _text(left, top + 12, f"{curve.name} ({curve.axis})", 'font-weight="bold"')
    base = top + _PANEL_HEIGHT - 65
    yield _line(left + 50, base, left + _PANEL - 10, base, "#888888")
    for size in sizes:
        x = scale_x(size)
        yield _text(x, base + 14, _short(size), 'text-anchor="middle" font-size="10"')
    for mark in _marks(min(times), max(times)):
        y = scale_y(mark)
        yield _line(left + 50, y, left + _PANEL - 10, y, "#00000018")
        label = 'text-anchor="end" font-size="10"'
        yield _text(left + 46, y + 4, _short(mark), label)
    for at, (name, line) in enumerate(curve.lines.items()):
        colour = _LINES[at % len(_LINES)]
        points = " ".join(f"{scale_x(s):.1f},{scale_y(line[s]):.1f}" for s in line)
        yield (
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        x, y = left + 50 + (at % 2) * 170, base + 32 + (at // 2) * 15
        yield _rect(x, y - 8, 12, colour)
        yield _text(x + 16, y, name, 'font-size="11"')


class _Scale:
    """From a value to a place, logarithmically."""

    def __init__(self, least: float, most: float, start: float, end: float) -> None:
        self._least = math.log10(least)
        self._range = (math.log10(most) - self._least) or 1.0
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._least) / self._range
        return self._start + share * (self._end - self._start)


def _marks(least: float, most: float) -> Iterator[float]:
    for power in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1):
        for digit in (1, 2, 5) if most < 50 * least else (1,):
            if least <= digit * 10.0**power <= most:
                yield digit * 10.0**power


def _short(value: float) -> str:
    if value >= 1024 and value % 1024 == 0:
        return (
            f"{value / 1024:g} Ki" if value < 1 << 20 else f"{value / (1 << 20):g} Mi"
        )
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value / 1000:g} k" if value >= 10_000 else f"{value:g}"
