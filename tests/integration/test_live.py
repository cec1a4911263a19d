"""What a live replica and a watch do, and what they cost, on a cluster that works."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from etcdmap import (
    Client,
    ClientClosed,
    ClusterUnavailable,
    DecodeError,
    EtcdMapError,
    EtcdMapping,
    Event,
    KeyNotFound,
    Live,
    NotADirectory,
    ReadOnly,
)
from etcdmap.errors import DeadlineExceeded
from etcdmap.local import LocalCluster

from support.certificates import make_certificate
from support.chain import Chain
from support.raw_etcd import raw_etcd
from support.servers import newest
from support.transports import CountingTransport
from support.v2_walk import ask
from support.waiting import soon

pytestmark = pytest.mark.etcd

CONTENT = {"a": {"b": 1, "c": {"d": "x"}}, "e": {}, "n": [1, 2], "t": "text"}


@pytest.fixture
def live(mapping: EtcdMapping) -> Iterator[Live]:
    """Give a replica of some content."""
    mapping.assign(CONTENT)
    with mapping.live() as live:
        yield live


# --- reads


def test_live_reads_like_the_mapping(live: Live, mapping: EtcdMapping) -> None:
    """All that a mapping tells, without a request."""
    assert live == mapping.to_dict() == CONTENT
    assert live["a"]["c/d"] == live["a/c/d"] == live["a"]["c"]["d"] == "x"
    assert list(live) == list(mapping) == sorted(CONTENT)
    assert list(reversed(live)) == list(reversed(mapping))
    assert len(live) == 4
    assert "a/b" in live
    assert "a/zz" not in live
    assert "t/below" not in live
    assert live.get("zz", 7) == live.get("t/below", 7) == 7
    strange: Any = [5, []]
    assert [live.get("_h"), *map(live.get, strange)] == [None, None, None]
    assert dict(live["a"].items()) == {"b": 1, "c": live["a/c"]}
    assert live.flat.to_dict() == mapping.flat.to_dict()
    assert live.flat["a/c/d"] == "x"
    assert live | {"z": 1} == {**CONTENT, "z": 1}
    assert live.copy() == CONTENT
    for key in ("zz", "t/below", "_h", ""):
        with pytest.raises(KeyNotFound) as caught:
            live[key]
        assert caught.value.args == (key,)
        assert isinstance(caught.value.key, str)


def test_live_hands_out_copies_of_lists(live: Live) -> None:
    """What a caller changes is their own."""
    live["n"].append(3)
    live.snapshot().value["n"].append(3)
    live.view()["n"].append(3)
    assert live["n"] == [1, 2]


def test_live_can_not_be_written(live: Live) -> None:
    """It has no method that writes."""
    with pytest.raises(TypeError):
        live["k"] = 1  # type: ignore[index]
    with pytest.raises(ReadOnly):
        live |= {"k": 1}
    assert not hasattr(live, "pop")
    assert not hasattr(live, "update")
    assert live.readonly


def test_live_sends_two_requests_and_then_none(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """A reading of the tree, and a poll; reads are in memory."""
    mapping.assign(CONTENT)
    before = len(transport.requests)
    with mapping.live() as live:
        assert soon(lambda: len(transport.requests) == before + 2)
        for _ in range(100):
            assert live["a/b"] == 1
            assert live.to_dict() == CONTENT
        assert len(transport.requests) == before + 2


def test_live_is_one_watch_for_a_directory(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """Replicas of it, and of what lies in it, share threads and connection."""
    mapping.assign(CONTENT)
    with mapping.live() as one, mapping.live() as two, mapping.sub("a").live() as three:
        assert soon(lambda: "wait=true" in transport.requests[-1].target)
        names = [t.name for t in threading.enumerate() if "etcdmap-live" in t.name]
        assert sorted(names) == ["etcdmap-live-1", "etcdmap-live-2"]
        told: list[Event] = []
        two.subscribe(told.append)
        two.close()
        assert (one.state, two.state, two.sub("a").state) == (
            "following",
            *["closed"] * 2,
        )
        two.subscribe(told.append)
        assert list(two.changes()) == []
        assert one.wait(mapping.set("a/b", 2))
        assert one["a/b"] == three["b"] == 2
        assert told == []


def test_live_beside_a_busy_neighbour_reads_the_tree_once(
    etcd: LocalCluster, mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """Barriers keep up with 300 changes a second elsewhere, past etcd's 1,000."""
    mapping.assign(CONTENT)
    other = EtcdMapping(etcd.endpoints, f"{mapping.prefix}-beside")
    with other, mapping.live() as live:
        chain = Chain(live.flat.to_dict())
        live.subscribe(chain)
        begun = time.monotonic()
        for number in range(1500):
            other.keys_api.set(f"{other.prefix}/k", str(number))
            time.sleep(max(0.0, begun + number / 300 - time.monotonic()))
        mapping["a/b"] = 2
        assert chain.wait("a/b", 2, 5)
        assert (chain.count, chain.coalesced, chain.faults) == (1, 0, [])
        targets = [request.target for request in transport.requests]
        whole = [t for t in targets if "sorted" in t]
        polls = [t for t in targets if "waitIndex" in t]
        assert len(whole) == 1
        assert len(polls) < 50


