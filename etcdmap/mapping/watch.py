"""`EtcdMapping.watch`: the changes of a key, and of all keys below it, one by one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from etcdmap.client import positive_seconds
from etcdmap.codecs import decode_node
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.handle import View
from etcdmap.mapping.replica import State, after
from etcdmap.marks import alters_data
from etcdmap.tree import Event


class Watch(Iterator[Event]):
    """An iterator over events, and a context manager; `EtcdMapping.watch` makes it.

    Only one thread may loop over a watch, but any thread may `close` it.  The watch
    asks etcd only while the loop waits for the next event.  If more than 1,000 changes
    happen in the cluster while the loop handles an event, some of these changes are
    lost, and `WatchExpired` is raised.
    """

    def __init__(
        self, view: View, path: str | None, start: int | None, timeout: float | None
    ) -> None:
        self._view = view
        self._decoded = decoder(view)
        self._timeout = math.inf
        if timeout is not None:
            self._timeout = positive_seconds("timeout", timeout)
        if start is not None and type(start) is not int:
            raise TypeError(f"after is an int, not {type(start).__name__}")
        if start is not None and start < 0:
            raise ValueError(f"after is an index of 0 or more, not {start!r}")
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
        """The index up to which all changes were returned.

        To go on from here with another watch, in this or in another process, pass the
        index to that watch as ``after``.
        """
        if self._events:
            return self._events[0].index - 1
        return self._follower.settled

    def __next__(self) -> Event:
        """Wait for the next change.

        Raises:
            StopIteration: no change came within ``timeout``, or the watch was closed.
            WatchExpired: etcd no longer knows all that happened after `index`.
            Unauthorized, WrongCluster, ClientClosed: the watch can't go on, and trying
                again would not help.
            DecodeError: the codec can't read a text; the next call goes on with the
                next event.
        """
        clock = self._view.store.client.clock
        until = clock() + self._timeout
        while not self._closed:
            if self._events:
                return self._decoded(self._events.popleft())
            if clock() >= until:
                break
            news = self._follower.follow(until)
            self._state, events = after(self._state, news)
            self._events.extend(events)
            trouble = self._follower.trouble
            if trouble is not None and self._follower.lasting and not self._events:
                raise trouble
        raise StopIteration

    @alters_data
    def close(self) -> None:
        """End the watch; any thread may do so, and a waiting loop ends at once."""
        self._closed = True
        self._follower.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decoder(view: View) -> Callable[[Event], Event]:
    """Return what makes an event's key relative to a view, and decodes its values."""
    decode, start = view.codec.decode, len(view.root) + 1

    def decoded(event: Event) -> Event:
        action, path, value, previous, index, coalesced = event
        if previous is not None:
            try:
                previous = decode(previous)
            except Exception:  # the old value is gone: only the new one counts
                previous = None
        if value is not None:
            value = decode_node(path, value, decode)
        fields = action, path[start:], value, previous, index, coalesced
        return tuple.__new__(Event, fields)

    return decoded
