"""A live replica and a watch need no etcd below them, only a store that tells."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event, View
from etcdmap.codecs import get_codec
from etcdmap.errors import ClientClosed, EtcdMapError
from etcdmap.mapping import feed as feeds
from etcdmap.mapping import subscription as subscriptions
from etcdmap.mapping.feeds import Feeds
from etcdmap.mapping.replica import State, after
from etcdmap.mapping.subscription import Subscription
from etcdmap.paths import ESCAPED, PLAIN, Naming
from etcdmap.tree import Follower, Reading

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


def test_callback_that_blocks_after_quick_ones_holds_up_no_reader() -> None:
    """While they are quick one thread follows and calls; else the other follows."""
    mapping = mapping_on(MemoryStore(Tree()))
    over, blocks = threading.Event(), threading.Event()

    def block_at_last(event: Event) -> None:
        if event.value == 20:
            blocks.set()
            over.wait(30)

    with mapping.live() as live, live.subscribe(block_at_last):
        try:
            for number in range(21):
                mapping["k"] = number
                assert live.wait(mapping.index(), 10)
            assert blocks.wait(10)
            mapping["k"] = 21
            assert live.wait(mapping.index(), 10)
            assert live["k"] == 21
        finally:
            over.set()


def test_callback_whose_events_never_cease_leaves_others_their_turn() -> None:
    """While one runs, there are new events for both of them."""
    mapping = mapping_on(MemoryStore(Tree()))
    calls, told, over = 0, threading.Event(), threading.Event()

    def write(event: Event) -> None:
        nonlocal calls
        calls += 1
        if calls == 20 or told.is_set():
            over.set()
        else:
            mapping["k"] = calls
            assert live.wait(mapping.index(), 10)

    with mapping.live() as live, live.subscribe(write):
        live.subscribe(lambda event: told.set())
        mapping["k"] = 0
        assert over.wait(10)
        assert calls < 20


def test_wait_covers_what_came_behind_the_news() -> None:
    """In one batch: a change here, and one that concerns nobody here."""
    tree = Tree()
    with mapping_on(MemoryStore(tree)).live() as live:
        with tree.asked("/"):
            tree.put("/app/a", "1", None)
            index = tree.put("/other", "1", None)
        assert live.wait(index, 1)
        assert live.index() == index


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
    follow = MemoryFollower.follow

    def follow_and_prove(self: MemoryFollower, until: float) -> object:
        self.proved = float("-inf")
        news = follow(self, until)
        self.proved = time.monotonic()
        return news

    def slow(state: State, news: Any, covered: int) -> Any:
        reached.set()
        assert gate.wait(5)
        return after(state, news, covered)

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


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Give a list that grows with each proof that is asked for."""
    asked: list[None] = []
    monkeypatch.setattr(MemoryFollower, "prove", lambda self: asked.append(None))
    return asked


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_replicas_of_one_directory_are_proved_as_often_as_the_present_ones_want(
    proofs: list[None], order: tuple[int, ...]
) -> None:
    """From when one is opened, until it is closed, in any order."""
    mapping = mapping_on(MemoryStore(Tree()))
    wanted = [5.0, 1.0, 3.0]
    lives = [mapping.live(max_stale) for max_stale in wanted]
    feed = lives[0]._feed
    assert len(proofs) == 1
    for number in order:
        assert feed.follower.max_stale == min(x for x in wanted if x)
        lives[number].close()
        lives[number].close()
        wanted[number] = 0.0
        assert lives[number]._feed.closed == (not any(wanted))


def test_replica_closed_by_two_threads_at_once_is_closed_once() -> None:
    """Another one of the same directory goes on."""
    mapping = mapping_on(MemoryStore(Tree()))
    with mapping.live() as one:
        other = mapping.live()
        other.close()
        other._owner = True  # as the second thread saw it
        other.close()
        assert one.wait(mapping.set("k", 1), 5)
        assert one.state == "following"


