"""Replicas opened, closed, subscribed to and forked, all at the same time."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event
from etcdmap.local import LocalCluster
from etcdmap.mapping.feeds import Feeds

from support.chain import Chain, Counters

pytestmark = pytest.mark.etcd

ROUNDS, FORKS = 40, 40


def use(mapping: EtcdMapping, rng: random.Random) -> None:
    """Open one, do with it what one can, and close it twice."""
    live = rng.choice([mapping, mapping["d"]]).live(rng.choice([1.0, 3.0, 10.0]))
    told: list[Any] = []
    ends: list[Callable[[], object]] = [
        live.subscribe(told.append, initial=rng.random() < 0.5).close,
        live.subscribe_state(told.append).close,
        live.changes().close,
    ]
    if rng.random() < 0.3:
        assert live.wait(timeout=10)
    if rng.random() < 0.3:

        def close(_: Event) -> None:
            live.close()

        live.subscribe(close)
    for end in ends:
        if rng.random() < 0.5:
            end()
    thread = threading.Thread(target=live.close)
    thread.start()
    live.close()
    thread.join(10)


def test_replicas_opened_and_closed_by_many_threads_leave_nothing(
    etcd: LocalCluster, mapping: EtcdMapping
) -> None:
    """Whatever is going on, and whoever closes them."""
    mapping["d/x"] = 1
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(ROUNDS):
                use(mapping, rng)
        except BaseException as error:
            errors.append(error)

    with EtcdMapping(etcd.endpoints, mapping.prefix) as writer, Counters(writer):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    assert errors == []
    assert Feeds.of(mapping.client)._feeds == []
    end = time.monotonic() + 10
    while any("etcdmap-live" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_at_any_moment_of_following_loses_nothing(
    etcd: LocalCluster, mapping: EtcdMapping
) -> None:
    """Each child shows the present, and the parent is told all."""
    mapping["counter-0"] = 0
    writer = EtcdMapping(etcd.endpoints, mapping.prefix)
    with writer, mapping.live(max_stale=1.0) as live:
        chain = Chain(live.flat.to_dict())
        live.subscribe(chain)
        with Counters(writer, pause=0.001):
            for number in range(FORKS):
                time.sleep(0.003 * (number % 7))
                child = os.fork()
                if child == 0:  # pragma: no cover
                    code = 1
                    try:
                        before = live["counter-0"]
                        shown = live.wait(mapping.index(), 10)
                        code = 0 if shown and live["counter-0"] >= before else 2
                        live.close()
                    finally:
                        os._exit(code)
                assert os.waitpid(child, 0)[1] == 0
        assert live.wait(writer.index(), 10)
        assert chain.wait("counter-0", writer["counter-0"], 5)
        assert chain.faults == []
        assert chain.coalesced == 0
