"""The pictures of the docs show what is so, and can be read."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "docs" / "pictures"


def load_script() -> Any:
    """Import the script that draws them, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("draw", HERE / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAW = load_script()
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*/*.md")]
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
#: Of each page, its pictures: (text for those who can't see it, file).
SHOWN = {page: IMAGE.findall(page.read_text(encoding="utf-8")) for page in PAGES}


def words_for(name: str) -> str:
    """Return what a page says in place of a picture."""
    (words,) = (
        words
        for images in SHOWN.values()
        for words, file in images
        if Path(file).name == name
    )
    return " ".join(words.split())


@pytest.mark.parametrize("name", DRAW.PICTURES)
def test_picture_is_what_its_source_says_today(name: str) -> None:
    """A table, a layer or a figure has not changed without it."""
    drawn = (HERE / name).read_text(encoding="utf-8")
    assert drawn == DRAW.PICTURES[name](), "run: python docs/pictures/draw.py"


@pytest.mark.parametrize("name", DRAW.PICTURES)
def test_picture_is_small_and_needs_nothing_from_elsewhere(name: str) -> None:
    """No font, no script; it follows the reader's choice of light or dark."""
    drawn = (HERE / name).read_text(encoding="utf-8")
    assert len(drawn) < 60_000
    assert set(re.findall(r"https?://[^\"']*", drawn)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|@font-face|<script|<image", drawn)
    assert "prefers-color-scheme:dark" in drawn


def test_every_picture_is_shown_once_and_told_in_words() -> None:
    """What lies there is used, and whoever can't see it misses nothing."""
    files = [Path(file).name for images in SHOWN.values() for _, file in images]
    assert sorted(files) == sorted(DRAW.PICTURES)
    assert sorted(path.name for path in HERE.glob("*.svg")) == sorted(DRAW.PICTURES)
    for name in DRAW.PICTURES:
        assert len(words_for(name).split()) > 5
    assert len(SHOWN[ROOT / "README.md"]) == 1


def test_words_for_the_layers_name_them_in_order() -> None:
    """They are those in the picture, from the top down."""
    drawn = re.findall(r'class="t h m s"[^>]*>(\w+)', DRAW.draw_layers())
    _, _, told = words_for("layers.svg").partition("from the top down: ")
    assert re.findall(r"\w+", told) == drawn


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_words_for_the_failover_have_its_figures(fault: str) -> None:
    """Each thread's longest call is told, where it was felt; and no call failed."""
    found = json.loads((HERE / "failover.json").read_text(encoding="utf-8"))
    sentence = words_for("failover.svg").partition(f"{fault}, ")[2].partition(". ")[0]
    told = [float(number) for number in re.findall(r"([\d.]+) s\b", sentence)]
    threads = [calls for client in found[fault].values() for calls in client.values()]
    longest = [max(seconds for _, seconds, _ in calls) for calls in threads]
    for seconds in longest:
        near = [n for n in told if abs(n - seconds) <= max(0.05 * seconds, 0.005)]
        assert near or seconds < 0.03, seconds
    assert not any(failed for calls in threads for *_, failed in calls)
    page = (ROOT / "docs" / "explanation" / "what-happens-when.md").read_text()
    assert f"`timeout` of {found['timeout']} s, which" in " ".join(page.split())