def test_live_without_etcd_raises_within_its_timeout() -> None:
    """There is no replica then, and never an empty one."""
    with EtcdMapping("http://127.0.0.1:1", prefix="/app", timeout=0.3) as mapping:
        begun = time.monotonic()
        with pytest.raises((ClusterUnavailable, DeadlineExceeded)):
            mapping.live()
        assert time.monotonic() - begun < 5


def test_live_with_a_session_is_refused(etcd: LocalCluster) -> None:
    """A session can't do what watching needs; the error says what to do."""
    with (
        requests.Session() as session,
        EtcdMapping(etcd.endpoints, session=session) as m,
    ):
        with pytest.raises(EtcdMapError, match="session"):
            m.live()
        with pytest.raises(EtcdMapError, match="session"):
            m.watch()


def test_live_of_an_absent_prefix_fills_when_it_appears(
    mapping: EtcdMapping,
) -> None:
    """And is empty again when it goes; a file in its place is told as ever."""
    with mapping.live() as live:
        assert live == {}
        assert live.wait(mapping.set("k", 1))
        assert live == {"k": 1}
        mapping.keys_api.delete(mapping.prefix, recursive=True)
        assert live.wait()
        assert live == {}
        mapping.keys_api.set(mapping.prefix, "file")
        assert live.wait()
        with pytest.raises(NotADirectory):
            live.to_dict()
        assert "k" not in live


def test_live_below_a_directory_that_goes_and_becomes_a_file(
    etcd: LocalCluster, mapping: EtcdMapping
) -> None:
    """It is empty then, like one that begins then, and fills again."""
    keys, path = mapping.keys_api, f"{mapping.prefix}/a"
    mapping["a/b/k"] = 1
    with EtcdMapping(etcd.endpoints, f"{path}/b") as below, below.live() as live:
        told: list[tuple[str, str]] = []
        live.subscribe(lambda event: told.append((event.action, event.key)))
        for _ in range(2):
            keys.delete(path, recursive=True)
            keys.set(path, "file")
            assert live.wait(mapping.index(), 10)
            assert live.state == "following"
            assert live == {}
            with (
                EtcdMapping(etcd.endpoints, f"{path}/b") as other,
                other.live() as late,
            ):
                assert late == {}
                keys.delete(path)
                assert live.wait(below.set("k", 2), 10)
                assert late.wait(mapping.index(), 10)
                assert live == late == {"k": 2}
        round_ = [("delete", "k"), ("delete", ""), ("make_directory", ""), ("set", "k")]
        assert soon(lambda: told == 2 * round_)


@pytest.mark.parametrize("depth", [250, 500, 970, 1200])
def test_live_of_a_tree_deeper_than_any_key_goes_on(
    live: Live, mapping: EtcdMapping, depth: int
) -> None:
    """What no mapping can name or read is left out, as hidden names are."""
    keys = mapping.keys_api
    told: list[Event] = []
    live.subscribe(told.append)
    (endpoint,) = mapping.client.endpoints
    path = f"{mapping.prefix}/deep" + "/a" * depth
    status, index, _ = ask(endpoint, "PUT", path, value="x")
    assert status == 201
    assert live.wait(index, 10)
    for read in (live.to_dict, live.flat.to_dict, live.view, live.snapshot):
        read()
    assert live.wait(mapping.set("a/b", 2))
    assert live["a/b"] == 2
    keys.delete(f"{mapping.prefix}/deep", recursive=True)
    assert live.wait(mapping.index(), 10)
    assert live == {**CONTENT, "a": live["a"]}
    assert soon(lambda: told[-1].action == "delete")


