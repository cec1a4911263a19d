"""No file descriptor to be had: an error of ours, and the next call works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from etcdmap.local import LocalCluster

resource = pytest.importorskip("resource", reason="this system has no such limits")

#: Tries calls with none and then more and more descriptors free; prints how they end.
SCRIPT = """
import gc, os, resource, sys, threading, warnings
from contextlib import ExitStack, contextmanager
import requests
from etcdmap import ClusterUnavailable, EtcdMapError, EtcdMapping

warnings.simplefilter("ignore", ResourceWarning)  # what urllib3 drops
url, prefix, way = sys.argv[1:]

@contextmanager
def only(free):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free):
        os.close(taken.pop())
    try:
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

def count():
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(10)  # one that was given up ends by its own deadline
    gc.collect()
    return len(os.listdir("/dev/fd"))

def attempt(call, free):
    with ExitStack() as stack:
        session = None
        if way == "session":
            session = stack.enter_context(requests.Session())
        mapping = stack.enter_context(EtcdMapping(url, prefix, session=session))
        error = None
        try:
            with only(free):
                call(mapping.using(timeout=0.1))
        except EtcdMapError as caught:
            error = caught
        call(mapping)  # the next one
        return error

many = {f"k{number}": number for number in range(12)}
calls = {
    "read": lambda m: m.get("k"),
    "write": lambda m: m.__setitem__("k", 1),
    "bulk": lambda m: m.update(many),
}
for call in calls.values():  # all that is imported later
    attempt(call, 40)
for name, call in calls.items():
    for free in range(5):
        before = count()
        error = attempt(call, free)
        assert count() <= before, (name, free)
        if not free:
            assert type(error) is ClusterUnavailable, error
            advice = "open files: close some, or raise the limit (ulimit -n)"
            assert advice in str(error)
            assert "check that etcd runs" not in str(error)
print("done")
"""


@pytest.mark.parametrize("way", ["wire", "session"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_file_is_an_error_of_ours_and_leaves_nothing(
    etcd: LocalCluster, prefix: str, host: str, way: str
) -> None:
    """Wherever the descriptors end: at a socket, a pair, or a name's look-up."""
    url = etcd.endpoints[0].replace("127.0.0.1", host)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url, prefix, way],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
