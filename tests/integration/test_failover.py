"""A mapping while members of a real cluster of three are killed, stopped, restarted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from operator import delitem, setitem
from typing import Any

import pytest
import requests

from etcdmap import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapping,
    KeyNotFound,
    OutcomeUnknown,
    RequestFailed,
)
from etcdmap.local import LocalCluster, Member

from support.fault_server import Stopwatch
from support.hangs import hanging_names, join
from support.punctual import Punctual
from support.servers import newest

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def running() -> Iterator[LocalCluster]:
    """Give three members of the newest etcd at hand; for these tests to break."""
    with LocalCluster(3, binary=newest(), election_timeout=0.5, fsync=False) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: LocalCluster) -> Iterator[LocalCluster]:
    """Give three healthy members; they are repaired afterwards."""
    yield running
    for member in running.members:
        if member.paused:
            member.resume()
        member.start(wait=False)
    running.wait_healthy()


@pytest.fixture
def mapping(cluster: LocalCluster, prefix: str) -> Iterator[EtcdMapping]:
    """Give a mapping on all members, with one key."""
    with EtcdMapping(cluster.endpoints, prefix, timeout=5) as mapping:
        mapping["k"] = "v"
        yield mapping


def in_use(cluster: LocalCluster, mapping: EtcdMapping) -> Member:
    """Give the member that the mapping asks first."""
    return cluster.member(mapping.client.pinned)


class Background:
    """Repeats something in a thread until the end of the block.

    Attributes:
        done: how often it has ended well.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self.done = 0
        self._work = work
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        self.wait_for_more(3)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._work()
                with self._changed:
                    self.done += 1
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def wait_for_more(self, count: int, timeout: float = 20.0) -> None:
        """Wait until it was done so often again; raise what it raised."""
        with self._changed:
            wanted = self.done + count
            self._changed.wait_for(
                lambda: self._error is not None or self.done >= wanted, timeout
            )
            if self._error is not None:
                raise self._error
            assert self.done >= wanted, f"no progress within {timeout:g} s"


# --- one member of three ----------------------------------------------------


