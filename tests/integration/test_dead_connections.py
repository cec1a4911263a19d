"""Connections that died without a word, behind a balancer: one endpoint, new ones work.

Nothing tells a client of it but silence, so one call may find it out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapError, EtcdMapping
from etcdmap.local import LocalCluster
from etcdmap.transport import Request
from etcdmap.v2 import V2_API

from support.tcp_proxy import TcpProxy

#: Seconds for a call, which those on dead connections take.
TIMEOUT = 1.0
CONNECTIONS = 16


@pytest.fixture
def balancer(etcd: LocalCluster) -> Iterator[TcpProxy]:
    """Give a balancer before a real member."""
    with TcpProxy(etcd.endpoints[0]) as balancer:
        yield balancer


@pytest.fixture(params=["wire", "session"])
def mapping(
    request: pytest.FixtureRequest, balancer: TcpProxy, prefix: str
) -> Iterator[EtcdMapping]:
    """Give a mapping over the balancer, that keeps idle connections there."""
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {}
        if request.param == "session":
            options["session"] = stack.enter_context(requests.Session())
        mapping = stack.enter_context(
            EtcdMapping(balancer.endpoint, prefix, timeout=TIMEOUT, **options)
        )
        warm_up(mapping)
        assert balancer.opened > 1  # requests makes as many as its threads meet there
        yield mapping


def warm_up(mapping: EtcdMapping) -> None:
    """Have it keep idle connections, as threads that worked at one time leave them."""
    (endpoint,) = mapping.client.endpoints
    request: Request = next(iter(V2_API.members()))
    transport = mapping.client.transport
    for exchange in [transport.begin(endpoint, request, 5) for _ in range(CONNECTIONS)]:
        exchange.result()


READ_AND_WRITE = pytest.mark.parametrize(
    "call",
    [
        lambda mapping, key: mapping.get(key),
        lambda mapping, key: mapping.__setitem__(key, 1),
    ],
    ids=["read", "write"],
)
Work = Callable[[EtcdMapping, str], object]


def failures(mapping: EtcdMapping, call: Work, key: str, times: int) -> list[int]:
    """Make calls; return the numbers of those that failed."""
    failed = []
    for number in range(times):
        try:
            call(mapping, key)
        except EtcdMapError:
            failed.append(number)
    return failed


@READ_AND_WRITE
def test_dead_connections_fail_one_call(
    mapping: EtcdMapping, balancer: TcpProxy, call: Work
) -> None:
    """When one is found to be dead, the others are not used again either."""
    balancer.forget()
    assert failures(mapping, call, "k", CONNECTIONS) == [0]


@READ_AND_WRITE
def test_dead_connections_fail_one_call_of_each_thread(
    mapping: EtcdMapping, balancer: TcpProxy, call: Work
) -> None:
    """That one which was under way before any of them could know."""
    balancer.forget()
    failed: list[list[int]] = [[] for _ in range(CONNECTIONS)]
    start = threading.Barrier(CONNECTIONS)

    def work(number: int) -> None:
        start.wait(10)
        failed[number] = failures(mapping, call, f"k{number}", 3)

    threads = [
        threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * TIMEOUT)
    assert all(numbers in ([], [0]) for numbers in failed)
    assert [0] in failed
