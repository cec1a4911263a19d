"""Read the JSON of servers within bounds.

JSON can be built so that it takes much more memory than its length: a list in a list
takes two characters, but becomes an object of 64 bytes, and deep nesting overflows the
stack.  So JSON that etcd can't have written is refused before it is parsed.
"""

from __future__ import annotations

import json
import math
from itertools import accumulate
from typing import Any

from etcdmap.paths import MAX_DEPTH

#: How deep lists and objects may be nested.  Each level of keys takes two levels.
MOST_LEVELS = 2 * MAX_DEPTH + 10
#: Seconds that it takes to read one name or value on a slow machine.
_SECONDS_PER_ITEM = 1.5e-6
#: The fewest characters for each list, object and item; etcd writes eleven or more.
_PER_ITEM = 10

_NO_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
#: How many brackets are checked at a time; often their count shows that none is too
#: deep.
_BLOCK = 200
#: How a bracket changes the depth, as a signed byte.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")

# Like `json.loads`, but without its two searches for white space, which take time.
_decode = json.JSONDecoder().raw_decode


class OutOfBounds(ValueError):
    """JSON that is nested too deeply, or has too many items for its length."""


class TooLate(ValueError):
    """JSON that can't be read in the time left."""


def parse_json(text: str, seconds: float = math.inf, cut_out: int = 0) -> Any:
    """Read JSON, from which `cut_out` characters were removed before.

    Raises:
        ValueError: the text is not JSON.
        OutOfBounds: the text is not JSON that etcd may have written; not yet parsed.
        TooLate: reading it may take longer than `seconds`; not yet parsed.
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
        return  # even if all of them count, because none is in a string
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
    # Two quotes with nothing between them are an empty string, or the end of one string
    # and the start of the next.  Without them, everything else stays inside or outside
    # of a string as before.
    marks = data.translate(None, _NO_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])
