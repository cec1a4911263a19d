"""Fixtures of the tests that look at what a server itself says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from etcdmap import KeysAPI
from etcdmap.client import Client
from etcdmap.local import LocalCluster

from support.raw_http import Raw
from support.servers import binaries


@pytest.fixture
def raw(etcd: LocalCluster, prefix: str) -> Raw:
    """Give plain HTTP to the server, below the prefix that `mapping` stands on."""
    return Raw(etcd.endpoints[0], prefix)


@pytest.fixture
def keys_api(client: Client) -> KeysAPI:
    """Give etcd's own operations, on absolute paths."""
    return KeysAPI(client)


@pytest.fixture(scope="module")
def own_etcd(etcd_version: str) -> Iterator[LocalCluster]:
    """Give a cluster of one member for what would disturb other tests."""
    with LocalCluster(members=1, binary=binaries()[etcd_version]) as cluster:
        yield cluster
