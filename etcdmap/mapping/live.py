"""`EtcdMapping.live`: the mapping held in memory, and kept up to date by a watch."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from etcdmap.client import positive_seconds
from etcdmap.codecs import decode_node
from etcdmap.errors import EtcdMapError, KeyNotFound, ReadOnly
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.base import UNCHANGEABLE
from etcdmap.mapping.feed import Feed
from etcdmap.mapping.feeds import Feeds
from etcdmap.mapping.flat import FlatReading
from etcdmap.mapping.frozen import FrozenMapping
from etcdmap.mapping.handle import View, absent, sought
from etcdmap.mapping.joined import joined
from etcdmap.mapping.reading import Reading
from etcdmap.mapping.replica import Replica
from etcdmap.mapping.subscription import STATE, Subscription, memo
from etcdmap.mapping.watch import decoder
from etcdmap.marks import alters_data
from etcdmap.paths import FLAT
from etcdmap.tree import Event, Store

V = TypeVar("V", bound="Live")

_numbers = itertools.count()
#: How many views of one state are kept: each is as large as the content that it shows.
_MOST_VIEWS = 16


@joined
class Live(Reading):
    """A replica: a read-only dict in memory that follows a directory of etcd.

    `EtcdMapping.live` makes it.  Reads send no request, don't wait for etcd, and go on
    during an outage.  Each read shows a state that etcd really had, and no read shows
    an older state than a read before it.  `snapshot` and `view` show the whole
    directory at one moment.

    Sub-mappings (``now["db"]``) follow the cluster too, until the replica that
    `EtcdMapping.live` made is closed.

    Threads: any number of threads can share one replica.  A forked child may go on
    using it.  The first read, `wait`, `subscribe` or `changes` in the child starts to
    follow etcd again, and waits up to a second for the present state.  Until then, no
    callback is called in the child.  A replica can't be pickled.
    """

    _feed: Feed
    #: Names the values of a state that were decoded for this mapping.
    _slot: str
    #: Identifies this replica, and its sub-mappings, to the feed.
    _ticket: object

    @classmethod
    def _lease(cls: type[V], view: View, max_stale: float) -> V:
        max_stale = positive_seconds("max_stale", max_stale)
        ticket = object()
        feeds = Feeds.of(view.store.client)
        feed = feeds.lease(view.store, view.root, max_stale, ticket)
        store = cast("Store", Replica(view.store.client, feed.state))
        live = cls._on(replace(view, store=store, readonly=True))
        live._feed, live._owner, live._ticket = feed, True, ticket
        live._slot = f"{next(_numbers)}"
        return live

    def with_view(self: V, view: View) -> V:
        """Return a mapping of the same replica; see `EtcdMapping.with_view`."""
        other = self._on(view)
        other._feed, other._ticket = self._feed, self._ticket
        mine = self._view
        same = view.codec is mine.codec and view.naming is mine.naming
        number = self._slot.partition(" ")[0] if same else f"{next(_numbers)}"
        other._slot = f"{number} {view.root}"
        return other

    # --- reads

    def __getitem__(self, key: str) -> Any:
        """Return the value of a file, or the mapping on a directory.

        Raises:
            KeyNotFound: a KeyError; the key is absent, or can't exist.
            DecodeError: the codec can't read the text.

        Cost: no request.  Atomic: yes.
        """
        try:
            return self._feed.now[self._slot][key]
        except (KeyError, TypeError):
            return self._look_up(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return ``m[key]``, or ``default`` if the key is absent.  Cost: no request."""
        try:
            return self._feed.now[self._slot][key]
        except (KeyError, TypeError):
            try:
                return self._look_up(key)
            except KeyNotFound:
                return default

    def __contains__(self, key: object) -> bool:
        """Tell whether a file or directory has this key.  Cost: no request."""
        path = self._view.naming.readable(self._view.root, key)
        return path is not None and self._view.store.exists(path)

    def __ior__(self, other: object) -> NoReturn:
        # Without this method, `live |= ...` would replace the replica by a dict.
        raise ReadOnly("a live replica can't be written: write to the EtcdMapping")

    def _look_up(self, key: str) -> Any:
        """Find a value, and keep it with the state in which it was found."""
        now = self._feed.moment()
        with sought(key):
            path = self._readable(key)
            node = now[STATE].find(path)
        if node is None:
            raise absent(key, "Key not found", path)
        if isinstance(node, dict):
            value = self._sub(path)
        else:
            value = decode_node(path, node, self._view.codec.decode)
            if type(value) not in UNCHANGEABLE:
                return value
        if type(key) is str:
            memo(now, self._slot)[key] = value
        return value

    @property
    def flat(self) -> FlatReading:
        """This directory with all subdirectories, as one mapping from paths to values.

        The paths are relative to this directory.

        Cost: no request.
        """
        return FlatReading._on(replace(self._view, naming=FLAT))

    def index(self) -> int:
        """Return the index up to which this replica shows all changes of the store.

        You can pass the index to `EtcdMapping.watch` as ``after``, or to `wait` in
        another process.

        Cost: no request.
        """
        return self._feed.state().index

    def view(self) -> FrozenMapping:
        """Return the whole content, as a mapping that can't be changed.

        The mapping is made only once for each state of the replica, and all callers
        share it.

        Raises:
            DecodeError: the codec can't read a text; the error names the key.

        Cost: no request.
        """
        now = self._feed.moment()
        views = memo(now, "view")
        found = views.get(self._slot)
        if found is None:
            if len(views) >= _MOST_VIEWS:
                views.clear()
            store = Replica(self.client, lambda: now[STATE])
            found = views[self._slot] = FrozenMapping(self._read(store)[0] or {})
        return cast("FrozenMapping", found)

    # --- how it is

    def wait(self, index: int | None = None, timeout: float | None = None) -> bool:
        """Wait until all changes up to an index are shown; tell whether they are shown.

        Args:
            index: what `set` returned, or the `index` of another mapping; None for all
                changes that this client has made or seen.
            timeout: seconds to wait; None for the client's timeout.

        Cost: no request if the changes are shown already or arrive at once.  Otherwise,
        1 quorum read and 1 or 2 new connections find out whether any of these changes
        is in this directory at all.
        """
        if index is not None and type(index) is not int:
            kind = type(index).__name__
            raise TypeError(f"index is an int, as `set` returns it, not {kind}")
        if timeout is None:
            timeout = self.client.timeout
        return self._feed.wait(index, positive_seconds("timeout", timeout))

    @property
    def state(self) -> str:
        """Whether the replica follows etcd at the moment.

        - ``"following"``: it does.
        - ``"suspended"``: no member can be followed at the moment.
        - ``"failed"``: no member can be followed, and waiting will hardly help, because
          the user lacks a right, the server does not offer the API, or a certificate is
          refused.  Even so, the replica goes on trying.
        - ``"starting"``: only in a forked child, until the replica has read its
          directory again.  It begins to do so at the first read, `wait`, `subscribe` or
          `changes` in the child.  Looking at this property does not count as a read.
        - ``"closed"``: the replica was closed.
        """
        # The feed may go on for others.
        closed = self._ticket not in self._feed.users
        return "closed" if closed else self._feed.condition

    @property
    def error(self) -> EtcdMapError | None:
        """Why the replica can't follow etcd at the moment; None if it can."""
        return self._feed.trouble

    @property
    def stale_for(self) -> float:
        """Seconds since the last moment at which this replica was certainly up to date.

        At that moment, it was proved that etcd had nothing newer.  While all is well,
        the last such proof is less than ``max_stale`` seconds old.  Nearly always, the
        replica has been up to date since then, too, although this is not yet proved.
        The time during which the machine is suspended is not counted.
        """
        return self.client.clock() - self._feed.proved

    # --- what happens

    def subscribe(
        self,
        callback: Callable[[Event], object],
        key: str | None = None,
        *,
        initial: bool = False,
        quiet: float | None = None,
    ) -> Subscribed:
        """Call a function with each `Event`, in order.

        A thread of the replica makes the calls, one at a time, and makes each call only
        when the replica shows the change.  While the function runs, other callbacks
        have to wait, but following etcd is held up for 10 ms at most.  If the function
        raises an exception, the exception is logged, and the next call is for the next
        event.  If the function is so slow that more than 1,000 events wait for it, it
        gets only the differences between the old and the new content, as ``coalesced``
        events, instead of these events.

        Args:
            callback: the function, which takes an event.
            key: call the function only for this key and the keys below it; None for all
                keys.
            initial: whether to begin with a call for each key that is there already;
                the events of these calls are ``coalesced``.
            quiet: call the function only when nothing has changed for this number of
                seconds, and then once for each difference; None to call it for each
                change.

        Returns:
            An object that ends the subscription when you call its ``close``, or when
            you leave it as a context manager.

        Cost: no request.
        """
        _check_callback(callback)
        if quiet is not None:
            quiet = positive_seconds("quiet", quiet)
        decoded = decoder(self._view)

        def call(event: Event) -> None:
            callback(decoded(event))

        subscription = self._feed.subscribe(
            self._ticket,
            self._path_of(key),
            call,
            initial=initial,
            quiet=quiet,
        )
        return Subscribed(partial(self._feed.end, subscription))

    def subscribe_state(self, callback: Callable[[str], object]) -> Subscribed:
        """Call a function with the new `state` whenever the state has changed.

        The change to ``"closed"`` is the exception: `close` causes no call.

        Cost: no request.
        """
        _check_callback(callback)
        call = partial(callback)  # a new object, even if a callback is given twice
        self._feed.on_state(self._ticket, call)
        return Subscribed(partial(self._feed.off_state, call))

    def changes(self, key: str | None = None, *, initial: bool = False) -> Changes:
        """Return an iterator over events, for ``for`` or ``async for``.

        The loop ends when the iterator or the replica is closed.

        Args:
            key: only events of this key and the keys below it; None for all keys.
            initial: whether to begin with an event for each key that is there already;
                these events are ``coalesced``.

        Cost: no request.
        """
        return Changes(
            self._feed, self._ticket, self._view, self._path_of(key), initial
        )

    def _path_of(self, key: str | None) -> str:
        view = self._view
        return view.root if key is None else view.naming.writable(view.root, key)

    # --- the end

    @alters_data
    def close(self) -> None:
        """Stop following etcd; the content can still be read.

        The content stays as it was seen last.  But if another replica shares the watch
        of this replica, the content goes on changing until that replica is closed, too.
        `close` may be called from any thread, and from a callback.  On a sub-mapping,
        it does nothing.  After the last replica that shares a watch has been closed, no
        thread of the watch is left, except one that is still running a callback.
        """
        if self._owner:
            self._owner = False
            Feeds.of(self.client).give_back(self._feed, self._ticket)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a live replica can't be pickled: it has threads and a connection.  Pass "
            "the EtcdMapping, and call live() there; or pass view() or snapshot()"
        )

    def __repr__(self) -> str:
        state = self._feed.now[STATE]  # which starts nothing in a forked child
        return f"<Live {self.prefix!r} as of index {state.index}, {self.state}>"