def test_live_of_a_prefix_as_long_as_a_packet(etcd: LocalCluster) -> None:
    """etcd closes connections that begin with so long a line, but for a short one."""
    prefix = "/" + "x" * 5000
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping, mapping.live() as live:
        assert live.wait(mapping.set("k", 1))
        assert live == {"k": 1}
        node = mapping.keys_api.set("/beside", "x").node
        assert node is not None
        assert live.wait(node.modified_index, 10)


def test_live_shows_an_expiry(live: Live, mapping: EtcdMapping) -> None:
    """A ttl that runs out is an event."""
    events: list[Event] = []
    live.subscribe(events.append)
    mapping.set("short", 1, ttl=1)
    assert soon(lambda: "short" in live)
    assert soon(lambda: "short" not in live)
    assert soon(lambda: [e.action for e in events] == ["set", "expire"])


def test_snapshot_and_view_are_of_one_moment(live: Live, mapping: EtcdMapping) -> None:
    """A plain dict of the caller's own, and a shared one that can't be changed."""
    snapshot, view = live.snapshot(), live.view()
    assert live.view() is view
    assert live.wait(mapping.set("a/b", 2))
    assert snapshot.value == view == CONTENT
    assert live.view()["a"]["b"] == 2
    assert pickle.loads(pickle.dumps(view)) == view  # noqa: S301
    assert json.loads(json.dumps(view, default=dict)) == CONTENT
    assert live.index() > snapshot.index
    with pytest.raises(TypeError):
        view["k"] = 1  # type: ignore[index]


def test_live_with_another_codec_reads_the_same_texts(live: Live) -> None:
    """Values decoded for one are not another's."""
    assert live["a/b"] == 1
    assert live.using(codec="text")["a/b"] == "1"
    assert live["a/b"] == 1


def test_watch_reads_once_or_not_at_all(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """With an index it only polls."""
    index = mapping.set("a/b", 1)
    before = len(transport.requests)
    with mapping.watch(timeout=0.05) as watch:
        assert len(transport.requests) == before + 1
        assert list(watch) == []
        assert watch.index == index
    before = len(transport.requests)
    with mapping.watch("a", after=(index or 0) - 1, timeout=20) as watch:
        assert len(transport.requests) == before
        assert next(watch)[:4] == ("set", "a/b", 1, None)
    keys = [r.target for r in transport.requests[before:] if "/keys/" in r.target]
    assert all("wait=true" in target for target in keys)  # beside looks, at any time


def test_watch_of_a_value_tells_of_it_only(mapping: EtcdMapping) -> None:
    """Of a key that is a value, and of one that is absent at first."""
    mapping["k"] = 1
    with mapping.watch("k", timeout=9) as watch, mapping.watch("n/x", timeout=9) as new:
        mapping["kk"] = 1
        mapping["k"] = 2
        mapping["n/x"] = 3
        assert next(watch)[:4] == ("set", "k", 2, 1)
        assert next(new)[:4] == ("set", "n/x", 3, None)


# --- wait


def test_wait_covers_writes_elsewhere(live: Live, mapping: EtcdMapping) -> None:
    """A write outside, a renewal and a refused write make no event, but are covered."""
    outside = mapping.keys_api.set(f"{mapping.prefix}-other", "x")
    assert outside.node is not None
    assert live.wait(outside.node.modified_index, 10)
    mapping.set("short", 1, ttl=100)
    mapping.refresh("short", 200)
    assert live.wait(timeout=10)
    assert live.index() >= mapping.index()


def test_wait_for_what_never_comes_ends(live: Live) -> None:
    """It is no error."""
    begun = time.monotonic()
    assert not live.wait(live.index() + 1000, timeout=0.2)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "arguments", [{"index": "5"}, {"index": True}, {"timeout": "1"}, {"timeout": 0}]
)
def test_wait_for_what_is_none_is_refused(live: Live, arguments: Any) -> None:
    """By its name, and not with a comparison that fails somewhere."""
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(arguments))} "):
        live.wait(**arguments)


def test_write_after_a_foreign_refresh_ends_well(
    live: Live, mapping: EtcdMapping, etcd: LocalCluster
) -> None:
    """A renewal moves the index of a key, and no event tells the replica."""
    mapping.set("k", 1, ttl=100)
    assert live.wait()
    with EtcdMapping(etcd.endpoints, prefix=mapping.prefix) as other:
        other.refresh("k", 200)
    assert live["k"] == 1
    assert live.wait(mapping.set("k", 2))
    assert live["k"] == 2


# --- subscribers


