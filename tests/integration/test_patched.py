"""Programs that replace Python's sockets and threads: gevent works, eventlet can't.

Each in a process of its own: what is patched stays patched.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.certificates import make_certificate
from support.servers import newest

TESTS = Path(__file__).parents[1]

START = """
from gevent import monkey; monkey.patch_all()
import sys; sys.path.insert(0, {tests!r})
import contextlib, threading, time
import gevent
from etcdmap import *
from etcdmap.local import LocalCluster
from support.fault_server import *

def took(call, *expected):
    began = time.monotonic()
    with gevent.Timeout(20, AssertionError("it hangs")):
        try:
            result = call()
        except expected as error:
            result = error
    return result, time.monotonic() - began
"""


def run(script: str) -> str:
    """Run a script in a fresh interpreter and return what it prints."""
    process = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "Traceback" not in process.stderr, process.stderr[-3000:]
    return process.stdout


def gevently(script: str, **values: str) -> str:
    """Run a script in a patched interpreter."""
    return run((START + script).format(tests=str(TESTS), **values))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_gevent_deadline_holds_on_a_kept_connection(
    certificate: Path, scheme: str
) -> None:
    """A member that is silent is left in time, though others run meanwhile."""
    gevently(
        """
from pathlib import Path
path = {certificate!r} if {scheme!r} == "https" else None
script = [answering(), answering(), READ, STALL]
with FaultServer(script, certificate=path and Path(path)) as server:
    options = dict(timeout=0.5, consistency="any")
    with EtcdMapping(server.url, "/app", verify=path or True, **options) as m:
        assert m["k"] == "v" and m["k"] == "v"
        assert server.connections == 1
        beats = []
        def beat():
            while True:
                beats.append(1); gevent.sleep(0.01)
        heart = gevent.spawn(beat)
        error, seconds = took(lambda: m["k"], EtcdMapError)
        heart.kill()
        assert isinstance(error, DeadlineExceeded), error
        assert 0.5 <= seconds < 0.7, seconds
        assert len(beats) > 20, "nothing else ran while it waited"
""",
        certificate=str(certificate),
        scheme=scheme,
    )


def test_gevent_leaves_a_paused_member() -> None:
    """Of a real cluster: reads and writes go on at another one, in time."""
    gevently(
        """
with LocalCluster(3, binary={binary!r}) as cluster:
    with EtcdMapping(cluster.endpoints, "/app", timeout=5) as m:
        m["k"] = 1
        for _ in range(5):
            assert m["k"] == 1
        leader = cluster.leader().endpoint
        m.client.pin(next(e for e in cluster.endpoints if e != leader))
        m["k"] = 2
        assert m["k"] == 2
        member = cluster.member(m.client.pinned)
        member.pause()
        for number in range(3, 6):
            def call():
                m["k"] = number
                return m["k"]
            value, seconds = took(call)
            assert value == number and seconds < 2.5, (value, seconds)
        m.sub("list").append("once")
        member.resume()
        assert m["k"] == 5
""",
        binary=str(newest()),
    )


def test_gevent_update_writes_in_threads() -> None:
    """What is written at once in threads is written in greenlets there."""
    gevently(
        """
with LocalCluster(1, binary={binary!r}) as cluster:
    with EtcdMapping(cluster.endpoints, "/app") as m:
        values = {{f"k{{n}}": n for n in range(100)}}
        _, seconds = took(lambda: m.update(values))
        assert m.to_dict() == values
        m.clear()
        assert m.to_dict() == {{}}
        jobs = [gevent.spawn(m.set, f"g{{n}}", n) for n in range(40)]
        gevent.joinall(jobs, timeout=10, raise_error=True)
        assert len(m) == 40
""",
        binary=str(newest()),
    )


def test_gevent_name_that_hangs_holds_up_no_deadline() -> None:
    """Look-ups are waited for beside others; a name that is known works."""
    gevently(
        """
import socket
real = socket.getaddrinfo
def slow(host, *args, **settings):
    if host == "slow.test" and not settings.get("flags", 0) & socket.AI_NUMERICHOST:
        gevent.sleep(5)
    return real(host, *args, **settings)
socket.getaddrinfo = slow
with FaultServer() as server:
    known = f"http://localhost:{{server.port}}"
    options = dict(shuffle=False, timeout=4, consistency="any")
    with EtcdMapping(["http://slow.test:1", known], "/app", **options) as m:
        value, seconds = took(lambda: m["k"])
        assert value == "v" and seconds < 1.5, seconds
    with EtcdMapping("http://slow.test:1", "/app", timeout=0.3) as m:
        error, seconds = took(lambda: m["k"], EtcdMapError)
        assert 0.3 <= seconds < 0.5, seconds
        for attempt in error.attempts:
            assert not attempt.sent
"""
    )


def test_gevent_session_and_close() -> None:
    """A requests.Session works as well, and close() ends what waits."""
    gevently(
        """
import requests
for kind in ("own", "session"):
    with FaultServer([answering(), answering(), READ, STALL]) as server:
        session = None
        if kind == "session":
            session = requests.Session(); session.trust_env = False
        options = dict(timeout=10, consistency="any", session=session)
        m = EtcdMapping(server.url, "/app", **options)
        assert m["k"] == "v" and m["k"] == "v"
        error, seconds = took(lambda: m.using(timeout=0.4)["k"], EtcdMapError)
        assert isinstance(error, DeadlineExceeded), error
        assert 0.4 <= seconds < 0.6, seconds
        m.close()
        if session is not None:
            session.close()
    with FaultServer([READ, STALL]) as server:
        m = EtcdMapping(server.url, "/app", timeout=10, fence=False)
        gevent.spawn_later(0.3, m.close)
        error, seconds = took(lambda: m.set("k", 1), EtcdMapError)
        assert isinstance(error, OutcomeUnknown), error
        assert seconds < 0.5, seconds
"""
    )


@pytest.mark.parametrize("how", ["mapping", "session", "client"])
def test_eventlet_is_refused_by_name(how: str) -> None:
    """No deadline would hold on its sockets, so there is no mapping at all."""
    made = {
        "mapping": "EtcdMapping('http://127.0.0.1:1')",
        "session": "EtcdMapping('http://127.0.0.1:1', session=requests.Session())",
        "client": "EtcdMapping.from_url('etcd://127.0.0.1:1/app')",
    }[how]
    said = run(
        f"""
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import requests
from etcdmap import EtcdMapping, EtcdMapError
try:
    {made}
except EtcdMapError as error:
    print(error)
"""
    )
    assert "eventlet" in said
    assert "gevent" in said


def test_eventlet_that_patches_nothing_is_no_matter() -> None:
    """Who only has it installed, or imported, can go on."""
    run(
        f"""
import warnings; warnings.simplefilter("ignore")
import sys; sys.path.insert(0, {str(TESTS)!r})
import eventlet, eventlet.patcher
from etcdmap import EtcdMapping
from support.fault_server import *
with FaultServer() as server:
    with EtcdMapping(server.url, "/app", consistency="any") as m:
        assert m["k"] == "v"
"""
    )
