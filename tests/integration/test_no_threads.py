"""No thread to be had: at a limit of the system, or while the interpreter ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from etcdmap import ClusterUnavailable, EtcdMapping
from etcdmap.local import LocalCluster
from etcdmap.transport import Answer

from support.fault_server import FaultServer, refusing
from support.requests import Request
from support.sessions import OnSession
from support.transports import exchange

_start = threading.Thread.start
PUT: Request[Answer] = Request("PUT", "/v2/keys/k", lambda answer: answer, b"value=v")
MANY = {f"k{number}": number for number in range(40)}


class Starts:
    """Stands for `Thread.start`; some starts of the package's threads fail.

    Args:
        fails: the numbers of the starts that fail, from 0.
        late: whether it fails when the thread has been made, as it may near the end of
            the stack.
    """

    def __init__(self, fails: range, *, late: bool) -> None:
        self.count = self.failed = 0
        self._fails = fails
        self._late = late

    def __call__(self, thread: threading.Thread) -> None:
        """Start it, or fail as Python does."""
        if thread.name.startswith("etcdmap-"):
            self.count += 1
            if self.count - 1 in self._fails:
                self.failed += 1
                if self._late:
                    _start(thread)
                raise RuntimeError("can't start new thread")
        _start(thread)


@contextlib.contextmanager
def starting(fails: range, *, late: bool = False) -> Iterator[Starts]:
    """Have starts of threads fail in this block, which must leave none behind."""
    starts = Starts(fails, late=late)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: starts(thread))
        yield starts
    names = [thread.name for thread in threading.enumerate()]
    assert "etcdmap-write" not in names


@pytest.fixture
def by_name(etcd: LocalCluster) -> str:
    """Give an endpoint whose host is a name, which takes a thread to look up."""
    return etcd.endpoints[0].replace("127.0.0.1", "localhost")


@pytest.fixture(params=["wire", "session"])
def mapping(
    request: pytest.FixtureRequest, by_name: str, prefix: str
) -> Iterator[EtcdMapping]:
    """Give a mapping over each way, that has no connection yet."""
    with contextlib.ExitStack() as stack:
        session = None
        if request.param == "session":
            session = stack.enter_context(requests.Session())
        yield stack.enter_context(EtcdMapping(by_name, prefix, session=session))


ALL = range(10_000)
FAILS = {
    "every": ALL,
    **{f"number {number}": range(number, number + 1) for number in range(4)},
    **{f"all from {number}": ALL[number:] for number in range(1, 5)},
}
FAILING = pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS)


@FAILING
@pytest.mark.parametrize("late", [False, True])
def test_no_thread_all_is_done_all_the_same(
    mapping: EtcdMapping, fails: range, late: bool
) -> None:
    """By the caller, and each step of a bulk write just once."""
    progress: list[int] = []
    with starting(fails, late=late) as starts:
        mapping.merge(MANY, progress=lambda done, total: progress.append(done))
        assert mapping.to_dict() == MANY
        mapping["k0"] = "v"
        assert mapping["k0"] == "v"
    assert starts.failed
    assert progress == list(range(1, len(MANY) + 1))


def test_no_thread_bulk_write_tells_its_progress_as_it_goes(
    mapping: EtcdMapping,
) -> None:
    """So it can be interrupted, too."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with starting(ALL), pytest.raises(KeyboardInterrupt):
        mapping.merge(MANY, progress=interrupt)
    assert len(mapping) == 1


@pytest.mark.parametrize("late", [False, True])
def test_no_thread_request_leaves_once(late: bool) -> None:
    """Also where there was one after all."""
    with (
        FaultServer() as server,
        contextlib.closing(OnSession()) as transport,
        starting(ALL, late=late),
    ):
        for count in range(1, 30):
            assert exchange(transport, server.url, PUT, 5).status == 200
            assert len(server.requests) == count


def test_no_thread_as_its_start_is_interrupted_sends_nothing() -> None:
    """Nobody waits for the answer, or knows of the write."""
    made: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        made.append(thread)
        raise KeyboardInterrupt

    with (
        FaultServer() as server,
        contextlib.closing(OnSession()) as transport,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            transport.begin(server.url, PUT, 5)
        patch.undo()
        (thread,) = made
        thread.start()
        thread.join(10)
        assert not server.requests


def test_no_thread_error_says_what_is_wrong_and_not_that(prefix: str) -> None:
    """A caller that has no thread sees what a thread would have seen."""
    with (
        refusing() as url,
        requests.Session() as session,
        EtcdMapping(url, prefix, session=session, timeout=0.1) as mapping,
        starting(ALL),
        pytest.raises(ClusterUnavailable, match="nothing listens there") as caught,
    ):
        mapping["k"] = "v"
    assert "thread" not in str(caught.value)


AT_EXIT = """
import atexit, sys, requests
from etcdmap import EtcdMapping

def write(mapping, many):
    mapping["down"] = 1
    mapping.update(many)
    assert mapping.to_dict() == {"down": 1, **many}
    print("written", flush=True)

url, prefix = sys.argv[1:]
many = {f"k{number}": number for number in range(40)}
for way, session in ("wire", None), ("session", requests.Session()):
    mapping = EtcdMapping(url, f"{prefix}/{way}", session=session)
    atexit.register(write, mapping, many)
"""


def test_no_thread_at_exit_writes_all_the_same(by_name: str, prefix: str) -> None:
    """From Python 3.12 on, an interpreter that ends starts no thread."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, by_name, prefix],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["written"] * 2, done.stderr
