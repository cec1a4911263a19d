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
from etcdmap.mapping.watch import decoded
from etcdmap.marks import alters_data
from etcdmap.paths import FLAT
from etcdmap.tree import Event, Store

V = TypeVar("V", bound="Live")

_numbers = itertools.count()
#: Views kept of a moment: each is as large as what it shows.
_MOST_VIEWS = 16


@joined
class Live(Reading):
    """A directory of etcd as a dict in memory, which follows the cluster.

    A mapping that can't be written; `EtcdMapping.live` makes it.  Reads send nothing,
    wait for nobody and go on through an outage.  Each shows a state that etcd had, and
    later ones never an earlier state; `snapshot` and `view` show one moment whole.

    Sub-mappings (``cfg["db"]``) follow too, and end with the mapping that
    `EtcdMapping.live` made.

    Threads: share it freely.  A forked child may go on using it: its first read, or
    `wait`, begins to follow anew, and waits up to a second for the present state.
    Until then no callback is called there.  It can't be pickled.
    """

    _feed: Feed
    #: Which values decoded from a moment are this mapping's.
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
        """Return a value, or the default if the key is absent.  Cost: no request."""
        try:
            return self._feed.now[self._slot][key]
        except (KeyError, TypeError):
            try:
                return self._look_up(key)
            except KeyNotFound:
                return default

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a node.  Cost: no request."""
        path = self._view.naming.readable(self._view.root, key)
        return path is not None and self._view.store.exists(path)

    def __ior__(self, other: object) -> NoReturn:
        # Without it, `live |= ...` would put a dict in the place of the replica.
        raise ReadOnly("a live replica can't be written: write to the EtcdMapping")

    def _look_up(self, key: str) -> Any:
        """Find a value, and keep it with the moment that it was found in."""
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
        """The subtree as one mapping of relative path -> value.

        Cost: no request.
        """
        return FlatReading._on(replace(self._view, naming=FLAT))

    def index(self) -> int:
        """Return the index of the store up to which all changes are shown.

        As ``after`` of `EtcdMapping.watch`, or for `wait` in another process.

        Cost: no request.
        """
        return self._feed.state().index

    def view(self) -> FrozenMapping:
        """Return what `snapshot` returns as value, as a mapping that can't be changed.

        It is made once a moment and shared by all who ask.

        Raises:
            DecodeError: the codec can't read a text; names the key.

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
        """Wait until all changes up to an index are shown; tell whether they are.

        Args:
            index: what `set` returned, or `index` of another mapping; None for all
                that this client has written or seen.
            timeout: seconds; None for the client's.

        Cost: no request if they are shown or come at once; else 1 quorum read and 1 or
        2 connections, as the change need not be one of this directory.
        """
        if index is not None and type(index) is not int:
            kind = type(index).__name__
            raise TypeError(f"index is an int, as `set` returns it, not {kind}")
        if timeout is None:
            timeout = self.client.timeout
        return self._feed.wait(index, positive_seconds("timeout", timeout))

    @property
    def state(self) -> str:
        """How following goes.

        ``"starting"``: in a forked child, where nothing was read yet, or the first read
        has had no answer; to look at this property is no read.  ``"following"``.
        ``"suspended"``: no member can be followed at the moment.  ``"failed"``: the
        same, and that will hardly pass by itself (a right or the API is missing, a
        certificate is refused), though it is tried again.  ``"closed"``.
        """
        # The feed may go on for others.
        closed = self._ticket not in self._feed.users
        return "closed" if closed else self._feed.condition

    @property
    def error(self) -> EtcdMapError | None:
        """Why nothing can be followed at the moment; None if it can."""
        return self._feed.trouble

    @property
    def stale_for(self) -> float:
        """Seconds since when it is proved that nothing newer existed.

        While all is well it is below ``max_stale``: what shows up to then is nearly
        always the present, only not proved yet.  Time for which the machine is
        suspended is not counted.
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
        """Have a function called with each `Event`, in order.

        It is called by a thread of the replica, one call at a time, after the change
        can be read.  Other callbacks wait for it; following does not, but for 10 ms at
        most.  If it raises, that is logged, and the next call is for the next event.
        If it is so slow that 1,000 events wait, it gets the differences instead, as
        ``coalesced`` events.

        Args:
            callback: gets an event.
            key: only of this key and those below it.
            initial: whether it gets what is there first, as ``coalesced`` events.
            quiet: seconds of calm to wait for; then it is called once for each
                difference.

        Returns:
            What ends it, by `close` or a ``with`` block.

        Cost: no request.
        """
        _check_callback(callback)
        if quiet is not None:
            quiet = positive_seconds("quiet", quiet)
        subscription = self._feed.subscribe(
            self._ticket,
            self._path_of(key),
            partial(decoded, self._view),
            callback,
            initial=initial,
            quiet=quiet,
        )
        return Subscribed(partial(self._feed.end, subscription))

    def subscribe_state(self, callback: Callable[[str], object]) -> Subscribed:
        """Have a function called with `state` whenever it has changed, but by `close`.

        Cost: no request.
        """
        _check_callback(callback)
        call = partial(callback)  # its own, though the same is given twice
        self._feed.on_state(self._ticket, call)
        return Subscribed(partial(self._feed.off_state, call))

    def changes(self, key: str | None = None, *, initial: bool = False) -> Changes:
        """Return an iterator over events, for ``for`` or ``async for``.

        Args:
            key: only of this key and those below it.
            initial: whether it begins with what is there, as ``coalesced`` events.

        It ends when it or the replica is closed.

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
        """Stop following; what was seen last can still be read.

        It goes on to change while another replica of the directory is open.  A
        sub-mapping's does nothing.  From any thread, callbacks too; the threads have
        ended when it returns, but for one that runs a callback.
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
        state = self._feed.now[STATE]  # a look at it begins nothing in a forked child
        return f"<Live {self.prefix!r} as of index {state.index}, {self.state}>"


def _check_callback(callback: object) -> None:
    """Refuse now what would only fail, in a log, once it is called."""
    if not callable(callback):
        raise TypeError(f"callback is a function, not {type(callback).__name__}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError("callback is a plain function; for coroutines use changes()")


class Subscribed:
    """Ends a subscription; a context manager."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    @alters_data
    def close(self) -> None:
        """Have no more calls made; one that is being made goes on."""
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
        self.subscription = feed.subscribe(
            ticket, path, partial(decoded, view), initial=initial, wake=self._notice
        )

    def _notice(self) -> None:
        for woken, loop in self._waiting.items():
            with suppress(RuntimeError):  # the loop has ended: nobody waits there
                loop.call_soon_threadsafe(woken.set)
        self._waiting = {}

    def _fetch(self) -> bool:
        """Take what there is to tell, with the lock held; tell whether to go on."""
        if self.subscription.ended:
            self._events = []
            return True
        while not self._events:
            if self.subscription.due == float("inf"):
                return False
            self._events = self.subscription.take(self._feed.now[STATE])[::-1]
        return True

    def __next__(self) -> Event:
        """Wait for the next event; DecodeError if the codec can't read its text."""
        self._feed.moment()  # it is followed, in a forked child too
        with self._feed.changed:
            self._feed.wait_for(self._fetch)
            if not self._events:
                raise StopIteration
            event = self._events.pop()
        return self.subscription.read(event)

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event; no thread is blocked."""
        while (event := self._next_or(woken := asyncio.Event())) is None:
            try:
                await woken.wait()
            finally:  # it may have been cancelled
                with self._feed.changed:
                    self._waiting.pop(woken, None)
        return self.subscription.read(event)

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
        """End it, from any thread: whoever waits is woken."""
        self._feed.end(self.subscription)

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
