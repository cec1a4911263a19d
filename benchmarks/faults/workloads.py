"""What the clients under test do: loops of operations at a steady rate."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.faults.clients import Subject
from benchmarks.faults.judge.history import Kind, Level, Op, Recorder

#: The key that another process writes.
FOREIGN = "foreign"
OWN_KEYS = 5
SHARED_KEYS = ("shared0", "shared1", "shared2")

Stopped = Callable[[], bool]


class Seat(NamedTuple):
    """Where one thread sits: with which client, as which part of it."""

    subject: Subject
    recorder: Recorder
    client: str
    thread: int
    level: Level

    def do(
        self,
        kind: Kind,
        key: str,
        value: str | None = None,
        expected: str | None = None,
        call: Callable[[], str | None] | None = None,
    ) -> Op:
        """Call one operation and record it.

        Args:
            kind: which.
            key: on which key.
            value: what is written.
            expected: what a compare-and-swap compares with.
            call: what to call for it, if not the subject's method for this kind.
        """
        if call is None:
            call = self._call(kind, key, value or "", expected or "")
        template = self.template(kind, key, value, expected)
        return self.recorder.run(call, template, lambda: self.subject.pinned)

    def _call(
        self, kind: Kind, key: str, value: str, expected: str
    ) -> Callable[[], str | None]:
        subject = self.subject
        calls: dict[Kind, Callable[[], str | None]] = {
            "get": lambda: subject.get(key),
            "set": lambda: subject.set(key, value),
            "create": lambda: subject.create(key, value),
            "cas": lambda: subject.cas(key, expected, value),
            "delete": lambda: subject.delete(key),
            "append": lambda: subject.append(key, value),
            "mkdir": lambda: subject.mkdir(key),
        }
        return calls[kind]

    def template(
        self,
        kind: Kind,
        key: str,
        value: str | None = None,
        expected: str | None = None,
    ) -> Op:
        """Make the record of an operation that has not begun."""
        return Op(
            client=self.client,
            kind=kind,
            key=key,
            start=0.0,
            end=0.0,
            value=value,
            expected=expected,
            thread=self.thread,
            level=self.level,
        )

    def values(self) -> Iterator[str]:
        """Give values that nobody else writes."""
        return (f"{self.client}.{self.thread}.{n}" for n in itertools.count())

    def own_keys(self) -> list[str]:
        """Give the keys that only this thread writes."""
        return [f"{self.client}-{self.thread}-{n}" for n in range(OWN_KEYS)]


def pace(rate: float, stopped: Stopped) -> Iterator[int]:
    """Count up at a rate per second; what was missed is not made up for."""
    following = time.monotonic()
    for number in itertools.count():
        if stopped():
            return
        yield number
        now = time.monotonic()
        following = max(following + 1 / rate, now)
        time.sleep(following - now)


def next_tick(rate: float) -> float:
    """Tell when the next of the moments is that all processes know, by their clock."""
    return (time.monotonic() * rate // 1 + 1) / rate


def ticks(rate: float, stopped: Stopped) -> Iterator[int]:
    """Count up at moments that are the same in all processes."""
    for number in itertools.count():
        following = next_tick(rate)
        while (left := following - time.monotonic()) > 0.0:
            if stopped():
                return
            time.sleep(min(left, 0.1))
        yield number


def alternate(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Set an own key, read it; every third read is of the key others write."""
    keys = seat.own_keys()
    values = seat.values()
    for number in pace(rate, stopped):
        key = keys[number // 2 % len(keys)]
        if number % 2 == 0:
            seat.do("set", key, next(values))
        else:
            seat.do("get", FOREIGN if number % 6 == 5 else key)


def count(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Set one own key, again and again."""
    key, values = seat.own_keys()[0], seat.values()
    for _ in pace(rate, stopped):
        seat.do("set", key, next(values))


def read(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Read the keys of the client's first thread, and every other time the foreign."""
    keys = seat._replace(thread=0).own_keys()
    for number in pace(rate, stopped):
        seat.do("get", keys[number // 2 % len(keys)] if number % 2 else FOREIGN)


def contend(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Do everything to keys that other processes change as well."""
    rng = random.Random(f"{seat.client}.{seat.thread}")
    values = seat.values()
    known: dict[str, str | None] = dict.fromkeys(SHARED_KEYS)
    for _ in pace(rate, stopped):
        key = rng.choice(SHARED_KEYS)
        kind, expected = _choose(rng, known[key])
        value = next(values) if kind in ("set", "create", "cas") else None
        op = seat.do(kind, key, value, expected)
        if op.outcome == "ok":
            known[key] = op.value
        elif op.outcome == "refused":
            known[key] = seat.do("get", key).value


def _choose(rng: random.Random, known: str | None) -> tuple[Kind, str | None]:
    number = rng.random()
    if number < 0.45:
        return "get", None
    if number < 0.65:
        return "set", None
    if known is None:
        return "create", None
    return ("delete", None) if number > 0.92 else ("cas", known)