def _check_callback(callback: object) -> None:
    """Refuse a callback that would only fail later, when it is called, in a log."""
    if not callable(callback):
        raise TypeError(f"callback is a function, not {type(callback).__name__}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError("callback is a plain function; for coroutines use changes()")


class Subscribed:
    """A subscription that can be ended; a context manager."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    @alters_data
    def close(self) -> None:
        """End the subscription: no new call is made, but a running call goes on."""
        self._end()

    def __enter__(self) -> Subscribed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Changes(Iterator[Event], AsyncIterator[Event]):
    """The events of a replica, for one loop; `Live.changes` makes it."""

    subscription: Subscription

    def __init__(
        self, feed: Feed, ticket: object, view: View, path: str, initial: bool
    ) -> None:
        self._feed = feed
        self._events: list[Event] = []
        #: The coroutines that wait, by what wakes them; changed with the feed's lock.
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._decoded = decoder(view)
        self.subscription = feed.subscribe(
            ticket, path, initial=initial, wake=self._notice
        )

    def _notice(self) -> None:
        for woken, loop in self._waiting.items():
            with suppress(RuntimeError):  # the loop has ended: nobody waits there
                loop.call_soon_threadsafe(woken.set)
        self._waiting = {}

    def _fetch(self) -> bool:
        """Take the events that are due, with the lock held; tell whether to go on."""
        if self.subscription.ended:
            self._events = []
            return True
        while not self._events:
            if self.subscription.due == float("inf"):
                return False
            events, told = self.subscription.waiting(self._feed.now[STATE])
            self._events = events[::-1]
            self.subscription.settle(told)  # not before: a fork would lose them
        return True

    def __next__(self) -> Event:
        """Wait for the next event; raise DecodeError if the codec can't read its text.

        If it raises, the next call goes on with the event after it.
        """
        self._feed.moment()  # starts to follow etcd in a forked child
        with self._feed.changed:
            self._feed.wait_for(self._fetch)
            if not self._events:
                raise StopIteration
            event = self._events.pop()
        return self._decoded(event)

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event without blocking the thread."""
        while (event := self._next_or(woken := asyncio.Event())) is None:
            try:
                await woken.wait()
            finally:  # the task may have been cancelled
                with self._feed.changed:
                    self._waiting.pop(woken, None)
        return self._decoded(event)

    def _next_or(self, woken: asyncio.Event) -> Event | None:
        """Return the next event; None if `woken` will be set once there is one."""
        loop = asyncio.get_running_loop()
        self._feed.moment()
        with self._feed.changed:
            if not self._fetch():
                self._waiting[woken] = loop
                return None
            if not self._events:
                raise StopAsyncIteration
            return self._events.pop()

    @alters_data
    def close(self) -> None:
        """End the iterator; any thread may do so, and a waiting loop ends at once."""
        self._feed.end(self.subscription)

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
