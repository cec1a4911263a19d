"""A live replica and a watch need no etcd below them, only a store that tells."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event, View
from etcdmap.codecs import get_codec
from etcdmap.errors import EtcdMapError
from etcdmap.mapping import feed as feeds
from etcdmap.mapping.replica import State
from etcdmap.paths import ESCAPED, PLAIN, Naming
from etcdmap.tree import Follower

from support.memory_store import MemoryFollower, MemoryStore, Tree


def mapping_on(store: MemoryStore, naming: Naming = PLAIN) -> EtcdMapping:
    """Return a mapping on a store in memory."""
    view = View(store, get_codec("auto"), naming, "/app", False, whole_cluster=False)
    return EtcdMapping._on(view)


def test_live_and_watch_on_a_store_in_memory() -> None:
    """They show and tell what is written."""
    mapping = mapping_on(MemoryStore(Tree()))
    mapping["a"] = {"b": 1}
    with mapping.live() as live, mapping.watch(timeout=1) as watch:
        mapping["a/c"] = [1]
        del mapping["a/b"]
        assert live.wait(mapping.index())
        assert live == {"a": {"c": [1]}}
        assert [next(watch)[:4], next(watch)[:4]] == [
            ("set", "a/c", [1], None),
            ("delete", "a/b", None, 1),
        ]


def test_live_with_escaped_keys_reads_like_its_mapping() -> None:
    """Every key is one segment; events name what is stored."""
    mapping = mapping_on(MemoryStore(Tree()), ESCAPED)
    with mapping.live() as live:
        told: list[Event] = []
        live.subscribe(told.append, "a/b")
        mapping["a/b"] = mapping["_c"] = 1
        assert live.wait(mapping.index())
        assert live == {"a/b": 1, "_c": 1}
        assert live["a/b"] == 1
        with live.changes("a/b", initial=True) as changes:
            assert next(changes).key == "a%2Fb"


def test_feed_goes_on_after_what_should_not_happen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A follower that raises is logged, and another one takes its place."""
    monkeypatch.setattr(feeds, "_AFTER_A_FAULT", 0.01)
    mapping = mapping_on(MemoryStore(Tree()))
    mapping["k"] = 1
    broken = threading.Event()
    follow = MemoryFollower.follow

    def raise_once(self: MemoryFollower, until: float) -> object:
        if not broken.is_set():
            broken.set()
            raise EtcdMapError("a bug")
        if not self.covered:
            return [self.read()]
        return follow(self, until)

    monkeypatch.setattr(MemoryFollower, "follow", raise_once)
    with mapping.live() as live:
        assert broken.wait(5)
        mapping["k"] = 2
        assert live.wait(mapping.index())
        assert live["k"] == 2
    assert "a bug" in caplog.text


def test_stale_for_is_not_ahead_of_what_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proof counts once the changes that it covers can be read, not before."""
    reached, gate = threading.Event(), threading.Event()
    follow, after = MemoryFollower.follow, feeds.after

    def follow_and_prove(self: MemoryFollower, until: float) -> object:
        self.proved = float("-inf")
        news = follow(self, until)
        self.proved = time.monotonic()
        return news

    def slow(state: State, news: Any) -> Any:
        reached.set()
        assert gate.wait(5)
        return after(state, news)

    monkeypatch.setattr(MemoryFollower, "follow", follow_and_prove)
    monkeypatch.setattr(feeds, "after", slow)
    mapping = mapping_on(MemoryStore(Tree()))
    with mapping.live() as live:
        live._feed.proved = float("-inf")
        mapping["k"] = 1
        assert reached.wait(5)
        assert "k" not in live
        assert live.stale_for > 5
        gate.set()
        assert live.wait(mapping.index())
        assert live.stale_for < 5


def test_loop_that_ended_while_it_waited_stops_nothing() -> None:
    """A coroutine that was cancelled leaves nothing that the next event meets."""
    mapping = mapping_on(MemoryStore(Tree()))
    with mapping.live() as live:
        changes = live.changes()

        async def wait_a_little() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(changes.__anext__(), 0.01)

        asyncio.run(wait_a_little())
        for number in range(2):
            assert live.wait(mapping.set("k", number), 5)
            assert next(changes).key in ("", "k")


def test_log_handler_that_raises_stops_nothing() -> None:
    """Not even that of a callback that raised."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("the disk is full")

    handler = Broken()
    logging.getLogger("etcdmap").addHandler(handler)
    mapping = mapping_on(MemoryStore(Tree()))
    told = threading.Semaphore(0)

    def misbehave(event: Event) -> None:
        told.release()
        raise ValueError

    try:
        with mapping.live() as live:
            live.subscribe(misbehave, "k")
            for number in range(3):
                mapping["k"] = number
                assert told.acquire(timeout=5)
            assert live.wait(mapping.index(), 5)
    finally:
        logging.getLogger("etcdmap").removeHandler(handler)


def test_memory_follower_is_a_follower() -> None:
    """The waist has what the feed asks for."""
    follower: Follower = MemoryFollower(MemoryStore(Tree()), "/app", 0)
    assert follower.read().root is None
