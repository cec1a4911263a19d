"""Draw the pictures of the docs, each from what is written down elsewhere.

    python docs/pictures/draw.py

``demo.txt`` is what ``python -m etcdmap demo`` printed, and ``failover.json`` what
``python -m benchmarks.failover`` measured.  The layers are those of ``pyproject.toml``;
the other pictures show tables of their pages.  So what is drawn is written once, and
``tests/test_pictures.py`` draws it again and compares.

A picture has a background of its own, and so can be read on any page; it is narrow, as
a phone scales it to its own width, and the text with it.
"""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import etcdmap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: Not beside the docs where a wheel is tested.
PACKAGE = Path(etcdmap.__file__).parent
WIDTH = 480

#: Class -> attributes in a light and in a dark surrounding.  a to d are the clients,
#: or writes and reads; w is what went wrong.
STYLE = {
    "bg": ("fill:#ffffff;stroke:#d1d9e0", "fill:#0d1117;stroke:#3d444d"),
    "t": ("fill:#1f2328", "fill:#f0f6fc"),
    "q": ("fill:#59636e", "fill:#9198a1"),
    "l": ("stroke:#d1d9e0", "stroke:#3d444d"),
    "a": ("fill:#0969da;stroke:#0969da", "fill:#4493f8;stroke:#4493f8"),
    "b": ("fill:#bc4c00;stroke:#bc4c00", "fill:#f0883e;stroke:#f0883e"),
    "c": ("fill:#d4a72c;stroke:#d4a72c", "fill:#bb8009;stroke:#bb8009"),
    "d": ("fill:#818b98;stroke:#818b98", "fill:#656c76;stroke:#656c76"),
    "w": ("fill:#cf222e;stroke:#cf222e", "fill:#f85149;stroke:#f85149"),
    "box": ("fill:#f6f8fa;stroke:#d1d9e0", "fill:#151b23;stroke:#3d444d"),
}
FONTS = (
    "svg{font:14px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".m{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    ".h{font-weight:600}.e{text-anchor:end}.o{text-anchor:middle}.s{font-size:12px}"
)


def svg(title: str, height: float, parts: Iterable[str], width: float = WIDTH) -> str:
    """Return a whole picture."""
    light = "".join(f".{name}{{{light}}}" for name, (light, _) in STYLE.items())
    dark = "".join(f".{name}{{{dark}}}" for name, (_, dark) in STYLE.items())
    style = f"{FONTS}{light}@media(prefers-color-scheme:dark){{{dark}}}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} '
            f'{height:g}" width="{width:g}" height="{height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            f'<rect class="bg" x=".5" y=".5" width="{width - 1:g}" '
            f'height="{height - 1:g}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "t") -> str:
    """Write a line."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "l") -> str:
    """Draw a straight line."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Draw a filled rectangle."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
        f'height="{height:g}" stroke="none"/>'
    )