def test_wait_for_what_never_comes_asks_ever_less(proofs: list[None]) -> None:
    """Each time is a quorum read."""
    with mapping_on(MemoryStore(Tree())).live() as live:
        assert not live.wait(10**9, timeout=1.0)
        assert 2 <= len(proofs) <= 4


def test_state_is_told_to_each_who_asked_until_they_end() -> None:
    """Also if it is one function; and those of a replica end with it."""
    mapping = mapping_on(MemoryStore(Tree()))
    told: list[str] = []
    with mapping.live() as one, mapping.live() as two:
        feed = one._feed
        first, _ = (one.subscribe_state(told.append) for _ in range(2))
        two.subscribe_state(told.append)
        for calls, change in enumerate((two.close, first.close, one.close)):
            told.clear()
            feed._report("suspended")
            assert len(told) == 3 - calls
            change()
        feed._report("suspended")
        assert told == ["suspended"]


def test_follower_that_can_not_be_replaced_is_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was shown once is no beginning any more."""
    monkeypatch.setattr(feeds, "_AFTER_A_FAULT", 0.01)
    mapping = mapping_on(MemoryStore(Tree()))
    follow = MemoryFollower.follow

    def fail(self: MemoryFollower, until: float) -> object:
        if self.covered:
            raise EtcdMapError("a bug")
        self.trouble = EtcdMapError("nobody is there")
        return follow(self, until)

    mapping["k"] = 1
    monkeypatch.setattr(MemoryFollower, "seen", 0)
    monkeypatch.setattr(MemoryFollower, "read", lambda self: Reading({"k": "1"}, 1))
    with mapping.live() as live:
        seen: list[str] = []
        live.subscribe_state(seen.append)
        monkeypatch.setattr(MemoryFollower, "follow", fail)
        follower: Any = live._feed.follower
        follower.covered = 1
        follower._woken.set()
        end = time.monotonic() + 5
        while live.error is None and time.monotonic() < end:
            time.sleep(0.001)
        assert (live.state, live["k"]) == ("suspended", 1)


def test_subscriber_who_is_told_at_once_holds_no_state_of_before() -> None:
    """Nothing waits for it, so nothing else would let go of that."""
    mapping, told = mapping_on(MemoryStore(Tree())), queue.Queue[Event]()
    with mapping.live() as live, live.subscribe(told.put):
        for number in range(3):
            mapping["k"] = number
            while told.get(timeout=5).value != number:
                pass
        (subscription,) = live._feed._called
        assert subscription.queued is subscription.told
        assert subscription.told.root == {"k": "2"}


def test_reading_with_another_codec_each_time_takes_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While nothing changes, which may be for days."""
    monkeypatch.setattr(subscriptions, "_MOST_READERS", 20)
    mapping = mapping_on(MemoryStore(Tree()))
    mapping["k"] = 1
    with mapping.live() as live:
        for _ in range(100):
            other = live.using(codec="text")
            assert (other["k"], other.view()["k"], live["k"]) == ("1", "1", 1)
        assert len(live._feed.now) <= 22
        assert len(live._feed.now.get("view", {})) <= 16


@pytest.mark.parametrize("started", [0, 1])
def test_live_without_a_thread_to_be_had_raises_and_leaves_none(
    monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    """The next one of the same directory follows as ever."""
    mapping = mapping_on(MemoryStore(Tree()))
    start, left = threading.Thread.start, [started]

    def start_some(self: threading.Thread) -> None:
        if not left[0]:
            (feed,) = Feeds.of(mapping.client)._feeds
            feed.users["one who waits for the first"] = 10.0
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_some)
        with pytest.raises(RuntimeError):
            mapping.live()
    end = time.monotonic() + 5
    while any("etcdmap-live" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.001)
    with mapping.live() as live:
        live._feed.users.pop("one who waits for the first")
        assert live.wait(mapping.set("k", 1), 5)


