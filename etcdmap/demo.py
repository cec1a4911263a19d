"""The demo: a dict on three etcd members, two of them killed, and what that costs.

Nothing in it is staged: the members are processes, and each figure is measured.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etcdmap.connecting import make_client
from etcdmap.errors import EtcdMapError
from etcdmap.local import LocalCluster, Member
from etcdmap.local.probe import moments
from etcdmap.mapping import EtcdMapping
from etcdmap.transport import WireTransport

SERVICES = ("auth", "billing", "catalog", "gateway", "mail", "search", "shop", "users")
FLAGS = 1000

#: Calls that a loop makes before a kill, and again once there is a leader after it.
CALLS = 300
#: Seconds within which it should have made them; an election takes 1 to 2.
_PATIENCE = 20.0


class Counter(WireTransport):
    """A transport that counts its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self._lock = threading.Lock()  # `update` sends from several threads

    def begin(self, *arguments: Any) -> Any:
        """See `Transport.begin`."""
        with self._lock:
            self.requests += 1
        return super().begin(*arguments)


def run_demo(binary: str | os.PathLike[str] | None = None) -> None:
    """Run all steps against a cluster of its own and print them."""
    print(
        "A dict in a real etcd cluster of three members.  Two of them will be killed."
    )
    print("The demo takes about five seconds, and leaves nothing behind.\n")
    counter = Counter()
    _show("Starting the members ...")
    began = time.perf_counter()
    with LocalCluster(members=3, binary=binary) as cluster:
        print(f" etcd {cluster.version}, {time.perf_counter() - began:.1f} s\n")
        # The first to be killed shall be a follower, and the one in use.
        urls = sorted(cluster.endpoints, key=cluster.leader().endpoint.__eq__)
        with make_client(urls, counter, shuffle=False) as client:
            config = EtcdMapping(client=client, prefix="/demo")
            _use(config, _Steps(counter))
            _draw_one(config)
            _kill_two(config, cluster)
    _tell_what_next()


def _use(config: EtcdMapping, steps: _Steps) -> None:
    original = example_config()
    services, flags = config.sub("services"), config.sub("flags")
    with steps.step("config['services'] = a nested dict") as note:
        config["services"] = original
        note(f"{_count(original)} values")
    with steps.step("config['services'] = the same dict"):
        config["services"] = original
    with steps.step("a loop over config['services'].items()") as note:
        note(f"{sum(1 for _ in services.items())} directories")
    with steps.step(f"config['flags'].update({FLAGS} keys)"):
        flags.update({f"flag-{n:03}": n % 3 == 0 for n in range(FLAGS)})
    with steps.step("config.to_dict()") as note:
        note(f"{_count(config.to_dict())} values")
    print(
        "\nA write takes one request to read what is there, and one for each value or"
    )
    print("empty dict that differs.  Each new connection takes one request more.\n")


def _kill_two(config: EtcdMapping, cluster: LocalCluster) -> None:
    print("Now one thread writes config['written'], and another thread reads it, both")
    print("without a pause, while a member is killed with SIGKILL.\n")
    print(f"{'':<28}{'':>8}{'':>8}{'longest time without an answer':>34}")
    print(f"{'killed':<28}{'calls':>8}{'failed':>8}{'writes':>20}{'reads':>14}")
    follower = cluster.member(config.client.pinned)
    failed = _kill(config, cluster, follower)
    _show(f"{follower.name} is started again ...")
    follower.restart()
    print(" healthy")
    failed += _kill(config, cluster, cluster.leader())
    print(f"{cluster.leader().name} is the new leader.\n")
    print(f"{failed} calls failed.  With config['written'], ", end="")
    print(f"{_count(config.to_dict())} values are there.\n")


def _kill(config: EtcdMapping, cluster: LocalCluster, victim: Member) -> int:
    """Kill a member while two loops run, and return how many calls failed."""
    role = "the leader" if victim == cluster.leader() else "a follower"
    use = "in use" if config.client.pinned == victim.endpoint else "not in use"
    _show(f"{f'{victim.name}, {role}, {use}':<28}")
    loops = _Writes(config), _Reads(config)
    try:
        _wait_for_calls(loops)
        victim.kill()
        cluster.leader()  # waits for an election
        _wait_for_calls(loops)
    finally:
        for loop in loops:
            loop.stop()
    calls, failed = sum(x.calls for x in loops), sum(x.failed for x in loops)
    writes, reads = (f"{loop.gap:.3f} s" for loop in loops)
    print(f"{calls:>8}{failed:>8}{writes:>20}{reads:>14}", flush=True)
    return failed


