"""Fixtures that give a real etcd to the tests of programs that use etcdmap.

pytest finds them automatically if etcdmap is installed.  It loads this module in every
run, so each fixture imports what it needs only when a test uses it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from etcdmap.local import LocalCluster
    from etcdmap.mapping import EtcdMapping


@pytest.fixture(scope="session")
def etcd_cluster() -> Iterator[LocalCluster]:
    """Return a cluster of one member, which all tests share.

    The cluster is stopped after the last test.
    """
    from etcdmap.local import LocalCluster

    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def etcd_url(etcd_cluster: LocalCluster) -> str:
    """Return the URL of an empty directory, for ``ETCDMAP_URL`` and ``from_url``."""
    return etcd_cluster.url(f"/test-{uuid.uuid4().hex}")


@pytest.fixture
def etcd_mapping(etcd_url: str) -> Iterator[EtcdMapping]:
    """Return an empty mapping on the directory of `etcd_url`."""
    from etcdmap.mapping import EtcdMapping

    with EtcdMapping.from_url(etcd_url) as mapping:
        yield mapping