def test_subscriber_is_told_after_the_change_can_be_read(
    live: Live, mapping: EtcdMapping
) -> None:
    """Value, previous value and index; a directory that goes is told file by file."""
    told: list[tuple[Event, Any]] = []
    live.subscribe(lambda event: told.append((event, live.get("a/b"))))
    index = mapping.set("a/b", 2)
    assert soon(lambda: told)
    assert told == [(Event("set", "a/b", 2, 1, index or 0), 2)]
    del mapping["a"]
    assert soon(lambda: len(told) == 4)
    assert [(e.action, e.key, e.previous) for e, _ in told[1:]] == [
        ("delete", "a/b", 2),
        ("delete", "a/c/d", "x"),
        ("delete", "a", None),
    ]
    assert len({e.index for e, _ in told[1:]}) == 1
    mapping["new/way/k"] = 1
    assert soon(lambda: len(told) == 7)
    assert [(e.action, e.key) for e, _ in told[4:]] == [
        ("make_directory", "new"),
        ("make_directory", "new/way"),
        ("set", "new/way/k"),
    ]


def test_subscriber_to_a_key_is_told_of_that_only(
    live: Live, mapping: EtcdMapping
) -> None:
    """And what is below it; until it ends."""
    told: list[str] = []
    with live.subscribe(lambda event: told.append(event.key), "a"):
        mapping["t"] = mapping["a/b"] = mapping["ab"] = mapping["a/c/d"] = "y"
        assert soon(lambda: len(told) == 2)
    mapping["a/b"] = "z"
    assert live.wait()
    assert told == ["a/b", "a/c/d"]


def test_subscriber_with_initial_gets_the_present_first(
    live: Live, mapping: EtcdMapping
) -> None:
    """Without a gap to what follows."""
    chain = Chain({})
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            mapping["w"] = number

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            chain = Chain({})
            with live.subscribe(chain, initial=True):
                assert soon(lambda: chain.count > len(CONTENT) + 5)  # noqa: B023
            assert chain.faults == []
    finally:
        over.set()
        thread.join()
    assert chain.content["a/c/d"] == "x"


def test_subscriber_with_quiet_gets_the_differences_once(
    live: Live, mapping: EtcdMapping
) -> None:
    """After so many seconds of calm, what the changes come to."""
    told: list[Event] = []
    live.subscribe(told.append, quiet=1.0)
    for number in range(10):
        mapping["q"] = number
        mapping["gone"] = 1
    del mapping["gone"]
    assert live.wait()
    assert told == []
    assert soon(lambda: told)
    time.sleep(0.05)
    assert [(e.key, e.value, e.coalesced) for e in told] == [("q", 9, True)]


def test_subscribers_that_misbehave_stop_nothing(
    live: Live, mapping: EtcdMapping, caplog: pytest.LogCaptureFixture
) -> None:
    """One that raises, writes, waits, subscribes; the one behind it is told as ever."""

    def misbehave(event: Event) -> None:
        if event.key == "raise":
            raise ValueError("secret")
        if event.key == "exit":
            sys.exit(3)
        if event.key == "write":
            mapping["written"] = 1
            live.wait()
        if event.key == "subscribe":
            live.subscribe(seen_late.append)

    seen_late: list[Event] = []
    told: list[str] = []
    live.subscribe(misbehave)
    live.subscribe(lambda event: told.append(event.key))
    keys = ["raise", "exit", "write", "subscribe", "end"]
    with caplog.at_level(logging.ERROR, "etcdmap"):
        for key in keys:
            mapping[key] = 1
            assert live.wait()
        assert soon(lambda: {*keys, "written"} <= set(told))
    mapping["late"] = 1
    assert soon(lambda: seen_late)
    assert sum("callback" in record.message for record in caplog.records) == 2


def test_subscriber_that_blocks_delays_no_reader_and_gets_the_sum(
    live: Live, mapping: EtcdMapping
) -> None:
    """Its queue is bounded: in the end it gets the differences."""
    chain = Chain(live.flat.to_dict())
    gate, blocked = threading.Event(), threading.Event()

    def block(event: Event) -> None:
        blocked.set()
        gate.wait(30)
        chain(event)

    live.subscribe(block)
    for number in range(1500):
        mapping["n2"] = number
    assert blocked.is_set()
    assert live.wait()
    assert live["n2"] == 1499
    gate.set()
    assert chain.wait("n2", 1499, 5)
    assert chain.faults == []
    assert chain.count < 20
    assert chain.coalesced