def legend(x: float, y: float, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Say which colour is what; (class, words) from left to right."""
    for kind, words in entries:
        yield bar(x, y - 10, 11, 11, kind)
        yield text(x + 16, y, words, "q")
        x += 32 + 7.2 * len(words)


def logarithmic(least: float, most: float, start: float, end: float) -> Any:
    """Make the function from a value to a place."""

    def place(value: float) -> float:
        share = math.log(min(max(value, least), most) / least) / math.log(most / least)
        return start + share * (end - start)

    return place


def table_of(page: str, head: str) -> list[list[str]]:
    """Return the rows of the table of a page whose first line begins with `head`."""
    found = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (rows,) = re.findall(rf"^{re.escape(head)}.*\n(?:\|.*\n)+", found, re.M)
    return [
        [cell.strip() for cell in row.strip("|").split(" | ")]
        for row in rows.splitlines()
    ]


# --- a terminal


def draw_demo() -> str:
    """Show the demo as a terminal does, from the command to the last figure."""
    output = (HERE / "demo.txt").read_text(encoding="utf-8")
    shown = re.sub(r"\n/demo/services/.*?(?=\nNow one)", "", output, flags=re.S)
    shown = shown.partition("\nNext, start a cluster")[0].rstrip()
    lines = ["$ .venv/bin/python -m etcdmap demo", *shown.splitlines()]
    parts = [
        text(16, 30 + 18 * at, words.replace(" ", "\xa0"), "t m s")
        for at, words in enumerate(lines)
        if words
    ]
    title = "The demo: three members of etcd, two of them killed, no call failed"
    return svg(title, 30 + 18 * len(lines), parts, 600)


# --- a failover

_CLIENTS = ("etcdmap", "python-etcd", "k3etcd")
_KINDS = {"writes": "b", "reads": "a"}


def draw_failover() -> str:
    """Show how long each call took, by when it began."""
    found = json.loads((HERE / "failover.json").read_text(encoding="utf-8"))
    at = found["fault at"]
    parts = [text(16, 28, "Each call: when it began, and how long it took", "t h")]
    parts += legend(16, 52, [("b", "a write"), ("a", "a read"), ("w", "the fault")])
    top = 66.0
    for fault, signal in (("killed", ""), ("stopped", " (SIGSTOP)")):
        parts.append(text(16, top + 18, f"The leader is {fault}{signal}", "t h"))
        top += 32
        for client in _CLIENTS:
            parts += _panel_of_calls(client, found[fault][client], at, top)
            top += 118
        parts += [text(_x(s), top + 4, f"{s} s", "q s o") for s in range(0, 11, 2)]
        top += 22
    return svg("Calls of three clients while the leader fails", top, parts)


def _x(seconds: float) -> float:
    return 62 + min(seconds, _LENGTH) * 40


_LENGTH = 10


def _panel_of_calls(
    client: str, calls: dict[str, list[Any]], fault: float, top: float
) -> Iterator[str]:
    """Draw each call as long as it took, and as high; a short one is a dot."""
    place = logarithmic(0.0004, 30, top + 108, top + 22)
    for mark, words in ((0.001, "1 ms"), (0.03, "30 ms"), (1, "1 s"), (20, "20 s")):
        yield line(_x(0), place(mark), _x(_LENGTH), place(mark))
        yield text(_x(0) - 8, place(mark) + 4, words, "q s e")
    yield line(_x(fault), top + 18, _x(fault), top + 108, "w")
    yield text(_x(0), top + 12, client, "t h s")
    longest = [
        f"{kind} {_two(max(took for _, took, _ in calls[kind]))} s" for kind in _KINDS
    ]
    yield text(_x(_LENGTH), top + 12, f"at most: {', '.join(longest)}", "q s e")
    for shift, (kind, colour) in zip((-2, 2), _KINDS.items(), strict=True):
        dots = "".join(
            f"M{_x(start):.1f} {place(took) + shift:.1f}H{_x(start + took):.1f}"
            for start, took, _ in calls[kind]
        )
        yield (
            f'<path class="{colour}" d="{dots}" stroke-width="5" '
            'stroke-linecap="round"/>'
        )


def _two(number: float) -> str:
    """Spell a number by its first two digits."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


# --- what it costs

_COST_CLIENTS = {"etcdmap": "a", "python-etcd": "b", "k3etcd": "c", "bare socket": "d"}
_PERFORMANCE = "explanation/performance.md"


def draw_costs() -> str:
    """Show the table of workloads: each bar as a ratio to python-etcd."""
    head, _, *rows = table_of(_PERFORMANCE, "| workload | etcdmap |")
    parts = [text(16, 28, "Time for the same work; python-etcd is 1", "t h")]
    parts += legend(16, 52, ((kind, name) for name, kind in _COST_CLIENTS.items()))
    top = 74.0
    for name, *cells in rows:
        figures = dict(zip(head[1:5], cells[:4], strict=True))
        parts.append(text(16, top + 12, name.replace("`", "")))
        top += 20
        for client, kind in _COST_CLIENTS.items():
            if figures[client] == "-":
                continue
            time, _, ratio = figures[client].rstrip(")").partition(" (")
            length = float(ratio or 1) * 340
            parts.append(bar(16, top, length, 11, kind))
            parts.append(text(22 + length, top + 10, f"{time} us", "q s"))
            top += 14
        top += 10
    return svg("What a call costs, beside other clients", top + 8, parts)


_GROWTH = {"Directory size": "keys", "Value size": "bytes", "Threads": "threads"}
_GROWTH |= {"Depth": "levels"}


def draw_growth() -> str:
    """Show the tables of how a cost grows: microseconds, both axes logarithmic."""
    title = "How the cost grows: microseconds, logarithmic"
    parts = [text(16, 28, title, "t h")]
    for at, (name, axis) in enumerate(_GROWTH.items()):
        (_, *sizes), _, *rows = table_of(_PERFORMANCE, f"| {axis} |")
        numbers = [float(size.replace(",", "")) for size in sizes]
        lines = {
            row[0].replace("`", ""): [float(x.replace(",", "")) for x in row[1:]]
            for row in rows
        }
        left, top = 12 + at % 2 * 234, 46 + at // 2 * 290
        parts += _curves(
            name if name.lower() == axis else f"{name}, {axis}",
            numbers,
            lines,
            left,
            top,
        )
    return svg(title, 620, parts)


def _curves(
    title: str,
    sizes: list[float],
    lines: dict[str, list[float]],
    left: float,
    top: float,
) -> Iterator[str]:
    times = [time for values in lines.values() for time in values]
    least, most = (10 ** f(math.log10(g(times))) for f, g in _BOUNDS)
    across = logarithmic(sizes[0], sizes[-1], left + 46, left + 210)
    up = logarithmic(least, most, top + 170, top + 26)
    yield text(left, top + 12, title, "t h s")
    for power in range(round(math.log10(least)), round(math.log10(most)) + 1):
        yield line(left + 46, up(10**power), left + 220, up(10**power))
        yield text(left + 40, up(10**power) + 4, _short(10**power), "q s e")
    for size in sizes:
        yield text(across(size), top + 188, _short(size), "q s o")
    for at, (name, values) in enumerate(lines.items()):
        points = " ".join(
            f"{across(s):.1f},{up(t):.1f}" for s, t in zip(sizes, values, strict=True)
        )
        kind = "abdc"[at]
        yield (
            f'<polyline class="{kind}" points="{points}" style="fill:none" '
            'stroke-width="2"/>'
        )
        yield bar(left + 46, top + 200 + 17 * at, 11, 11, kind)
        yield text(left + 62, top + 210 + 17 * at, name, "q s")


_BOUNDS: Any = ((math.floor, min), (math.ceil, max))


def _short(value: float) -> str:
    for factor, unit in ((1 << 20, " Mi"), (1024, " Ki")):
        if value >= factor and value % factor == 0:
            return f"{value / factor:g}{unit}"
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value / 1000:g} k" if value >= 10_000 else f"{value:g}"