def test_kill_the_member_in_use_between_reads_goes_unnoticed(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """The next read is answered by another member, which is then stayed with."""
    victim = in_use(cluster, mapping)
    victim.kill()
    with Punctual(1):
        assert mapping["k"] == "v"
    assert in_use(cluster, mapping) is not victim
    assert all(mapping["k"] == "v" for _ in range(20))


def test_kill_the_member_in_use_during_reads_goes_unnoticed(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """A loop of reads goes on without an error, and never sees another value."""

    def read() -> None:
        assert mapping["k"] == "v"
        assert "k" in mapping
        assert mapping.to_dict() == {"k": "v"}

    with Background(read) as reading:
        in_use(cluster, mapping).kill()
        reading.wait_for_more(20)


def test_kill_one_after_the_other_reads_go_on(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """Each member in turn is killed and started again under a loop of reads."""
    with Background(lambda: mapping["k"]) as reading:
        for _ in range(2):
            victim = in_use(cluster, mapping)
            victim.kill()
            reading.wait_for_more(10)
            victim.start()
            reading.wait_for_more(10)


def test_restart_in_order_reads_go_on(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """A rolling restart, as for an upgrade, is not seen by readers."""
    with Background(lambda: mapping["k"]) as reading:
        for member in cluster.members:
            member.restart()
            cluster.wait_healthy()
            reading.wait_for_more(5)


class Writer:
    """Writes the numbers from 0 on, each to a key of its own.

    Attributes:
        acknowledged: the numbers that were written for certain.
        unknown: those of which it is not known.
    """

    def __init__(self, mapping: EtcdMapping) -> None:
        self.mapping = mapping
        self.number = 0
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []

    def __call__(self) -> None:
        """Write one; anything but success or OutcomeUnknown is raised."""
        number, self.number = self.number, self.number + 1
        try:
            self.mapping[f"n/{number}"] = number
        except OutcomeUnknown:
            self.unknown.append(number)
        else:
            self.acknowledged.append(number)


@pytest.mark.parametrize("leader", [False, True], ids=["follower", "leader"])
def test_kill_during_writes_loses_nothing_that_was_acknowledged(
    cluster: LocalCluster, prefix: str, leader: bool
) -> None:
    """A write succeeds or is in doubt; after the repair every promise is kept."""
    the_leader = cluster.leader()
    rest = [member for member in cluster.members if member is not the_leader]
    # The first endpoint is the one in use.
    order = [the_leader, *rest] if leader else [*rest, the_leader]
    urls = [member.endpoint for member in order]
    with EtcdMapping(urls, prefix, shuffle=False) as mapping:
        writer = Writer(mapping)
        with Background(writer) as writing:
            in_use(cluster, mapping).kill()
            writing.wait_for_more(20)
        order[0].start()
        there = mapping.using(consistency="linearizable").to_dict()["n"]
    found = {int(name): value for name, value in there.items()}
    assert set(writer.acknowledged) <= found.keys()
    assert found.keys() <= set(writer.acknowledged) | set(writer.unknown)
    assert all(number == value for number, value in found.items())
    assert len(writer.unknown) < 5


def test_stopped_member_in_use_is_overtaken_and_left(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """A member that is frozen (SIGSTOP) costs a few reads some time, and no error."""
    victim = in_use(cluster, mapping)
    victim.pause()
    with Stopwatch() as first:
        assert mapping["k"] == "v"
    assert first.seconds < 2.5
    with Stopwatch() as next_ones:
        assert all(mapping["k"] == "v" for _ in range(20))
    assert next_ones.seconds < 2.5
    assert in_use(cluster, mapping) is not victim
    with Stopwatch() as last_ones:
        assert all(mapping["k"] == "v" for _ in range(20))
    assert last_ones.seconds < 1
    victim.resume()
    assert mapping["k"] == "v"


def test_stopped_member_in_use_write_ends_within_its_timeout(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """A write that a frozen member holds succeeds elsewhere, or is in doubt."""
    view = mapping.using(timeout=1.5)
    in_use(cluster, mapping).pause()
    with Punctual(1.5), contextlib.suppress(OutcomeUnknown):
        view["k"] = "new"
    assert mapping["k"] in ("v", "new")


# --- no quorum --------------------------------------------------------------


def keep_one(cluster: LocalCluster) -> Member:
    """Kill two of three members; give the one that is left."""
    *victims, left = cluster.members
    for member in victims:
        member.kill()
    return left


def test_two_of_three_killed_write_ends_within_its_timeout(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """Without a majority nothing is written; the error lists who was asked."""
    keep_one(cluster)
    view = mapping.using(timeout=2)
    with Punctual(2), pytest.raises(RequestFailed) as caught:
        view["k"] = "new"
    expected = (OutcomeUnknown, ClusterUnavailable, DeadlineExceeded)
    assert isinstance(caught.value, expected)
    assert caught.value.attempts
    for attempt in caught.value.attempts:
        assert attempt.endpoint in cluster.endpoints
        assert attempt.endpoint in str(caught.value)


def test_two_of_three_killed_a_write_let_in_is_in_doubt(
    cluster: LocalCluster, prefix: str
) -> None:
    """The member that is left takes the write: it must not end as "unavailable"."""
    left = keep_one(cluster)
    with EtcdMapping(left.endpoint, prefix, timeout=2) as mapping:
        with pytest.raises(OutcomeUnknown) as caught:
            mapping["k"] = "new"
        assert [attempt.sent for attempt in caught.value.attempts] == [True]


def test_two_of_three_killed_reads_go_on(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """The member that is left answers what it knows, to who takes that."""
    view = mapping.using(consistency="any")
    left = keep_one(cluster)
    with Punctual(3):
        assert view["k"] == "v"
        assert view.to_dict() == {"k": "v"}
        assert "k" in view
        assert "absent" not in view
    assert in_use(cluster, mapping) is left


def test_two_of_three_killed_linearizable_read_is_refused_in_time(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """Who asks for the truth is told that nobody knows it."""
    view = mapping.using(consistency="linearizable", timeout=1.5)
    keep_one(cluster)
    with Punctual(1.5), pytest.raises(RequestFailed):
        view["k"]


OPERATIONS: list[Any] = [
    pytest.param(lambda m: m["k"], id="getitem"),
    pytest.param(lambda m: "k" in m, id="contains"),
    pytest.param(lambda m: m.get("k"), id="get"),
    pytest.param(lambda m: m.pop("k", None), id="pop"),
    pytest.param(lambda m: m.__setitem__("k", "v"), id="setitem"),
    pytest.param(lambda m: len(m), id="len"),
]


def test_all_killed_every_operation_is_unavailable_in_time(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """An outage is an outage: no KeyError, no default, no long wait."""
    for member in cluster.members:
        member.kill()
    view = mapping.using(timeout=0.7)
    for parameter in OPERATIONS:
        with Punctual(0.7), pytest.raises(ClusterUnavailable) as caught:
            parameter.values[0](view)
        assert not isinstance(caught.value, KeyError)
        assert {a.endpoint for a in caught.value.attempts} == set(cluster.endpoints)
        assert not any(attempt.sent for attempt in caught.value.attempts)


def test_all_killed_and_started_the_same_mapping_works(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """After the repair nobody has to help: the next call goes through."""
    for member in cluster.members:
        member.kill()
    with pytest.raises(ClusterUnavailable):
        mapping.using(timeout=0.3)["k"]
    for member in cluster.members:
        member.start(wait=False)
    cluster.wait_healthy()
    assert mapping["k"] == "v"
    mapping["k"] = "new"
    assert mapping["k"] == "new"


def test_all_killed_a_call_lasts_through_a_short_outage(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """A read that began while no member ran ends well once they are back."""
    for member in cluster.members:
        member.kill()
    values: list[Any] = []
    view = mapping.using(timeout=30)
    reader = threading.Thread(target=lambda: values.append(view["k"]))
    reader.start()
    for member in cluster.members:
        member.start(wait=False)
    cluster.wait_healthy()
    reader.join(30)
    assert values == ["v"]


def test_outage_does_not_hide_an_absent_key(
    cluster: LocalCluster, mapping: EtcdMapping
) -> None:
    """With one member down, absent is still absent, told by the next one."""
    in_use(cluster, mapping).kill()
    with pytest.raises(KeyNotFound):
        mapping["absent"]
    assert mapping.get("absent", 5) == 5


# --- name servers -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["sockets", "requests"])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        pytest.param(lambda m: m["k"], "v", id="getitem"),
        pytest.param(lambda m: m.to_dict(), "v", id="to_dict"),
        pytest.param(lambda m: setitem(m, "k", "new"), "new", id="setitem"),
        pytest.param(lambda m: delitem(m, "k"), None, id="del"),
        pytest.param(lambda m: m.append("new"), "v", id="append"),
    ],
)
def test_name_server_that_hangs_is_not_waited_for(
    cluster: LocalCluster,
    prefix: str,
    call: Callable[[EtcdMapping], object],
    after: str | None,
    path: str,
) -> None:
    """The next endpoint is asked meanwhile: nothing was sent to the first."""
    with EtcdMapping(cluster.endpoints, prefix) as other:
        other["k"] = "v"
        port = cluster.endpoints[0].rpartition(":")[2]
        endpoints = [f"http://member.test:{port}", *cluster.endpoints[1:]]
        with contextlib.ExitStack() as stack:
            options: dict[str, Any] = {}
            if path == "requests":
                options["session"] = stack.enter_context(requests.Session())
                options["session"].trust_env = False
                stack.callback(join, "etcdmap-exchange")
            names = stack.enter_context(hanging_names())
            mapping = stack.enter_context(
                EtcdMapping(endpoints, prefix, shuffle=False, **options)
            )
            with Punctual(mapping.client.timeout - 1):
                call(mapping)
            assert names.asked
        assert other.using(consistency="linearizable").get("k") == after
