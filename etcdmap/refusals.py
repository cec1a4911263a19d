"""Keys and values that a write refuses: where they would have stood, and why.

The error has the class that fits (`InvalidKey`, `LimitExceeded`, ``TypeError``,
``ValueError``, or a codec's own), and lists everything that was refused in
``.refusals``.  The code that finds a fault names its place as far as it knows it, and
each caller puts its own path in front.  So a document is checked to its end, and all
its faults are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from etcdmap.errors import Refusal
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

X = TypeVar("X", bound=Exception)

#: How many refusals a message shows.
_MOST_TOLD = 20


def tell(error: X, refusals: Iterable[Refusal]) -> X:
    """Have an error report these refusals, the first of which is its own; return it."""
    found = tuple(refusals)
    lines = [str(refusal) for refusal in found[:_MOST_TOLD]]
    if len(found) > 1:
        head = f"{len(found)} keys or values can't be stored; nothing was written"
        lines = [head, *(f"  {line}" for line in lines)]
    if len(found) > _MOST_TOLD:
        lines.append(f"  ... and {len(found) - _MOST_TOLD} more in .refusals")
    error.args = ("\n".join(lines),)
    vars(error)["refusals"] = found
    return error


def place(error: X, path: str) -> X:
    """Put a path in front of those in an error; return the error."""
    return tell(error, _refusals(error, path))


def _refusals(error: Exception, path: str) -> list[Refusal]:
    found = getattr(error, "refusals", ())
    # Errors that are not ours have no refusals, and may have no text.
    found = found or (Refusal("", str(error) or type(error).__name__),)
    return [Refusal(path + below, reason) for below, reason in found]


class Refused:
    """Collects the refusals of one document."""

    def __init__(self) -> None:
        self._first: Exception | None = None
        self._all: list[Refusal] = []

    def add(self, error: Exception) -> None:
        """Note an error that names its path."""
        if self._first is None:
            self._first = error
        self._all += _refusals(error, "")

    def raise_first(self) -> None:
        """Raise the first error, which reports all of them; do nothing without one."""
        if self._first is not None:
            raise tell(self._first, self._all)


def shown_key(key: object) -> str:
    """Return a key of any type as text for the path in a message."""
    if isinstance(key, str):
        return str.__str__(key)
    if type(key) is bytes:
        return repr(key[:200])
    if key is None or type(key) in (bool, float):
        return str(key)
    if type(key) is int and key.bit_length() < 1000:  # more have no text at any price
        return str(key)
    return f"({type(key).__name__})"


def no_str(key: object) -> str:
    """Return why a key is refused that is not a `str`."""
    use = "key.decode()" if isinstance(key, bytes) else "str(key)"
    return f"keys are str, not {type(key).__name__}; use {use}"
