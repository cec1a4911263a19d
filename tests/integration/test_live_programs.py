"""Programs as people write them, that follow their config."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event
from etcdmap.local import LocalCluster

from support.gunicorn import gunicorn
from support.waiting import soon

pytestmark = pytest.mark.etcd


def test_logging_levels_follow_the_config(mapping: EtcdMapping) -> None:
    """A subscriber with the present state first."""
    mapping["logging"] = {"etcdmap-test.a": "INFO", "etcdmap-test.b": "ERROR"}

    def set_level(event: Event) -> None:
        if event.key.startswith("logging/"):
            name = event.key.partition("/")[2]
            logging.getLogger(name).setLevel(event.value or logging.NOTSET)

    with mapping.live() as cfg:
        cfg.subscribe(set_level, "logging", initial=True)
        a, b = (logging.getLogger(f"etcdmap-test.{name}") for name in "ab")
        assert soon(lambda: (a.level, b.level) == (logging.INFO, logging.ERROR))
        mapping["logging/etcdmap-test.a"] = "DEBUG"
        del mapping["logging/etcdmap-test.b"]
        assert soon(lambda: (a.level, b.level) == (logging.DEBUG, logging.NOTSET))


def test_settings_are_read_again_on_a_change(mapping: EtcdMapping) -> None:
    """One reload for a burst of changes, of one moment's state."""
    settings = pytest.importorskip("pydantic_settings")

    class Settings(settings.BaseSettings):  # type: ignore[name-defined,misc]
        host: str
        port: int

    mapping.update({"host": "a", "port": 1})
    loaded: list[Any] = []
    with mapping.live() as cfg:

        def load(_: Event) -> None:
            settings = Settings(**cfg.snapshot().value)
            if not loaded or settings != loaded[-1]:
                loaded.append(settings)

        cfg.subscribe(load, initial=True, quiet=0.1)
        assert soon(lambda: loaded)
        mapping.update({"host": "b", "port": 2})
        assert soon(lambda: len(loaded) == 2)
        assert (loaded[0].host, loaded[0].port) == ("a", 1)
        assert (loaded[1].host, loaded[1].port) == ("b", 2)


def test_feature_flags_are_a_lookup(mapping: EtcdMapping) -> None:
    """A flag that is absent is off."""
    mapping["flags/new-checkout"] = True
    with mapping.live() as cfg:
        flags = cfg["flags"]
        assert flags.get("new-checkout", False)
        assert not flags.get("dark-mode", False)
        assert cfg.wait(mapping.set("flags/dark-mode", True))
        assert flags.get("dark-mode", False)


def test_asyncio_service_follows_without_blocking_its_loop(
    mapping: EtcdMapping,
) -> None:
    """The loop goes on while it waits, and while etcd is written."""
    mapping["n"] = 0

    async def serve() -> list[Any]:
        seen: list[Any] = []
        with mapping.live() as cfg:
            # It begins when the loop waits for a change, and so only if that goes on.
            writes = asyncio.create_task(asyncio.to_thread(write, mapping))
            async for event in cfg.changes("n"):
                seen.append(event.value)
                assert cfg["n"] >= event.value
                if event.value == 100:
                    break
            await writes
        return seen

    assert asyncio.run(serve()) == list(range(1, 101))


def write(mapping: EtcdMapping) -> None:
    """Count."""
    for number in range(1, 101):
        mapping["n"] = number


_APP = """
import os
from flask import Flask
from etcdmap import EtcdMapping

cfg = EtcdMapping(os.environ["TEST_ENDPOINT"], prefix=os.environ["TEST_PREFIX"]).live()
app = Flask(__name__)

@app.get("/")
def greeting():
    return f"{os.getpid()} {cfg['greeting']}"
"""


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_flask_under_gunicorn_shows_a_change(
    etcd: LocalCluster, mapping: EtcdMapping, tmp_path: Path, kind: str, preload: bool
) -> None:
    """In all four workers, forked before or after the replica was made."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    (tmp_path / "app.py").write_text(_APP)
    mapping["greeting"] = "hello"
    env = {"TEST_ENDPOINT": etcd.endpoints[0], "TEST_PREFIX": mapping.prefix}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(url: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for _ in range(200):
            with opener.open(url, timeout=5) as answer:
                pid, _, text = answer.read().decode().partition(" ")
            found[pid] = text
            if len(found) == 4:
                break
        return found

    options = [f"--worker-class={kind}", *(["--preload"] if preload else [])]
    with gunicorn(tmp_path, env, *options, workers=4) as url:
        assert set(answers(url).values()) == {"hello"}
        mapping["greeting"] = "good evening"
        assert soon(lambda: set(answers(url).values()) == {"good evening"})


_MULTIPROCESSING = """
import multiprocessing, sys, threading, time
from etcdmap import EtcdMapping