def test_memory_follower_is_a_follower() -> None:
    """The waist has what the feed asks for."""
    follower: Follower = MemoryFollower(MemoryStore(Tree()), "/app", 0)
    assert follower.read().root is None


def in_child(check: Callable[[], object]) -> None:
    """Run something in a forked child; what it raises is shown, and fails the test."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        signal.alarm(20)
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_second_live_in_a_forked_child_tells_who_subscribed_before() -> None:
    """What happened since the fork is told, though nobody read in between."""
    mapping = mapping_on(MemoryStore(Tree()))
    mapping["a"] = 1
    with mapping.live() as live:
        told: queue.SimpleQueue[Event] = queue.SimpleQueue()
        live.subscribe(told.put)

        def child() -> None:
            mapping["a"] = 2
            with mapping.live():
                assert told.get(timeout=10)[:4] == ("set", "a", 2, 1)

        in_child(child)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_a_callback_runs_loses_none_of_its_events() -> None:
    """The child has them still to come, and once more the one that was being told.

    Though the last of them brings back what was there before the first.
    """
    mapping = mapping_on(MemoryStore(Tree()))
    parent, told = os.getpid(), queue.Queue[Event]()
    blocked, over = threading.Semaphore(0), threading.Semaphore(0)

    def block(event: Event) -> None:
        told.put(event)
        if os.getpid() == parent:
            blocked.release()
            over.acquire(timeout=10)

    def child() -> None:
        assert live["k"] == 0
        seen = [told.get(timeout=5) for _ in range(5)]
        assert [event.value for event in seen] == [0, 1, 1, 2, 0]
        assert not any(event.coalesced for event in seen)

    with mapping.live() as live, live.subscribe(block, "k"):
        try:
            mapping["k"] = 0
            assert blocked.acquire(timeout=5)
            for number in (1, 2, 0):
                assert live.wait(mapping.set("k", number), 5)
            over.release()
            assert blocked.acquire(timeout=5)  # by 1, with 2 and 0 in the same batch
            in_child(child)
        finally:
            over.release(10)
        assert told.get(timeout=5).value == 0
        rest = [told.get(timeout=5) for _ in range(3)]
        assert [event.value for event in rest] == [1, 2, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_an_event_is_shown_loses_it_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The child reads it already, and nobody has queued it yet."""
    mapping = mapping_on(MemoryStore(Tree()))
    parent, told = os.getpid(), queue.Queue[object]()
    reached, gate, add = threading.Event(), threading.Event(), Subscription.add

    def slow(self: Subscription, *args: Any, **options: Any) -> Any:
        if os.getpid() == parent:
            reached.set()
            gate.wait(10)
        return add(self, *args, **options)

    def child() -> None:
        assert live["k"] == 1
        assert told.get(timeout=5) == next(changes).value == 1

    with mapping.live() as live, live.changes("k") as changes:
        live.subscribe(lambda event: told.put(event.value), "k")
        monkeypatch.setattr(Subscription, "add", slow)
        mapping["k"] = 1
        try:
            assert reached.wait(5)
            in_child(child)
        finally:
            gate.set()
        assert told.get(timeout=5) == next(changes).value == 1