def test_subscriber_may_close_the_replica(live: Live, mapping: EtcdMapping) -> None:
    """What was seen last can still be read."""
    closed = threading.Event()

    def close(event: Event) -> None:
        live.close()
        closed.set()

    live.subscribe(close)
    mapping["k"] = 1
    assert closed.wait(5)
    assert soon(lambda: not live_threads())
    assert live["k"] == 1
    assert live.state == "closed"


def test_undecodable_text_is_logged_and_stops_nothing(
    mapping: EtcdMapping, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the key."""
    json_only = mapping.using(codec="json")
    with json_only.live() as live, caplog.at_level(logging.ERROR, "etcdmap"):
        told: list[Event] = []
        live.subscribe(told.append)
        mapping["bad"] = "not json"
        json_only["good"] = 1
        assert soon(lambda: told and told[-1].key == "good")
        assert "bad" not in [event.key for event in told]
        assert live["good"] == 1
        with pytest.raises(DecodeError, match="/bad"):
            live["bad"]
    assert "/bad" in caplog.text


def test_changes_in_a_loop_and_in_a_coroutine(live: Live, mapping: EtcdMapping) -> None:
    """``for`` and ``async for``; neither blocks the other, nor an event loop."""
    seen: list[Any] = []
    changes = live.changes("k")
    thread = threading.Thread(target=lambda: seen.extend(e.value for e in changes))
    thread.start()

    async def collect() -> list[Any]:
        found = []
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        own = live.changes("k", initial=True)

        async def write() -> None:
            for number in range(5):
                await asyncio.to_thread(mapping.set, "k", number)
                await asyncio.sleep(0.02)

        writing = asyncio.create_task(write())
        async for event in own:
            found.append(event.value)
            if event.value == 4:
                own.close()
        await writing
        ticking.cancel()
        assert ticks > 10
        return found

    assert asyncio.run(collect()) == [0, 1, 2, 3, 4]
    assert soon(lambda: seen == [0, 1, 2, 3, 4])
    changes.close()
    thread.join(5)
    assert not thread.is_alive()


def test_changes_of_a_cancelled_task_go_on_and_those_of_a_closed_loop_stop_nothing(
    live: Live, mapping: EtcdMapping
) -> None:
    """No event is lost; what wakes a coroutine that is no more is not the replica's."""
    changes = live.changes("k")

    async def cancel_one_that_waits() -> None:
        waiting = asyncio.create_task(changes.__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def main() -> list[Any]:
        await cancel_one_that_waits()
        await asyncio.to_thread(mapping.set, "k", 1)
        await asyncio.to_thread(mapping.set, "k", 2)
        values = [(await changes.__anext__()).value for _ in range(2)]
        await cancel_one_that_waits()
        return values

    assert asyncio.run(main()) == [1, 2]
    for number in (3, 4):
        assert live.wait(mapping.set("k", number))
        assert next(changes).value == number


def test_changes_wake_all_coroutines_that_wait(
    live: Live, mapping: EtcdMapping
) -> None:
    """Each gets an event of its own, and none sleeps on."""

    async def two() -> set[str]:
        with live.changes() as changes:
            waiting = [asyncio.ensure_future(anext(changes)) for _ in range(2)]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(mapping.update, {"one": 1, "two": 2})
            return {event.key for event in await asyncio.gather(*waiting)}

    assert asyncio.run(asyncio.wait_for(two(), 10)) == {"one", "two"}


def test_changes_end_with_the_replica(live: Live) -> None:
    """A loop that waits ends when the replica is closed."""
    thread = threading.Thread(target=list, args=(live.changes(),))
    thread.start()
    live.close()
    thread.join(5)
    assert not thread.is_alive()


# --- the end


def live_threads() -> list[threading.Thread]:
    """Return the threads of replicas."""
    return [t for t in threading.enumerate() if t.name.startswith("etcdmap-live")]


def test_close_is_quick_and_leaves_nothing(etcd: LocalCluster, prefix: str) -> None:
    """At once, with a poll under way; no thread, no socket, no file, after many."""
    fds = "/proc/self/fd"
    before = len(os.listdir(fds)) if os.path.isdir(fds) else 0
    took = []
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        for number in range(1000):
            live = mapping.live()
            if number % 2:
                time.sleep(0.002)
            begun = time.monotonic()
            live.close()
            took.append(time.monotonic() - begun)
        assert soon(lambda: not live_threads())
    assert sorted(took)[500] < 0.25
    if before:
        assert soon(lambda: len(os.listdir(fds)) <= before + 1)


def test_watch_close_from_another_thread_ends_it(mapping: EtcdMapping) -> None:
    """At once, and without an error."""
    watch = mapping.watch()
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watch))
    thread.start()
    time.sleep(0.05)
    begun = time.monotonic()
    watch.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 1.5
    assert events == []


