"""The JSON of servers, read within bounds.

What a server sends may be made to take more than its length: lists in lists for two
characters each become objects of 64 bytes, and deep ones overflow the stack.  So what
etcd can't have written is refused before it is parsed.
"""

from __future__ import annotations

import json
import math
from itertools import accumulate
from typing import Any

from etcdmap.paths import MAX_DEPTH

#: Levels of lists and objects.  Each level of keys takes two.
MOST_LEVELS = 2 * MAX_DEPTH + 10
#: Seconds that reading takes for each of them on a slow machine, values included.
_SECONDS_PER_ITEM = 1.5e-6
#: Characters for each list, object and item, at least; etcd writes eleven or more.
_PER_ITEM = 10

_NO_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
#: Brackets of which it is known by their count that they are not too deep.
_BLOCK = 200
#: What a bracket does to the depth, as a signed byte.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")

# As `json.loads`, but without its two searches for white space, which cost time.
_decode = json.JSONDecoder().raw_decode


class OutOfBounds(ValueError):
    """JSON that is nested too deeply, or holds too much for its length."""


class TooLate(ValueError):
    """JSON that can't be read in the time left."""


def parse_json(text: str, seconds: float = math.inf, cut_out: int = 0) -> Any:
    """Read JSON, out of which some characters were cut.

    Raises:
        ValueError: it is none; before it is parsed, `OutOfBounds`.
        TooLate: to read it may take more than some seconds; not yet parsed.
    """
    if len(text) > MOST_LEVELS:
        _check(text, seconds, len(text) + cut_out)
    # etcd starts with a brace and ends with a line feed.
    if text.startswith("{"):
        value, end = _decode(text)
        if end == len(text) or text[end:] == "\n":
            return value
    return json.loads(text)


def _check(text: str, seconds: float, size: int) -> None:
    most = size // _PER_ITEM + MOST_LEVELS
    enough = min(most, seconds / _SECONDS_PER_ITEM)
    opened = text.count("[") + text.count("{")
    if opened <= MOST_LEVELS and opened + text.count(",") <= enough:
        return  # even if none of them is in a string
    marks = _marks(text.encode("utf-8", "surrogatepass"))
    items = marks.count(b"[") + marks.count(b"{") + marks.count(b",")
    if items > most:
        raise OutOfBounds("JSON with more items than etcd writes in its length")
    if items > enough:
        raise TooLate
    if _is_too_deep(marks.translate(None, b",")):
        raise OutOfBounds(
            f"JSON nested over {MOST_LEVELS} deep (if it is a tree of keys, read a "
            "part of it)"
        )


def _is_too_deep(brackets: bytes) -> bool:
    depth = 0
    for at in range(0, len(brackets), _BLOCK):
        block = brackets[at : at + _BLOCK]
        opened = block.count(b"[") + block.count(b"{")
        if depth + opened > MOST_LEVELS:  # at the deepest, if none is closed before
            steps = memoryview(block.translate(_STEPS)).cast("b")
            if max(accumulate(steps, initial=depth)) > MOST_LEVELS:
                return True
        depth += 2 * opened - len(block)
    return False


def _marks(data: bytes) -> bytes:
    """Return the brackets and commas outside of strings."""
    data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    # Two quotes with nothing between them are a string, or the end of one and the start
    # of the next: without them all else is inside or outside as before.
    marks = data.translate(None, _NO_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])
