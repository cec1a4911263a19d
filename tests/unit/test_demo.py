"""What the demo counts: its zeros are findings."""

from __future__ import annotations

from typing import Any, cast

from etcdmap import ClusterUnavailable, EtcdMapping
from etcdmap.demo import _draw, _Loop, _Reads


def test_loop_counts_calls_that_fail() -> None:
    """An error, or a value that is not so, is a failed call and no end of a gap."""
    outcomes = [True, False, ClusterUnavailable("gone"), True]

    class Scripted(_Loop):
        def _call(self) -> bool:
            outcome = outcomes.pop(0)
            self._stopped = not outcomes
            if isinstance(outcome, Exception):
                raise outcome
            return bool(outcome)

    loop = Scripted(cast(EtcdMapping, {}))
    loop._thread.join(10)
    assert (loop.calls, loop.failed) == (4, 2)
    assert loop.gap > 0


def test_reads_notice_a_value_that_goes_back() -> None:
    """The promise of reads is looked at, not only that there is an answer."""
    reads = _Reads.__new__(_Reads)  # without its thread
    config: dict[str, Any] = {}
    reads._config = cast(EtcdMapping, config)
    seen = []
    for written in (1.0, 2.0, 2.0, 1.5):
        config["written"] = written
        seen.append(reads._call())
    assert seen == [True, True, True, False]


def test_draw_cuts_short_what_is_long() -> None:
    """Each directory shows a few names, and how many there are more."""
    tree = {"a": {"b": 1, "c": 2, "d": 3}, "e": "text", "f": {}}
    assert list(_draw(tree, most=2)) == [
        *("  a/", "    b = 1", "    c = 2", "    ... and 1 more"),
        *("  e = 'text'", "  ... and 1 more"),
    ]
