"""A live replica equals etcd's own tree at every index, whatever is done to it."""

from __future__ import annotations

import itertools
import random
import threading
from functools import partial
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event, Live
from etcdmap.local import LocalCluster
from etcdmap.mapping.subscription import STATE

from support.chain import UntilOver
from support.v2_walk import ask, operations, truth

STEPS = 300


class Replay:
    """What the events so far come to."""

    def __init__(self, root: Any) -> None:
        self.root = root

    def __call__(self, event: Event) -> None:
        """Take an event of a mapping at the root of the tree."""
        names = event.key.split("/") if event.key else []
        gone = event.action in ("delete", "expire")
        new: Any = None if gone else event.value if event.action == "set" else {}
        self.root = self._put(self.root, names, new)

    def _put(self, node: Any, names: list[str], new: Any) -> Any:
        if not names:
            return new
        directory = dict(node) if isinstance(node, dict) else {}
        below = self._put(directory.get(names[0]), names[1:], new)
        if below is None:
            directory.pop(names[0], None)
        else:
            directory[names[0]] = below
        return directory


class Readers(UntilOver):
    """Threads that note each state they see; they must come in order."""

    def __init__(self, live: Live, count: int = 8) -> None:
        self._live = live
        self.seen: list[list[tuple[int, Any]]] = [[] for _ in range(count)]
        super().__init__(partial(self._look, mine) for mine in self.seen)

    def _look(self, mine: list[tuple[int, Any]]) -> None:
        last = None
        while not self.over.wait(0.0002):
            moment = self._live._feed.now
            if moment is not last:
                last = moment
                mine.append((moment[STATE].index, moment[STATE].root))


@pytest.mark.etcd
@pytest.mark.parametrize("seed", [11, 12])
def test_live_equals_the_tree_at_every_index(
    etcd: LocalCluster, prefix: str, seed: int
) -> None:
    """After any operation that v2 knows; and the events alone lead there as well."""
    (endpoint,) = etcd.endpoints
    path = f"{prefix}/pq"
    rng = random.Random(seed)
    with (
        EtcdMapping(endpoint, path, codec="text") as mapping,
        mapping.live() as live,
    ):
        replay = Replay(live._feed.state().root)
        live.subscribe(replay)
        passed = [live._feed.state().root]
        live._feed._subscriptions[0].add = noting(  # type: ignore[method-assign]
            live._feed._subscriptions[0].add, passed
        )
        compared = 0
        with Readers(live) as readers:
            for _ in range(STEPS):
                for _ in range(rng.choice([1, 1, 1, 3, 8])):
                    method, where, query, form = operations(rng, path)
                    ask(endpoint, method, where, query, **form)
                wanted, index = truth(endpoint, path)
                assert live.wait(index, 10)
                state = live._feed.state()
                if state.index == index:  # else something expired meanwhile
                    compared += 1
                    assert state.root == wanted
        assert compared > STEPS / 2
        assert_events_lead_to(live, replay)
        for mine in readers.seen:
            assert_all_are_of_etcd(mine, passed)


def noting(add: Any, passed: list[Any]) -> Any:
    """Note each state that is made."""

    def note(state: Any, *more: Any, **options: Any) -> Any:
        passed.append(state.root)
        return add(state, *more, **options)

    return note


def assert_events_lead_to(live: Live, replay: Replay) -> None:
    """The events that a subscriber got add up to what is there."""
    for _ in range(100):
        if replay.root == live._feed.state().root:
            return
        threading.Event().wait(0.02)
    assert replay.root == live._feed.state().root


def assert_all_are_of_etcd(seen: list[tuple[int, Any]], passed: list[Any]) -> None:
    """Every state that was read is one that the log passes through, in its order."""
    for (before, _), (behind, _) in itertools.pairwise(seen):
        assert before <= behind
    known = {id(root) for root in passed}
    assert all(id(root) in known for _, root in seen)
