"""The rows in which a live replica and a watch follow what is written."""

from __future__ import annotations

from typing import Any

from benchmarks.faults import actions
from benchmarks.faults.actions import Fault
from benchmarks.faults.row import HITS, Hit, Row


def _live(name: str, title: str, fault: Fault, late: float | None, **more: Any) -> Row:
    return Row(
        f"live-{name}",
        f"a live replica and a watch, {title}",
        fault,
        "count",
        clients=4,
        whole=26.0,
        followed=True,
        late=late,
        **more,
    )


def _live_hit(hit: Hit) -> Row:
    return _live(
        hit.name,
        hit.title.replace("in use", "followed"),
        hit.fault,
        # Silence is noticed by the looks at the member, each 2 s.
        0.5 if hit.kills else 4.0,
        in_use=hit.in_use,
        split=hit.split,
        # 4 s are nearly all that history holds, at 220 changes a second.
        gaps=not hit.kills,
    )


LIVE: tuple[Row, ...] = (
    _live("calm", "no fault", actions.calm, 0.005),
    *map(_live_hit, HITS),
    _live("rolling", "rolling restart of all members", actions.rolling_restart, 0.5),
    _live(
        "all-killed", "all 3 killed, back after 3 s", actions.kill_all, 6.0, outage=True
    ),
    _live(
        "rebuilt",
        "cluster wiped and rebuilt",
        actions.rebuild,
        None,
        outage=True,
        gaps=True,
    ),
    _live(
        "rebuilt-past",
        "the same, and its index is past the old one",
        actions.rebuild_past,
        None,
        outage=True,
        proxied=True,
        gaps=True,
    ),
    _live(
        "outrun",
        "2,000 changes elsewhere while nothing gets through",
        actions.outrun,
        None,
        proxied=True,
        gaps=True,
    ),
    _live(
        "dropped",
        "all connections ended every 2 s",
        actions.drop_often,
        0.5,
        proxied=True,
    ),
    _live(
        "forgotten",
        "a middlebox forgets the poll",
        actions.forget_polls,
        3.0 + 1.0,
        proxied=True,
        max_stale=3.0,
        gaps=True,
    ),
    _live(
        "late",
        "answers come late",
        actions.answer_late,
        4.0,
        proxied=True,
        gaps=True,
    ),
)
