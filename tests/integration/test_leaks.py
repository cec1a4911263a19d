"""Nothing is left of a mapping: no thread, no socket, no file."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapError, EtcdMapping
from etcdmap.client.endpoint_health import Policy
from etcdmap.local import LocalCluster

from support.fault_server import (
    READ,
    RESET,
    STALL,
    WORKING,
    FaultServer,
    refusing,
)
from support.servers import newest

_FDS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
#: Seconds after which a test that hangs is given up.
PATIENCE = 15.0


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """Give a real member that works, of the newest etcd at hand."""
    with LocalCluster(1, binary=newest(), fsync=False) as cluster:
        yield cluster.endpoints[0]


Connect = Callable[..., contextlib.AbstractContextManager[EtcdMapping]]


@pytest.fixture(params=["wire", "session"])
def connect(request: pytest.FixtureRequest, prefix: str) -> Connect:
    """Give a function that makes a mapping for a block, over each way."""

    @contextlib.contextmanager
    def connect(*endpoints: str, **options: Any) -> Iterator[EtcdMapping]:
        with contextlib.ExitStack() as stack:
            if request.param == "session":
                options["session"] = stack.enter_context(requests.Session())
                options["session"].trust_env = False
            yield stack.enter_context(
                EtcdMapping(endpoints, prefix, shuffle=False, **options)
            )

    return connect


def open_files() -> int:
    """Count the open files of this process, sockets included."""
    return len(os.listdir(_FDS))


class Before:
    """What there was at a moment."""

    def __init__(self) -> None:
        collect()
        self.files = open_files()
        self.threads = set(threading.enumerate())

    def check(self, more: int = 0) -> None:
        """Wait until there is no more than that, and fail if there always is.

        A thread of an exchange over requests that was given up ends by its own
        deadline, since nothing can interrupt it.
        """
        until = time.monotonic() + PATIENCE
        for thread in set(threading.enumerate()) - self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        assert set(threading.enumerate()) <= self.threads
        collect()
        assert open_files() <= self.files + more


def collect() -> None:
    """Free what urllib3 drops unclosed when an exchange fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def in_threads(work: Callable[[], object], count: int = 8) -> None:
    """Do something in several threads at a time."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run() -> None:
        try:
            start.wait(PATIENCE)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors


# --- after close() --------------------------------------------------------------


def test_close_after_use_by_threads_leaves_nothing(connect: Connect, good: str) -> None:
    """As many sockets as there were requests at once, and none afterwards."""
    before = Before()
    with connect(good) as mapping:
        mapping["k"] = "v"
        in_threads(lambda: [mapping["k"] for _ in range(20)])
    before.check()


def test_close_after_bulk_writes_leaves_nothing(connect: Connect, good: str) -> None:
    """Many keys are sent by threads, which end with the call."""
    before = Before()
    with connect(good) as mapping:
        mapping.update({f"k{number}": number for number in range(100)})
        before.check(more=40)  # idle connections
        mapping.clear()
    before.check()


def test_close_during_calls_leaves_nothing(connect: Connect) -> None:
    """What is under way ends as it would, and its connection with it."""
    before = Before()
    with FaultServer([READ, STALL]) as server:
        with connect(server.url, timeout=0.5) as mapping:
            threads = [
                threading.Thread(target=lambda: mapping.get("k")) for _ in range(4)
            ]
            with ignored_errors_of_threads():
                for thread in threads:
                    thread.start()
                server.wait_for(lambda s: len(s.requests) == 4)
                mapping.close()
                for thread in threads:
                    thread.join(PATIENCE)
        server.wait_for(lambda s: len(s.ended) == s.connections)
    before.check()


@contextlib.contextmanager
def ignored_errors_of_threads() -> Iterator[None]:
    """Let threads end by an error of ours without a word."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, EtcdMapError):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def test_dropped_without_close_leaves_no_thread(good: str, prefix: str) -> None:
    """Who forgets close() has sockets to collect, but nothing that runs."""
    threads = set(threading.enumerate())
    mapping = EtcdMapping(good, prefix, auto_sync=0.001)
    mapping["k"] = "v"
    in_threads(lambda: mapping["k"])
    assert set(threading.enumerate()) == threads
    mapping.close()


# --- after failovers --------------------------------------------------------------


def test_thousand_failovers_leave_nothing(connect: Connect, good: str) -> None:
    """Half of them from a member that refuses, half from one that resets."""
    before = Before()
    with (
        refusing() as refused,
        FaultServer([READ, RESET]) as resetting,
        connect(refused, resetting.url, good) as mapping,
    ):
        mapping["k"] = "v"
        for number in range(1000):
            mapping.client.pin((refused, resetting.url)[number % 2])
            assert mapping["k"] == "v"
        assert resetting.connections >= 450
        collect()
        # The socket that is held, the server's three, a few idle connections.
        assert open_files() <= before.files + 12
    before.check()


