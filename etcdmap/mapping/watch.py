"""`EtcdMapping.watch`: the changes of a key, or of all below it, one by one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from etcdmap.client import positive_seconds
from etcdmap.codecs import decode_node
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.handle import View
from etcdmap.mapping.replica import State, after
from etcdmap.marks import alters_data
from etcdmap.tree import Event


class Watch(Iterator[Event]):
    """An iterator over events, and a context manager; `EtcdMapping.watch` makes it.

    One thread loops over it; any thread may `close` it.  Nothing is followed while
    nobody waits: a loop that stays away for more than 1,000 changes of the cluster
    misses some, and is told.
    """

    def __init__(
        self, view: View, path: str | None, start: int | None, timeout: float | None
    ) -> None:
        self._view = view
        self._timeout = math.inf
        if timeout is not None:
            self._timeout = positive_seconds("timeout", timeout)
        if start is not None and type(start) is not int:
            raise TypeError(f"after is an int, not {type(start).__name__}")
        if start is not None and start < 0:
            raise ValueError(f"after is the index of the store, not {start!r}")
        where = view.root if path is None else path
        self._follower = view.store.follower(
            where, of_directory=path is None, after=start
        )
        self._closed = False
        self._events: deque[Event] = deque()
        if start is None:
            reading = self._follower.read()
            self._state = State(where, reading.root, reading.index)
        else:
            self._state = State(where, None, start, whole=False)

    @property
    def index(self) -> int:
        """The index to resume from; all changes up to it were returned.

        As ``after`` of another watch it goes on from here, in another process too.
        """
        if self._events:
            return self._events[0].index - 1
        return self._follower.settled

    def __next__(self) -> Event:
        """Wait for the next change.

        Raises:
            StopIteration: nothing came within ``timeout``, or it was closed.
            WatchExpired: what happened after `index` is not known any more.
            Unauthorized, WrongCluster, ClientClosed: nor will that pass by itself.
            DecodeError: the codec can't read a text; the next call goes on behind it.
        """
        clock = self._view.store.client.clock
        until = clock() + self._timeout
        while not self._closed:
            if self._events:
                return decoded(self._view, self._events.popleft())
            if clock() >= until:
                break
            for news in self._follower.follow(until):
                self._state, events = after(self._state, news)
                self._events.extend(events)
            trouble = self._follower.trouble
            if trouble is not None and self._follower.lasting and not self._events:
                raise trouble
        raise StopIteration

    @alters_data
    def close(self) -> None:
        """End it, from any thread: whoever waits for the next change is woken."""
        self._closed = True
        self._follower.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decoded(view: View, event: Event) -> Event:
    """Return an event with the key of a mapping and the values of its codec."""
    action, path, value, previous, index, coalesced = event
    decode = view.codec.decode
    if previous is not None:
        try:
            previous = decode(previous)
        except Exception:  # it is gone: the new one counts
            previous = None
    if value is not None:
        value = decode_node(path, value, decode)
    key = path[len(view.root) + 1 :]
    return tuple.__new__(Event, (action, key, value, previous, index, coalesced))
