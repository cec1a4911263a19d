"""A subscriber that checks that nothing is lost, told twice, or told out of order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from etcdmap import EtcdMapError, Event

U = TypeVar("U", bound="UntilOver")


class Chain:
    """Holds what the events so far come to; each must fit what was there before.

    Attributes:
        content: the values by key.
        faults: the events that did not fit, with what was there.
        coalesced: how many events stood for what could not be told.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = dict(content)
        self.faults: list[tuple[Event, Any]] = []
        self.coalesced = 0
        self.count = 0
        self._index = 0
        self.told = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self.told:
            before = self.content.get(event.key)
            counts = isinstance(event.value, int) and isinstance(before, int)
            fits = event.previous == before and (
                # Counters grow by one; a write may have been sent again.
                event.coalesced or not counts or event.value - before in (0, 1)
            )
            if not fits or (event.index < self._index and not event.coalesced):
                self.faults.append((event, before))
            self._index = event.index
            self.coalesced += event.coalesced
            self.count += 1
            if event.action == "set":
                self.content[event.key] = event.value
            elif event.action in ("delete", "expire"):
                self.content.pop(event.key, None)
            self.told.notify_all()

    def wait(self, key: str, value: Any, timeout: float) -> bool:
        """Wait until a key was told to have a value."""
        with self.told:
            return self.told.wait_for(
                lambda: bool(self.content.get(key) == value), timeout
            )


class UntilOver:
    """Threads that work until the block ends.

    Args:
        works: what they do, until `over` is set.
    """

    def __init__(self, works: Iterable[Callable[[], object]]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self: U) -> U:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(20)


class Counters(UntilOver):
    """Threads that count in a key each, until the block ends.

    Attributes:
        last: the last number that was acknowledged, by key.
    """

    def __init__(self, mapping: Any, threads: int = 2, pause: float = 0.005) -> None:
        super().__init__(partial(self._count, f"counter-{n}") for n in range(threads))
        self.last: dict[str, int] = {}
        self._mapping = mapping
        self._pause = pause

    def _count(self, key: str) -> None:
        number = 0
        while not self.over.wait(self._pause):
            number += 1
            while not self.over.is_set():
                try:
                    self._mapping[key] = number
                    self.last[key] = number
                    break
                except EtcdMapError:
                    self.over.wait(0.02)