def test_client_closed_under_a_replica_ends_it(etcd: LocalCluster, prefix: str) -> None:
    """Its threads would only meet a closed client; the last state stays."""
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        mapping["k"] = 1
        live = mapping.live()
        thread = threading.Thread(target=list, args=(live.changes(),))
        thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert soon(lambda: not live_threads())
    assert (live.state, live["k"]) == ("closed", 1)
    live.close()
    with pytest.raises(ClientClosed):
        mapping.live()


def test_live_can_not_be_pickled(live: Live) -> None:
    """The error says what to pass instead."""
    with pytest.raises(TypeError, match="EtcdMapping"):
        pickle.dumps(live)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_follows_by_itself(live: Live, mapping: EtcdMapping) -> None:
    """And the parent's watch goes on."""
    assert live["a/b"] == 1
    read, write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.read(go_read, 1)
        try:
            first = live["a/b"]
            os.write(write, b"%d" % first)
            end = time.monotonic() + 5
            while live["a/b"] != 3 and time.monotonic() < end:
                time.sleep(0.001)
            os.write(write, b"%d" % live["a/b"])
        finally:
            os._exit(0)
    try:
        mapping["a/b"] = 2
        os.write(go_write, b"x")
        assert os.read(read, 1) == b"2"
        assert live.wait(mapping.set("a/b", 3))
        assert os.read(read, 1) == b"3"
        assert live.wait(mapping.set("a/b", 4))
        assert live["a/b"] == 4
    finally:
        os.waitpid(child, 0)
        for fd in (read, write, go_read, go_write):
            os.close(fd)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_may_go_on_with_watch_and_changes(
    live: Live, mapping: EtcdMapping
) -> None:
    """Though it reads nothing before; the parent's go on as well."""
    read, write = os.pipe()
    with mapping.watch(timeout=20) as watch, live.changes() as changes:
        mapping["a/b"] = 2
        assert next(watch).value == next(changes).value == 2
        child = os.fork()
        if child == 0:  # pragma: no cover
            signal.alarm(20)
            try:
                os.write(write, b"%d" % next(watch).value)
                os.write(write, b"%d" % next(changes).value)
            finally:
                os._exit(0)
        os.close(write)
        try:
            time.sleep(0.05)
            mapping["a/b"] = 3
            assert next(watch).value == next(changes).value == 3
            assert (os.read(read, 1), os.read(read, 1)) == (b"3", b"3")
        finally:
            os.waitpid(child, 0)
            os.close(read)


_SCRIPT = """
import sys, time
{patch}
from etcdmap import EtcdMapping
m = EtcdMapping(sys.argv[1], prefix=sys.argv[2])
live = m.live()
told = []
live.subscribe(told.append)
m["script"] = 1
assert live.wait()
while not told:
    time.sleep(0.001)
print(live["script"])
"""


@pytest.mark.parametrize(
    "patch",
    ["", "from gevent import monkey; monkey.patch_all()"],
    ids=["plain", "gevent"],
)
def test_interpreter_ends_with_an_open_replica(
    etcd: LocalCluster, prefix: str, patch: str
) -> None:
    """Without a word, with gevent's sockets and threads too."""
    if patch:
        pytest.importorskip("gevent")
    script = _SCRIPT.format(patch=patch)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, etcd.endpoints[0], prefix],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


# --- TLS and users


def test_live_over_tls_follows_proves_and_closes(tmp_path: Path) -> None:
    """The barrier works on the raw socket below TLS."""
    binary = newest()
    certificate = make_certificate(tmp_path)
    with (
        raw_etcd(binary, tmp_path, "--enable-v2=true", certificate=certificate) as url,
        EtcdMapping(url, prefix="/app", verify=str(certificate)) as mapping,
        mapping.live() as live,
    ):
        assert live.wait(mapping.set("k", 1))
        assert live["k"] == 1
        node = mapping.keys_api.set("/beside", "x").node
        assert node is not None
        assert live.wait(node.modified_index, 10)
        begun = time.monotonic()
        live.close()
        assert time.monotonic() - begun < 1


def test_live_of_the_client_fixture_is_typed(client: Client) -> None:
    """A mapping that shares a client has replicas too."""
    with EtcdMapping(client=client, prefix="/typed").live() as live:
        assert live.state == "following"
        assert live.stale_for < 5
        assert live.error is None