def _wait_for_calls(loops: tuple[_Loop, ...]) -> None:
    goals = [loop.calls + CALLS for loop in loops]
    for _ in moments(_PATIENCE):
        if all(loop.calls >= goal for loop, goal in zip(loops, goals, strict=True)):
            return


class _Loop:
    """Makes calls in a thread of its own, from now until `stop`.

    Attributes:
        calls: how many it made.
        failed: how many of them ended with an error, or read what was not so.
        gap: the longest time from one that ended well to the next, in seconds.
    """

    def __init__(self, config: EtcdMapping) -> None:
        self.calls, self.failed, self.gap = 0, 0, 0.0
        self._config = config
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the call that is under way be the last."""
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        good = time.perf_counter()
        while not self._stopped:
            try:
                well = self._call()
            except (EtcdMapError, KeyError):
                well = False
            now = time.perf_counter()
            self.gap = max(self.gap, now - good)
            good = now if well else good
            self.failed += not well
            self.calls += 1

    def _call(self) -> bool:
        """Make a call, and return whether all was well."""
        raise NotImplementedError


class _Writes(_Loop):
    def _call(self) -> bool:
        self._config["written"] = time.monotonic()
        return True


class _Reads(_Loop):
    _newest = 0.0

    def _call(self) -> bool:
        last, self._newest = self._newest, self._config.get("written", 0.0)
        return self._newest >= last  # never back in time


def example_config() -> dict[str, Any]:
    """Make a config of a few hundred keys such as a dozen services would share."""
    return {
        name: {
            "replicas": 2 + place % 3,
            "image": f"registry.example/{name}:1.{place}0",
            "limits": {"cpu": 0.5 + place / 4, "memory": f"{256 * (place + 1)}Mi"},
            "database": {
                "host": f"db-{place % 3}.example",
                "port": 5432,
                "pool": {"min": 1, "max": 10 + place, "timeout": 2.5},
            },
            "features": {f"feature-{n:02}": (n + place) % 2 == 0 for n in range(20)},
            "peers": [other for other in SERVICES if other != name],
            "routes": {f"v{n}": f"/api/v{n}/{name}" for n in range(1, 6)},
            "overrides": {},
        }
        for place, name in enumerate(SERVICES)
    }


def _count(tree: Mapping[str, Any]) -> int:
    return sum(_count(v) if isinstance(v, Mapping) else 1 for v in tree.values())


def _draw_one(config: EtcdMapping) -> None:
    print(f"{config.prefix}/services/{SERVICES[0]}, a few keys of each directory:\n")
    print("\n".join(_draw(config["services"][SERVICES[0]].to_dict())) + "\n")


def _draw(tree: Mapping[str, Any], indent: str = "  ", most: int = 3) -> Iterator[str]:
    for name, value in list(tree.items())[:most]:
        if isinstance(value, Mapping):
            yield f"{indent}{name}/"
            yield from _draw(value, indent + "  ", most)
        else:
            yield f"{indent}{name} = {value!r}"
    if len(tree) > most:
        yield f"{indent}... and {len(tree) - most} more"


def _tell_what_next() -> None:
    absolute = sys.executable
    python = min(absolute, os.path.relpath(absolute, Path.cwd()), key=len)
    print("Next, start a cluster to play with, and follow the ten-minute tutorial:\n")
    print(f"  {python} -m etcdmap serve --members 3")
    print("  docs/tutorial/first-mapping.md")


def _show(text: str) -> None:
    """Print what is going on now; the rest of the line tells what came of it."""
    print(text, end="", flush=True)


class _Steps:
    """Prints a line for each step: its cost, its time, what came of it."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        print(f"{'step':<42}{'requests':>9}{'seconds':>9}")

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the function given adds a remark to its line."""
        remarks: list[str] = []
        _show(f"{title:<42}")
        before = self._counter.requests
        began = time.perf_counter()
        yield remarks.append
        seconds = time.perf_counter() - began
        requests = self._counter.requests - before
        print("  ".join([f"{requests:>9}{seconds:>9.2f}", *remarks]), flush=True)
