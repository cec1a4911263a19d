"""Programs as people write them, that follow their config."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdmap import EtcdMapping, Event
from etcdmap.local import LocalCluster

pytestmark = pytest.mark.etcd


def soon(true: Callable[[], object], seconds: float = 20.0) -> bool:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


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


@contextlib.contextmanager
def gunicorn(directory: Path, preload: bool, env: dict[str, str]) -> Iterator[str]:
    """Run the app in four workers; give its URL."""
    (directory / "shop.py").write_text(_APP)
    command = [sys.executable, "-m", "gunicorn", "shop:app", "--workers=4"]
    command += ["--bind=127.0.0.1:0", "--log-level=info"]
    command += ["--preload"] if preload else []
    log = directory / "log"
    with log.open("wb") as out:
        path = os.pathsep.join([str(directory), *sys.path])
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **env, "PYTHONPATH": path},
            stdout=out,
            stderr=out,
        )
    try:
        assert soon(lambda: log.read_text().count("Booting worker") == 4, 20)
        line = next(x for x in log.read_text().splitlines() if "Listening at" in x)
        yield line.split("Listening at: ")[1].split()[0]
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("preload", [False, True])
def test_flask_under_gunicorn_shows_a_change(
    etcd: LocalCluster, mapping: EtcdMapping, tmp_path: Path, preload: bool
) -> None:
    """In all four workers, forked before or after the replica was made."""
    pytest.importorskip("gunicorn")
    pytest.importorskip("flask")
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

    with gunicorn(tmp_path, preload, env) as url:
        assert set(answers(url).values()) == {"hello"}
        mapping["greeting"] = "good evening"
        assert soon(lambda: set(answers(url).values()) == {"good evening"})
