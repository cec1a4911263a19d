"""The recipes for frameworks, run under the frameworks as an operator would."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from etcdmap import CompareFailed, EtcdMapping, Live
from etcdmap.local import LocalCluster

from support.gunicorn import gunicorn
from support.servers import binaries
from support.waiting import soon

DOCS = Path(__file__).resolve().parent.parent / "docs"
HOW_TO = DOCS / "how-to"
FILE = re.compile(r"^```python\n(# ([\w.]+\.py)\n.*?)^```$", re.M | re.S)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows."""
    for text, name in FILE.findall((HOW_TO / page).read_text()):
        (folder / name).write_text(text)


def run_until(page: Path, name: str) -> dict[str, Any]:
    """Run the examples of a page up to the one that defines a function."""
    names: dict[str, Any] = {}
    for source in FENCE.findall(page.read_text()):
        exec(source, names)  # noqa: S102
        if name in names:
            return names
    raise AssertionError(f"{page} has no {name}")


@pytest.fixture
def environment(etcd: LocalCluster) -> dict[str, str]:
    """Give the environment of a program that finds the cluster."""
    return {**os.environ, "ETCDMAP_URL": etcd.url()}


@pytest.fixture
def shop(etcd: LocalCluster) -> Iterator[EtcdMapping]:
    """Give the directory that the recipes read."""
    with EtcdMapping(etcd.endpoints, prefix="/shop") as mapping:
        yield mapping
        mapping.clear()


