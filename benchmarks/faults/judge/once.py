"""Counts what makes a new name each time: nothing is lost, nothing done twice.

An in-order create (``append``) of a value of its own, and an empty directory
(``mkdir``) at a name of its own.  Nobody deletes them, so the end of a run tells all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from benchmarks.faults.judge.counters import Counters
from benchmarks.faults.judge.history import Op


def count_once(
    ops: Iterable[Op], final: Mapping[str, str | None], examples: list[str]
) -> Counters:
    """Count for all appends and all directories made.

    Args:
        ops: of these kinds, and others, which don't count here.
        final: everything that is there at the end; directories end in a slash.
        examples: where to put a sentence about each find.
    """
    counters = Counters()
    appended: dict[str, Counter[str | None]] = defaultdict(Counter)
    for key, value in final.items():
        directory, _, name = key.rpartition("/")
        if name:
            appended[directory][value] += 1
    for op in ops:
        found: str | None = None
        if op.kind == "append":
            found = _wrong_with_append(op, appended[op.key][op.value], final)
        elif op.kind == "mkdir":
            found = _wrong_with_directory(op, f"{op.key}/" in final)
        if found is not None:
            name, _, sentence = found.partition(": ")
            setattr(counters, name, getattr(counters, name) + 1)
            examples.append(f"{name}: {sentence}: {op}")
    return counters


def _wrong_with_append(
    op: Op, times: int, final: Mapping[str, str | None]
) -> str | None:
    if times > 1:
        return f"twice: there {times} times"
    if op.outcome == "ok" and times == 0:
        return "lost: acknowledged, but not there"
    if op.outcome == "ok" and op.name and final.get(f"{op.key}/{op.name}") != op.value:
        return f"wrong_value: not under the name {op.name} that the caller was given"
    if op.outcome in ("failed", "refused") and times:
        return f"wrong_value: said to be {op.outcome}, but there"
    return None


def _wrong_with_directory(op: Op, there: bool) -> str | None:
    if op.outcome == "ok" and not there:
        return "lost: acknowledged, but not there"
    if op.outcome in ("failed", "refused") and there:
        # Refused by its own first copy: the caller takes it for somebody else's.
        return f"wrong_value: said to be {op.outcome}, but there"
    return None
