"""Figures as text, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from benchmarks.speed.measure import median, spread
from benchmarks.speed.model import Check, Curve, Report, Work

_COLUMNS = ("client", "p50", "p99", "mean", "CPU", "ratio", "quartiles", "CPU ratio")

Row = tuple[str, ...]


def as_text(report: Report) -> str:
    """Give all tables for a terminal."""
    lines = [f"{name}: {value}" for name, value in report.about.items()]
    for title, head, rows in _tables(report):
        lines += ["", title, *_aligned([head, *rows])]
    return "\n".join(lines)


def as_markdown(report: Report) -> str:
    """Give all tables for a page."""
    lines = [f"- {name}: {value}" for name, value in report.about.items()]
    for title, head, rows in _tables(report):
        lines += ["", f"**{title}**", "", _piped(head), _piped(("---",) * len(head))]
        lines += [_piped(row) for row in rows]
    return "\n".join([*lines, ""])


def _piped(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def _aligned(rows: list[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(["", first, *others])


def _tables(report: Report) -> Iterator[tuple[str, Row, list[Row]]]:
    checks = report.all_checks()
    if checks:
        columns = ("what", "measured", "limit", "aim", "reached")
        yield "Limits", columns, [_check_row(check) for check in checks]
    for work in report.works:
        title = f"{work.name}, us for each operation; ratio of {work.metric} to "
        yield title + work.reference, _COLUMNS, _work_rows(work)
    for curve in report.curves:
        sizes = sorted({size for line in curve.lines.values() for size in line})
        head = (curve.axis, *(f"{size:,}" for size in sizes))
        yield f"{curve.name}, us", head, _curve_rows(curve, sizes)


def _check_row(check: Check) -> Row:
    def spell(limit: float | None) -> str:
        if limit is None or math.isinf(limit):
            return "-"
        mark = "" if check.unit == "" else ">= " if check.higher else "<= "
        return f"{mark}{limit:g}{check.unit}"

    measured = (
        f"{check.measured:.2f}{check.unit}" if check.unit else f"{check.measured}"
    )
    return check.what, measured, spell(check.limit), spell(check.aim), check.verdict


def _work_rows(work: Work) -> list[Row]:
    return [_work_row(work, client) for client in work.samples]


def _work_row(work: Work, client: str) -> Row:
    samples = work.samples[client]
    times = [
        f"{median(samples, metric):,.{_digits(median(samples, metric))}f}"
        if metric in samples[0]
        else "-"
        for metric in ("p50", "p99", "mean", "cpu")
    ]
    measured, cpu = work.ratio(client), work.ratio(client, "cpu")
    if measured is None or cpu is None:
        return client, *times, "-", "-", "-"
    low, high = spread(samples, work.samples[work.reference], work.metric)
    return client, *times, f"{measured:.2f}", f"{low:.2f}-{high:.2f}", f"{cpu:.2f}"


def _digits(value: float) -> int:
    return 3 if value < 10 else 0


def _curve_rows(curve: Curve, sizes: list[int]) -> list[Row]:
    return [
        (name, *(f"{line[size]:,.0f}" if size in line else "-" for size in sizes))
        for name, line in curve.lines.items()
    ]


def as_json(report: Report) -> str:
    """Give everything, round by round."""
    checks = [{**c._asdict(), "reached": c.verdict} for c in report.all_checks()]
    content: dict[str, Any] = {
        "about": report.about,
        "checks": [_finite(check) for check in checks],
        "workloads": {
            work.name: {
                "metric": work.metric,
                "reference": work.reference,
                "ratios": {client: work.ratio(client) for client in work.samples},
                "rounds": work.samples,
            }
            for work in report.works
        },
        "growth": {curve.name: curve.lines for curve in report.curves},
    }
    return json.dumps(content, indent=1)


def _finite(check: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value == math.inf else value for name, value in check.items()}