def test_who_subscribes_in_the_midst_of_closing_is_ended_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may do so, while a replica beside it keeps the feed."""
    mapping = mapping_on(MemoryStore(Tree()))
    give_back = Feeds.give_back

    def subscribe_first(self: Feeds, feed: Any, ticket: object) -> None:
        live.subscribe(print)
        live.subscribe_state(print)
        give_back(self, feed, ticket)

    with mapping.live() as other:
        live = mapping.live()
        monkeypatch.setattr(Feeds, "give_back", subscribe_first)
        live.close()
        monkeypatch.undo()
        assert not other._feed._subscriptions
        assert not other._feed._state_calls


def test_coroutines_that_gave_up_leave_nothing() -> None:
    """As with a timeout for each event."""
    mapping = mapping_on(MemoryStore(Tree()))

    async def give_up(changes: Any) -> None:
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(changes), 0.001)

    with mapping.live() as live, live.changes() as changes:
        asyncio.run(give_up(changes))
        assert not changes._waiting


def test_changes_that_were_closed_tell_nothing_more() -> None:
    """Not even what had been fetched with what was told last."""
    mapping = mapping_on(MemoryStore(Tree()))
    with mapping.live() as live:
        mapping["a"] = 0
        assert live.wait(mapping.index())
        changes = live.changes()
        for number in range(1, 6):
            mapping["a"] = number
        assert live.wait(mapping.index())
        assert next(changes).value == 1
        changes.close()
        assert list(changes) == []


def test_live_of_a_client_that_is_closed_meanwhile_is_refused() -> None:
    """A replica that has read nothing would show nothing."""
    mapping = mapping_on(MemoryStore(Tree()))

    class Closing(MemoryFollower):
        """Is read while the client is closed."""

        def read(self) -> Reading:
            Feeds.of(mapping.client).close()
            return super().read()

    store: Any = mapping._view.store
    store.follower = lambda *_, **__: Closing(store, "/app", 0)
    with pytest.raises(ClientClosed):
        mapping.live()


def test_state_call_that_another_one_ended_is_not_made() -> None:
    """Each may end the next; and a closed replica is told nothing."""
    mapping = mapping_on(MemoryStore(Tree()))
    with mapping.live() as live, mapping.live() as other:
        told: list[str] = []
        live.subscribe_state(lambda state: second.close())
        second = live.subscribe_state(told.append)
        other.close()
        other.subscribe_state(told.append)
        live._feed._report("suspended")
        assert told == []


@pytest.mark.parametrize("callback", [None, "f", asyncio.sleep])
def test_callback_that_can_not_be_called_is_refused(callback: Any) -> None:
    """At once, and not in a log once something happens."""
    with mapping_on(MemoryStore(Tree())).live() as live:
        with pytest.raises(TypeError, match=r"^callback is a "):
            live.subscribe(callback)
        with pytest.raises(TypeError, match=r"^callback is a "):
            live.subscribe_state(callback)


@pytest.mark.parametrize("after", [5.0, "5", True])
def test_watch_after_what_is_no_index_is_refused(after: Any) -> None:
    """etcd would refuse it again and again."""
    with pytest.raises(TypeError, match=r"^after is an int"):
        mapping_on(MemoryStore(Tree())).watch(after=after)


def test_live_in_an_outage_waits_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four at once each ends after its own timeout, not after all of them."""
    mapping = mapping_on(MemoryStore(Tree()))
    all_ask = threading.Barrier(4)

    def read(self: MemoryFollower) -> Reading:
        all_ask.wait(5)
        raise EtcdMapError("nobody is there")

    def ask() -> str:
        with pytest.raises(EtcdMapError) as raised:
            mapping.live()
        return str(raised.value)

    monkeypatch.setattr(MemoryFollower, "read", read)
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        assert [each.result() for each in asking] == ["nobody is there"] * 4


def test_live_of_several_threads_at_once_is_followed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reading of the first one begins it; the others' are not needed."""
    mapping = mapping_on(MemoryStore(Tree()))
    all_read, read = threading.Barrier(4), MemoryFollower.read

    def read_at_once(self: MemoryFollower) -> Reading:
        reading = read(self)
        all_read.wait(5)
        return reading

    monkeypatch.setattr(MemoryFollower, "read", read_at_once)
    with ThreadPoolExecutor(4) as pool:
        lives = [pool.submit(mapping.live) for _ in range(4)]
    feed = lives[0].result()._feed
    assert len(feed._threads) == 2
    for live in lives:
        assert live.result()._feed is feed
        assert live.result().wait(mapping.set("k", 1), 5)
        live.result().close()
    assert feed.closed