@pytest.mark.parametrize("options", [("--preload",), ("--threads", "4")])
def test_flask_application_answers_from_all_workers(
    shop: EtcdMapping, environment: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    """Before the fork or after it, in processes and threads, the mapping works."""
    write_files("flask.md", tmp_path)
    shop["greeting"] = "good morning"
    with gunicorn(tmp_path, environment, *options, workers=2) as address:
        answers = [requests.get(address, timeout=30).json() for _ in range(20)]
    assert answers == [{"greeting": "good morning"}] * 20


#: What a worker is told, for who asks; nothing in it reads the replica.
TELLING = """

import queue

told = queue.Queue()
now.subscribe(told.put, "greeting")


@service.get("/up")
def up():
    return {}


@service.get("/told")
def what_was_told():
    return {"value": told.get(timeout=20).value}
"""


@pytest.mark.parametrize("options", [("--preload",), ()])
def test_flask_worker_that_only_subscribes_is_told(
    shop: EtcdMapping, environment: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    """With the lines for gunicorn, whatever was forked after the replica was made."""
    write_files("flask.md", tmp_path)
    with (tmp_path / "service.py").open("a") as file:
        file.write(TELLING)
    with gunicorn(tmp_path, environment, *options, app="service:service") as address:
        # With this answer the worker is there, and has the replica.
        assert requests.get(f"{address}/up", timeout=30).json() == {}
        shop["greeting"] = "good evening"
        answer = requests.get(f"{address}/told", timeout=30)
    assert answer.json() == {"value": "good evening"}


@pytest.mark.parametrize("options", [("--preload",), ("--threads", "4")])
def test_flask_application_reloads_its_settings(
    shop: EtcdMapping, environment: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    """Each worker, wherever its replica was made; what was deleted goes, too."""
    write_files("flask.md", tmp_path)
    with gunicorn(
        tmp_path, environment, *options, workers=2, app="reloading:app"
    ) as address:

        def seen(title: str, banner: str | None) -> bool:
            answers = [requests.get(f"{address}/config", timeout=30) for _ in range(20)]
            told = {"TITLE": title, "BANNER": banner}
            return all(answer.json() == told for answer in answers)

        assert seen("Shop", None)
        shop.update(TITLE="Sale", BANNER="-20 %")
        assert soon(lambda: seen("Sale", "-20 %"))
        shop.clear()
        assert soon(lambda: seen("Shop", None))


def test_flask_application_in_an_outage(
    etcd_version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache and the replica answer; what needs a request waits, and is a 503."""
    pytest.importorskip("flask")
    write_files("flask.md", tmp_path)
    with LocalCluster(binary=binaries()[etcd_version]) as cluster:
        monkeypatch.setenv("ETCDMAP_URL", cluster.url())
        names = runpy.run_path(str(tmp_path / "app.py"))
        live = runpy.run_path(str(tmp_path / "service.py"))
        with names["cfg"] as cfg, live["now"] as now:
            page, service = (
                app.test_client() for app in (names["app"], live["service"])
            )
            with EtcdMapping(cluster.endpoints, prefix="/shop") as shop:
                index = shop.set("greeting", "good morning")
            assert now.wait(index)
            assert page.get("/").status_code == page.get("/db").status_code == 200
            cluster.members[0].kill()
            assert page.get("/").json == {"greeting": "good morning"}
            began = time.monotonic()
            assert page.get("/db").status_code == 503
            assert 1.5 < time.monotonic() - began < 4
            cfg.cache_clear()
            assert page.get("/").status_code == 503
            assert service.get("/").json == {"greeting": "good morning"}


@pytest.mark.parametrize("options", [("--preload", "app:app"), ("service:service",)])
def test_gunicorn_ends_if_etcd_is_down_when_it_starts(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Before the fork or after it, the import fails."""
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    write_files("flask.md", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", *options],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "ETCDMAP_URL": "etcd://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode
    assert "ClusterUnavailable" in done.stderr


def test_flask_application_is_tested_as_its_page_says(
    etcd_version: str, tmp_path: Path
) -> None:
    """Each test has an empty directory and an application of its own."""
    pytest.importorskip("flask")
    write_files("flask.md", tmp_path)
    command = [sys.executable, "-m", "pytest", "-p", "etcdmap.pytest_plugin"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_app.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "ETCDMAP_ETCD": str(binaries()[etcd_version]),
        },
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("page", ["explanation/cache.md", "how-to/django.md"])
def test_flag_has_its_default_a_second_after_etcd_went_away(
    etcd_version: str, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache has is shown at once; then each call waits as the page says."""
    with LocalCluster(binary=binaries()[etcd_version]) as cluster:
        monkeypatch.setenv("ETCDMAP_URL", cluster.url())
        names = run_until(DOCS / page, "enabled")
        enabled, flags = names["enabled"], names["flags"]
        with EtcdMapping(cluster.endpoints, prefix=flags.prefix) as owner, flags:
            owner["new"] = True
            assert enabled("new")
            cluster.members[0].kill()
            assert enabled("new")
            flags.cache_clear()
            for _ in range(2):
                began = time.monotonic()
                assert enabled("new", "default") == "default"
                assert 0.5 < time.monotonic() - began < 3


def test_heartbeat_refuses_a_value_that_would_be_a_directory(
    shop: EtcdMapping, etcd: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where etcd can't renew it; a dict in a list is a value like any other."""
    monkeypatch.setenv("ETCDMAP_URL", etcd.url())
    names = run_until(HOW_TO / "heartbeats.md", "beat")
    with names["cfg"]:
        with pytest.raises(TypeError, match="must not be a dict"):
            names["beat"]("a", {"pid": 1}, 10)
        assert "workers" not in shop
        for _ in range(2):
            names["beat"]("a", [{"pid": 1}], 10)
        assert shop["workers/a"] == [{"pid": 1}]


def test_yaml_loader_shows_what_it_changes(
    environment: dict[str, str], etcd: LocalCluster, tmp_path: Path
) -> None:
    """A dry run writes nothing, and what can't be stored is named."""
    pytest.importorskip("yaml")
    write_files("use-as-a-config-dict.md", tmp_path)
    file = tmp_path / "app.yaml"

    def load(text: str, *options: str) -> str:
        file.write_text(text)
        done = subprocess.run(
            [sys.executable, "load_yaml.py", *options, file.name],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (1 if done.stderr else 0), done.stderr
        return done.stdout + done.stderr

    with EtcdMapping(etcd.endpoints, prefix="/app") as cfg:
        cfg.clear()
        assert load("web: {port: 80}", "--dry-run") == "+ web/port: 80\n"
        assert not cfg
        assert load("web: {port: 80}") == "+ web/port: 80\n"
        assert load("web: {port: 80}") == "no differences\n"
        told = load("8080: web\non: push")
        assert told.startswith("app.yaml: 2 keys or values can't be stored")
        assert "/app/True: keys are str, not bool" in told
        assert cfg == {"web": {"port": 80}}
        cfg.clear()


def test_logging_levels_follow_the_config(
    etcd: LocalCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A level in small letters is one; what is none is named, and changes nothing."""
    monkeypatch.setenv("ETCDMAP_URL", etcd.url())
    monkeypatch.chdir(tmp_path)
    names = run_until(HOW_TO / "react-to-changes.md", "set_level")
    logger = logging.getLogger("shop.db")
    logger.setLevel(logging.ERROR)
    with names["cfg"], names["stored"] as stored, stored.live() as names["levels"]:
        names["levels"].subscribe(names["notice"])
        stored["shop.db"] = "info"
        assert soon(lambda: logger.level == logging.INFO)
        for wrong in ["LOUD", 10, {"a": "INFO"}]:
            caplog.clear()
            stored["shop.db"] = wrong
            assert soon(lambda: "the key shop.db of /levels" in caplog.text)
            assert logger.level == logging.INFO
        del stored["shop.db"]
        assert soon(lambda: logger.level == logging.ERROR)
        stored.clear()
    logger.setLevel(logging.NOTSET)


def test_coroutine_reloads_once_for_many_changes(
    etcd: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each, although all are there in the end."""
    monkeypatch.setenv("ETCDMAP_URL", etcd.url())
    names = run_until(HOW_TO / "asyncio.md", "reload_when_changed")
    loaded: list[Any] = []

    async def serve() -> None:
        with await asyncio.to_thread(cfg.live) as now:
            task = asyncio.create_task(names["reload_when_changed"](now, loaded.append))
            for number in range(1, 101):
                await asyncio.to_thread(cfg.set, "n", number)
            while not loaded or loaded[-1]["n"] != 100:
                await asyncio.sleep(0.01)
            task.cancel()

    with names["cfg"] as cfg:
        asyncio.run(asyncio.wait_for(serve(), 30))
        cfg.clear()
    assert len(loaded) < 20


SIGNATURE = re.compile(r"^\| `(?:cfg|now)\.(\w+)(\(.*?\))`", re.M)


def test_page_about_changes_shows_the_arguments_of_each_method() -> None:
    """As they are, in the order of the page; for whoever sees no signatures in api."""
    shown = SIGNATURE.findall((HOW_TO / "react-to-changes.md").read_text())
    assert [name for name, _ in shown] == [
        "live",
        "wait",
        "subscribe",
        "subscribe_state",
        "changes",
        "watch",
    ]
    for name, arguments in shown:
        method = getattr(EtcdMapping if name in ("live", "watch") else Live, name)
        signature = inspect.signature(method)
        given = [
            each.replace(annotation=each.empty)
            for each in list(signature.parameters.values())[1:]
        ]
        assert arguments == str(inspect.Signature(given))


def test_django_takes_the_settings(
    shop: EtcdMapping, environment: dict[str, str], tmp_path: Path
) -> None:
    """Django's own check passes, uses the database, and writes nothing into etcd."""
    pytest.importorskip("django")
    write_files("django.md", tmp_path)
    stored = {
        "ALLOWED_HOSTS": ["shop.example"],
        "DATABASES": {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        },
        "DEBUG": False,
        "SECRET_KEY": "made-up",
    }
    shop["settings"] = stored
    code = (
        "import django; django.setup()\n"
        "from django.db import connection; connection.ensure_connection()\n"
        "from django.conf import settings; print(settings.ALLOWED_HOSTS)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "DJANGO_SETTINGS_MODULE": "settings"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "['shop.example']\n"), done.stderr
    assert shop["settings"] == stored


def test_holder_that_was_stopped_notices_that_another_took_its_place(
    shop: EtcdMapping, environment: dict[str, str], tmp_path: Path
) -> None:
    """The program of the page, twice; who goes on after a pause has lost the key."""
    write_files("heartbeats.md", tmp_path)
    program = tmp_path / "place.py"
    program.write_text(program.read_text().replace("ttl: float = 10", "ttl: float = 2"))
    with ExitStack() as stack:

        def start(name: str) -> subprocess.Popen[str]:
            command = [sys.executable, str(program), name]
            process = subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        def told(process: subprocess.Popen[str]) -> str:
            assert process.stderr is not None
            return process.stderr.readline()

        first = start("host-a:1")
        assert told(first) == "host-a:1 holds leader\n"
        second = start("host-b:2")
        first.send_signal(signal.SIGSTOP)
        assert told(second) == "host-b:2 holds leader\n"
        first.send_signal(signal.SIGCONT)
        assert told(first) == "host-a:1 lost leader\n"
        # Not SIGINT, which is ignored where the tests run in the background.
        second.kill()
        # It still runs, and takes the place when that is free.
        assert told(first) == "host-a:1 holds leader\n"
        assert shop["leader"] == "host-a:1"


def test_late_copy_of_a_renewal_has_no_effect(
    shop: EtcdMapping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would bring back the time of expiry that the copy was sent with."""
    write_files("heartbeats.md", tmp_path)
    place = runpy.run_path(str(tmp_path / "place.py"))["Place"]
    sent: list[tuple[str, dict[str, Any]]] = []
    keys, renew = shop.keys_api, shop.keys_api.set

    def note(path: str, **options: Any) -> Any:
        sent.append((path, options))
        return renew(path, **options)

    monkeypatch.setattr(keys, "set", note)
    monkeypatch.setattr(type(shop), "keys_api", property(lambda self: keys))
    held = place(shop, "leader", "host-a:1", ttl=100.0)
    assert held.acquire()
    assert held.renew()
    path, options = sent[0]
    with pytest.raises(CompareFailed):
        renew(path, **{**options, "ttl": 1})
    assert (shop.ttl("leader") or 0) > 90
    held.release()