def until(mapping, wanted):
    with mapping.live() as live:
        end = time.monotonic() + 20
        while live.get("k") != wanted and time.monotonic() < end:
            time.sleep(0.001)
        return live.get("k")

def child(mapping, results):
    results.put(until(mapping, 2))

def forked(results):
    end = time.monotonic() + 20
    while inherited.get("k") != 2 and time.monotonic() < end:
        time.sleep(0.001)
    results.put(inherited.get("k"))

if __name__ == "__main__":
    method, endpoint, prefix = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mapping = EtcdMapping(endpoint, prefix=prefix)
    mapping["k"] = 1
    inherited = mapping.live()
    results = context.Queue()
    if method == "spawn":
        try:
            context.Process(target=until, args=(inherited, 1)).start()
        except TypeError as error:
            print(error)
    processes = [context.Process(target=child, args=(mapping, results))]
    if method == "fork":
        processes.append(context.Process(target=forked, args=(results,)))
    for process in processes:
        process.start()
    mapping["k"] = 2
    print([results.get(timeout=25) for _ in processes])
    for process in processes:
        process.join(20)
    print([process.exitcode for process in processes])
    assert inherited.wait(mapping.set("k", 3)) and inherited["k"] == 3
    with context.Pool(2) as pool:
        print(pool.starmap(until, [(mapping, 3)] * 2))
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_live_and_multiprocessing(
    etcd: LocalCluster, prefix: str, tmp_path: Path, method: str
) -> None:
    """A mapping goes to a process, and a replica is refused; a fork may go on."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not here")
    program = tmp_path / "program.py"
    program.write_text(_MULTIPROCESSING)
    done = run(program, method, etcd.endpoints[0], prefix)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    if method == "spawn":
        assert "Pass the EtcdMapping, and call live() there" in lines.pop(0)
    n = 1 if method == "spawn" else 2
    assert lines == [str([2] * n), str([0] * n), "[3, 3]"]


_ENDINGS = """
import asyncio, atexit, contextlib, sys, threading, time
from etcdmap import EtcdMapError, EtcdMapping

mapping = EtcdMapping(sys.argv[2], prefix=sys.argv[3])
live = mapping.live()
mapping["k"] = 1
assert live.wait()

def callback():
    begun = threading.Event()
    live.subscribe(lambda event: begun.set() or time.sleep(60))
    mapping["k"] = 2
    assert begun.wait(10)

def storm():
    def write():
        with contextlib.suppress(EtcdMapError):  # once all sockets were closed
            while True:
                mapping["k"] = 2
    threading.Thread(target=write, daemon=True).start()
    live.subscribe(lambda event: None)
    time.sleep(0.1)

def loop():
    thread = threading.Thread(target=list, args=(live.changes(),), daemon=True)
    thread.start()

def coroutine():
    async def main():
        try:
            await asyncio.wait_for(live.changes().__anext__(), 0.01)
        except asyncio.TimeoutError:
            pass
    asyncio.run(main())
    mapping["k"] = 2

def at_exit():
    atexit.register(lambda: (live["k"], live.wait(), live.close(), mapping.close()))

def closed_mapping():
    mapping.close()

{}()
"""


@pytest.mark.parametrize(
    "patch",
    ["", "from gevent import monkey; monkey.patch_all()"],
    ids=["plain", "gevent"],
)
@pytest.mark.parametrize(
    "how", ["callback", "storm", "loop", "coroutine", "at_exit", "closed_mapping"]
)
def test_interpreter_ends_whatever_a_replica_does(
    etcd: LocalCluster, prefix: str, tmp_path: Path, how: str, patch: str
) -> None:
    """At once, with code 0 and without a word; with gevent's threads, too."""
    if patch:
        pytest.importorskip("gevent")
    program = tmp_path / "program.py"
    program.write_text(f"{patch}\n{_ENDINGS.replace('{}', how)}")
    begun = time.monotonic()
    done = run(program, how, etcd.endpoints[0], prefix)
    assert time.monotonic() - begun < 15
    logged = "etcdmap: live replica" if how == "closed_mapping" else ""
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not logged or not line.startswith(logged)] == []


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    flags = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    return subprocess.run(
        [sys.executable, *flags, str(program), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
