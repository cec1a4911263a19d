"""A mapping whose member in use is cut off from the others, and goes on answering."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from operator import delitem, setitem
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapping, OutcomeUnknown
from etcdmap.local import Member

from support.isolation import SplitCluster
from support.punctual import Punctual
from support.servers import newest

pytestmark = pytest.mark.etcd

TIMEOUT = 3.0
MAX_STALE = 0.5


@pytest.fixture(scope="module")
def split() -> Iterator[SplitCluster]:
    """Give three members of the newest etcd at hand, whose links can be cut."""
    with SplitCluster(3, binary=newest(), fsync=False) as cluster:
        yield cluster


class Cut:
    """A mapping on all members, which uses a follower; and a way to the others.

    Attributes:
        m: the mapping; it has read and written, and knows its keys.
        other: the same directory by a client of the other members.
    """

    def __init__(
        self, cluster: SplitCluster, m: EtcdMapping, other: EtcdMapping, member: Member
    ) -> None:
        self.m = m
        self.other = other
        self._cluster = cluster
        self._member = member

    def cut(self) -> None:
        """Cut the member in use off from the others."""
        assert self.m.client.pinned == self._member.endpoint
        self._cluster.isolate(self._member)

    def left(self) -> bool:
        """Tell whether another member is in use now."""
        return self.m.client.pinned != self._member.endpoint


@pytest.fixture(params=["sockets", "requests"])
def cut(
    request: pytest.FixtureRequest, split: SplitCluster, prefix: str
) -> Iterator[Cut]:
    """Give it; the links are whole again afterwards."""
    leader = split.leader()
    follower = next(member for member in split.members if member is not leader)
    rest = [e for e in split.endpoints if e != follower.endpoint]
    options: dict[str, Any] = {"shuffle": False, "timeout": TIMEOUT}
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(EtcdMapping(rest, prefix, **options))
        if request.param == "requests":
            options["session"] = stack.enter_context(requests.Session())
            options["session"].trust_env = False
        m = stack.enter_context(
            EtcdMapping(
                [follower.endpoint, *rest], prefix, max_stale=MAX_STALE, **options
            )
        )
        m.update({"k": "old", "gone": "old", "d": {"x": "old"}})
        for _ in range(20):  # so that it knows how long answers take
            m["k"] = "old"
            assert m["k"] == "old"
        m.set("ttl", "old", ttl=500)
        m.client.pin(follower.endpoint)
        yield Cut(split, m, other, follower)
    split.links.heal()
    split.wait_healthy()


def test_read_at_a_member_that_is_cut_off_is_old_for_max_stale_at_most(
    cut: Cut,
) -> None:
    """It can't prove that it is in touch, and then another one is asked."""
    cut.cut()
    cut.other["k"] = "new"
    replaced = time.monotonic()
    while True:
        began = time.monotonic()
        with Punctual(TIMEOUT):
            value = cut.m["k"]
        if value == "new":
            break
        assert value == "old"
        assert began - replaced <= MAX_STALE
    until = time.monotonic() + 10
    while not cut.left():  # it may answer in time to plain reads, which are not used
        assert cut.m["k"] == "new"
        assert time.monotonic() < until
    assert cut.m.to_dict()["k"] == "new"


def test_linearizable_read_at_a_member_that_is_cut_off_is_never_old(cut: Cut) -> None:
    """Another one is asked as well when the answer is late."""
    cut.cut()
    cut.other["k"] = "new"
    with Punctual(TIMEOUT):
        assert cut.m.using(consistency="linearizable")["k"] == "new"


@pytest.mark.parametrize(
    ("write", "key", "after"),
    [
        pytest.param(lambda m: setitem(m, "k", "new"), "k", "new", id="setitem"),
        pytest.param(lambda m: setitem(m, "n", "new"), "n", "new", id="setitem-new"),
        pytest.param(lambda m: delitem(m, "gone"), "gone", None, id="del"),
        pytest.param(lambda m: m.replace("k", "new"), "k", "new", id="replace"),
        pytest.param(lambda m: m.refresh("ttl", 600), "ttl", "old", id="refresh"),
        pytest.param(lambda m: m.update(k="new", gone=1), "k", "new", id="update"),
    ],
)
def test_write_at_a_member_that_is_cut_off_goes_to_another_one(
    cut: Cut, write: Callable[[EtcdMapping], object], key: str, after: str | None
) -> None:
    """It is not answered there, may be sent twice, and what was known is no matter."""
    cut.cut()
    with Punctual(TIMEOUT):
        write(cut.m)
    assert cut.other.using(consistency="linearizable").get(key) == after


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: m.append("new"), id="append"),
        pytest.param(lambda m: m.compare_and_swap("k", "old", "old"), id="cas"),
        pytest.param(lambda m: m.keys_api.set(f"{m.prefix}/a", "b"), id="keys.set"),
    ],
)
def test_member_that_is_cut_off_costs_what_is_sent_once_one_call(
    cut: Cut, write: Callable[[EtcdMapping], object]
) -> None:
    """The next call goes elsewhere."""
    cut.cut()
    with contextlib.suppress(OutcomeUnknown), Punctual(TIMEOUT):
        write(cut.m)
    for _ in range(3):
        with Punctual(TIMEOUT):
            write(cut.m)
    assert cut.left()