def test_hedged_calls_leave_nothing(connect: Connect, good: str) -> None:
    """The attempts that were overtaken are given up, and their connections closed."""
    before = Before()
    hasty = Policy(first_delay=0.005, read_floor=0.005, again=0.02)
    with FaultServer([READ, STALL]) as silent:
        with connect(silent.url, good, policy=hasty, consistency="any") as mapping:
            mapping.client.pin(good)
            mapping["k"] = "v"
            for _ in range(40):
                mapping.client.pin(silent.url)
                assert mapping["k"] == "v"
            assert silent.connections >= 20
        silent.wait_for(lambda s: len(s.ended) == s.connections)
    before.check()


def test_failed_calls_leave_nothing(connect: Connect) -> None:
    """Where nobody answers, nothing piles up either."""
    before = Before()
    with (
        refusing() as refused,
        FaultServer([READ, RESET]) as resetting,
        connect(refused, resetting.url, timeout=0.01) as mapping,
    ):
        for _ in range(50):
            with pytest.raises(EtcdMapError):
                mapping["k"]
            with pytest.raises(EtcdMapError):
                mapping["k"] = "v"
        collect()
        assert open_files() <= before.files + 12
    before.check()


def test_errors_that_are_kept_hold_no_sockets(prefix: str) -> None:
    """A log of errors is no store of connections."""
    before = Before()
    errors: list[EtcdMapError] = []
    with FaultServer([READ, STALL]) as silent:
        with EtcdMapping(silent.url, prefix, timeout=0.01) as mapping:
            for _ in range(50):
                with pytest.raises(EtcdMapError) as caught:
                    mapping["k"]
                errors.append(caught.value)
        silent.wait_for(lambda s: len(s.ended) == s.connections)
    before.check()
    assert len(errors) == 50


# --- after a fork -------------------------------------------------------------------


class Child:
    """A forked child; it ends with the block.

    Args:
        work: what it does; it is to end without an error.  It gets a function that
            waits until the parent is at the end of the block.
    """

    def __init__(self, work: Callable[[Callable[[], object]], object]) -> None:
        end, self._hold = os.pipe()
        with warnings.catch_warnings():
            # Python warns of threads at a fork; that is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid:
            os.close(end)
            return
        code = 1
        try:
            os.close(self._hold)
            work(lambda: os.read(end, 1))
            code = 0
        finally:
            os._exit(code)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._hold)
        status = os.waitpid(self._pid, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0, "the child failed"


def test_fork_child_uses_it_and_exits_parent_goes_on(
    connect: Connect, good: str
) -> None:
    """Neither sees the other's answers, and nothing is left in either."""
    before = Before()
    with connect(good) as mapping:
        mapping["k"] = "v"

        def use(_: object) -> None:
            mapping["child"] = 1
            assert mapping["k"] == "v"

        for _ in range(5):
            with Child(use):
                mapping["parent"] = 2
                assert mapping["k"] == "v"
        assert mapping.to_dict() == {"child": 1, "k": "v", "parent": 2}
    before.check()


def test_fork_child_has_none_of_the_parents_connections(
    connect: Connect, good: str
) -> None:
    """After close() in the child it has what there was before the mapping."""
    before = Before()
    with connect(good) as mapping:
        mapping["k"] = "v"
        in_threads(lambda: mapping["k"])

        def use(_: object) -> None:
            assert mapping["k"] == "v"
            mapping.close()
            collect()
            # The pipe; and a session keeps its connection until its owner closes it.
            kept = 1 + hasattr(mapping.client.transport, "inner")
            assert open_files() <= before.files + kept

        with Child(use):
            pass
        assert mapping["k"] == "v"


def test_fork_living_child_keeps_no_connection_of_the_parent_open(prefix: str) -> None:
    """When the parent closes, the member sees the end, though the child lives."""
    with FaultServer(WORKING) as server, EtcdMapping(server.url, prefix) as mapping:
        assert mapping["k"] == "v"
        with Child(lambda until_the_end: until_the_end()):
            mapping.close()
            server.wait_for(lambda s: len(s.ended) == s.connections)


UNCLOSED = """
import gc, sys
from etcdmap import EtcdMapping

def use():
    mapping = EtcdMapping(sys.argv[1], sys.argv[2])
    mapping.update({f"k{n}": n for n in range(40)})  # by many connections
    return mapping

use()
gc.collect()
left = use()
"""


def test_mapping_that_nobody_closes_warns_of_no_socket(good: str, prefix: str) -> None:
    """Neither when it is dropped nor at the end: its user knows of no socket."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", UNCLOSED, good, prefix],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