# --- what happens when

_OUTAGES = "explanation/what-happens-when.md"


def draw_outages() -> str:
    """Show the table of what was measured: for how long nothing succeeded."""
    _, _, *rows = table_of(_OUTAGES, "| fault | seconds |")
    place = logarithmic(0.005, 5, 16, 400)
    parts = [text(16, 28, "Longest time without a success (logarithmic scale)", "t h")]
    kinds = [("b", "writes and reads in turn"), ("a", "reads alone")]
    parts += legend(16, 52, kinds)
    top = 70.0
    for fault, seconds in rows:
        parts.append(text(16, top + 13, fault))
        top += 20
        for kind, least, most in _gaps(fault, seconds):
            parts.append(bar(16, top, place(least) - 16, 11, kind))
            parts.append(bar(16, top + 4, place(most) - 16, 3, kind))
            figure = f"{least:g} to {most:g}" if least != most else f"{most:g}"
            parts.append(text(place(most) + 6, top + 10, figure, "q s"))
            top += 15
        top += 10
    for mark in (0.01, 0.1, 1):
        parts.insert(0, line(place(mark), 62, place(mark), top))
        parts.append(text(place(mark), top + 16, f"{mark:g} s", "q s o"))
    return svg("For how long a fault is felt", top + 28, parts)


def _gaps(fault: str, cell: str) -> Iterator[tuple[str, float, float]]:
    """Read a cell: colour, least and most seconds, of writes and of reads alone."""
    number = r"(\d+\.\d+)(?: to (\d+\.\d+))?"
    (least, most), *_ = re.findall(number, cell)
    yield "a" if "only reads" in fault else "b", float(least), float(most or least)
    for least, most in re.findall(rf"\({number}\)", cell):
        yield "a", float(least), float(most or least)


# --- the layers


def draw_layers() -> str:
    """Show what the linter of imports goes by; each layer says what it is for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    known = {contract["id"]: contract for contract in contracts}
    parts = [text(16, 28, "A module imports only what is below it", "t h")]
    top = 42.0
    for layer in known["layers"]["layers"]:
        names = [name for name in re.split(r"[ |()]+", layer) if _docstring(name)]
        inside, end = _layer([n for n in names if n != "__main__"], known, top + 22)
        if inside:
            parts.append(
                f'<rect class="box" x="12" y="{top:g}" width="{WIDTH - 24}" '
                f'height="{end - top - 8:g}" rx="4"/>'
            )
            parts += inside
            top = end
    return svg("The layers of etcdmap, from the top down", top + 6, parts)


def _layer(
    names: list[str], known: dict[str, Any], y: float
) -> tuple[list[str], float]:
    """Draw what one layer holds; give where the next one begins, too."""
    parts = []
    for name in names:
        parts.append(text(22, y, name, "t h m s"))
        outside = [
            f" It alone imports {library}."
            for library in ("requests", "cachetools")
            for rule in known[library]["ignore_imports"]
            if re.match(rf"etcdmap\.{name}\b.* -> {library}$", rule)
        ]
        for row in textwrap.wrap(_docstring(name) + "".join(outside[:1]), 45):
            parts.append(text(124, y, row, "q"))
            y += 18
        y += 4
    return parts, y - 2


def _docstring(name: str) -> str:
    """Return the first line of a module's or a package's docstring, if it is there."""
    for path in (PACKAGE / f"{name}.py", PACKAGE / name / "__init__.py"):
        if name and path.exists():
            found = path.read_text(encoding="utf-8")
            return re.split(r'\n|"""', found)[1].replace("`", "")
    return ""


PICTURES: dict[str, Callable[[], str]] = {
    "demo.svg": draw_demo,
    "failover.svg": draw_failover,
    "costs.svg": draw_costs,
    "growth.svg": draw_growth,
    "outages.svg": draw_outages,
    "layers.svg": draw_layers,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8")
