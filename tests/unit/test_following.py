"""How many polls are under way at once: a history without a server below."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from etcdmap import EtcdMapping
from etcdmap.transport import Answer
from etcdmap.tree import Change


class History:
    """A line to a store with some events; they are of /p/k."""

    def __init__(self, indexes: Iterable[int], store_index: int) -> None:
        self.indexes = list(indexes)
        self.store_index = store_index
        #: How many polls were sent at once.
        self.batches: list[int] = []
        self._polls: deque[int] = deque()

    def send(self, requests: Sequence[Any], until: float) -> None:
        self.batches.append(len(requests))
        self._polls += [int(r.target.rpartition("waitIndex=")[2]) for r in requests]

    def receive_all(self, until: float) -> list[Answer]:
        polls, self._polls = self._polls, deque()
        return [self._answer(wanted) for wanted in polls]

    def _answer(self, wanted: int) -> Answer:
        index = next(each for each in self.indexes if each >= wanted)
        node = {"key": "/p/k", "value": "v", "modifiedIndex": index, "createdIndex": 1}
        body = json.dumps({"action": "set", "node": node}).encode()
        told = {"x-etcd-index": str(self.store_index)}
        return Answer(200, told, body, "http://a")


class Following:
    """A follower on such a line, and what it has told."""

    def __init__(self, history: History) -> None:
        mapping = EtcdMapping("http://127.0.0.1:1", "/p")
        store: Any = mapping._view.store
        self._follower = store.follower("/p", of_directory=True, after=0)
        self._follower._line = history
        self.told: list[int] = []

    def go_on(self, times: int = 1) -> None:
        """Use some batches."""
        for _ in range(times):
            for news in self._follower.follow(float("inf")):
                assert isinstance(news, Change)
                self.told.append(news.index)


def test_polls_double_while_it_is_behind() -> None:
    """And each event is told once, in order."""
    history = History(range(1, 2000), store_index=1999)
    following = Following(history)
    following.go_on(12)
    assert history.batches == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]
    assert following.told == [*range(1, sum(history.batches) + 1)]


def test_polls_halve_where_it_has_caught_up() -> None:
    """So where many write it is soon as many again; where few do, it is one."""
    history = History(range(1, 2000), store_index=63)
    following = Following(history)
    following.go_on(6)
    assert following.told[-1] == 63
    history.store_index = 64  # 32 becomes 16, 8 and 4
    following.go_on()
    history.store_index = 65
    following.go_on()
    history.store_index = 1000
    following.go_on(3)
    assert history.batches == [1, 2, 4, 8, 16, 32, 1, 1, 1, 8, 16]
    assert following.told == [*range(1, sum(history.batches) + 1)]


def test_polls_are_one_again_where_they_bring_the_same_event_twice() -> None:
    """Beside a neighbour who writes more: each event is told once all the same."""
    history = History(range(3, 2000, 3), store_index=1999)
    following = Following(history)
    following.go_on(6)
    assert history.batches == [1, 2, 1, 2, 1, 2]
    assert following.told == [*range(3, 21, 3)]
