"""Whether a history of one key can be put in one order that makes sense.

That is Wing and Gong's search with Lowe's memory of what was tried, for a register
with set, get, delete, create and compare-and-swap.  Operations that overlap may be
ordered either way; one that ended before another began comes first.

An operation of unknown outcome takes effect at any time after it began, or never.  So
it is tried only where nothing else fits, and it need not be placed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.faults.judge.history import Op

#: The search is exponential where many outcomes are unknown; a history of some
#: thousand operations of which all are known takes one step each.
MAX_STEPS = 1_000_000


class Verdict(NamedTuple):
    """What the search found."""

    #: None: too many steps, undecided.
    ok: bool | None
    #: Which operations could not be placed, if it is not ok.
    stuck: tuple[Op, ...] = ()


def step(op: Op, state: str | None) -> tuple[bool, str | None]:
    """Apply an operation to a register.

    Returns:
        Whether it can take effect in this state, as it was answered; the next state.
    """
    if op.kind in ("get", "set"):
        return (True, op.value) if op.kind == "set" else (state == op.value, state)
    holds = _condition(op, state)
    if op.outcome == "refused":
        return not holds, state
    return holds, None if op.kind == "delete" else op.value


def _condition(op: Op, state: str | None) -> bool:
    if op.kind == "create":
        return state is None
    if op.kind == "cas":
        return state is not None and state == op.expected
    # A delete; `value` is what a pop gave.
    return state is not None and op.value in (None, state)


def linearize(
    ops: Sequence[Op], initial: str | None = None, *, max_steps: int = MAX_STEPS
) -> Verdict:
    """Look for an order of the operations on one key.

    Args:
        ops: all of one key; those that failed are passed by.
        initial: the value before all of them.
        max_steps: when to give up.
    """
    return _Search(ops, initial).run(max_steps)


class _Place(NamedTuple):
    """How far an order has come; two ways to the same place have the same future."""

    first: int  # all known operations before this one are placed
    window: int  # bits: which of those from `first` on are placed
    unknown: int  # bits: which of the unknown ones are
    state: str | None


class _Search:
    def __init__(self, ops: Sequence[Op], initial: str | None) -> None:
        known = [op for op in ops if op.outcome in ("ok", "refused")]
        self._known = sorted(known, key=lambda op: op.start)
        unknown = [op for op in ops if op.writes and op.outcome == "unknown"]
        self._unknown = _needed(unknown, known)
        self._best = self._start = _Place(0, 0, 0, initial)

    def run(self, max_steps: int) -> Verdict:
        seen = {self._start}
        stack = [self._next(self._start)]
        while stack:
            place = next(stack[-1], None)
            if place is None:
                stack.pop()
            elif place.first == len(self._known):
                return Verdict(True)
            elif place not in seen:
                seen.add(place)
                if len(seen) > max_steps:
                    return Verdict(None, self._stuck())
                self._best = max(self._best, place, key=lambda place: place.first)
                stack.append(self._next(place))
        return Verdict(not self._known, self._stuck())

    def _next(self, place: _Place) -> Iterator[_Place]:
        """Give the places that one more operation leads to."""
        candidates, latest = self._candidates(place)
        for at in candidates:
            fits, state = step(self._known[at], place.state)
            if fits:
                first, window = place.first, place.window | 1 << at - place.first
                while window & 1:
                    first, window = first + 1, window >> 1
                yield _Place(first, window, place.unknown, state)
        for at, op in enumerate(self._unknown):
            if op.start > latest:
                break
            if not place.unknown >> at & 1:
                fits, state = step(op, place.state)
                if fits:
                    unknown = place.unknown | 1 << at
                    yield place._replace(unknown=unknown, state=state)

    def _candidates(self, place: _Place) -> tuple[list[int], float]:
        """Find the known operations that nothing unplaced had to come before.

        Returns:
            Their positions, and the time by which the first of them had ended.
        """
        found: list[int] = []
        latest = float("inf")
        for at in range(place.first, len(self._known)):
            op = self._known[at]
            if op.start > latest:
                break
            if not place.window >> at - place.first & 1:
                found.append(at)
                latest = min(latest, op.end)
        return found, latest

    def _stuck(self) -> tuple[Op, ...]:
        candidates, _ = self._candidates(self._best)
        return tuple(self._known[at] for at in candidates)


def _needed(unknown: list[Op], known: list[Op]) -> list[Op]:
    """Drop unknown writes that explain nothing: each would double the search.

    A value that nobody saw may be taken out of any order together with its write,
    unless somebody saw that there was *a* value, or another than expected.
    """
    every = [*known, *unknown]
    if not any(_sees_presence(op) for op in every):
        seen = {op.value for op in known if op.kind == "get"}
        seen |= {op.expected for op in every if op.kind == "cas"}
        unknown = [op for op in unknown if op.value in seen]
    return sorted(unknown, key=lambda op: op.start)


def _sees_presence(op: Op) -> bool:
    return op.outcome == "refused" or op.kind in ("delete", "create")
