"""The member that is followed: what is asked of it, and of nobody else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from etcdmap.client import Request, Resend
from etcdmap.errors import EtcdMapError, ExchangeFailed, KeyNotFound, NotADirectory
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.transport import Answer, Exchange, Line, wait_any
from etcdmap.tree import Change, Reading, Tree
from etcdmap.v2.events import change_of, index_in, is_left_out
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.listing import tree_of
from etcdmap.v2.models import Asked
from etcdmap.v2.readers import index_of_read
from etcdmap.v2.request import KeysRequest
from etcdmap.v2.responses import index_of, payload_of
from etcdmap.v2.spelling import spell_query, spell_target

T = TypeVar("T")


class PollEvent(NamedTuple):
    """What the answer to a poll tells."""

    index: int  # type: ignore[assignment]  # in place of tuple's method
    change: Change | None
    key: str
    action: str

    def is_same(self, other: PollEvent) -> bool:
        """Tell whether history shows the same event."""
        one = (self.index, self.key, self.action)
        return one == (other.index, other.key, other.action)


class Followed:
    """Requests about a path to one member at a time, and the connections with it."""

    def __init__(self, keys: KeysAPI, path: str, *, of_directory: bool) -> None:
        self._client = client = keys.client
        # Any other transport can neither pipeline nor make a barrier.
        make_line = getattr(client.transport, "line", None)
        if make_line is None:
            raise EtcdMapError(
                "watching needs etcdmap's own connections, but this client has a "
                "session or transport of yours: make a client without that"
            )
        self._make_line: Callable[[str], Line] = make_line
        self.path = path or "/"
        self._below = f"{path}/"
        # As for listings: a role for /app/* may not ask for /app.
        self._target_path = f"{path}/" if of_directory else self.path
        query = spell_query(wait=True, recursive=True)
        self._poll_target = spell_target(self._target_path, query)
        self._any_poll = self.poll(0)
        self._freshness = keys.memory.freshness
        self.endpoint = client.pinned
        #: Whether the last that was asked of it did not go well.
        self.failed = False
        #: The highest index that was seen of a cluster which is no more.
        self.obsolete = 0
        #: Whether `cancel` was called (read for each event: quicker than `is_set`).
        self.closed, self._closing = False, threading.Event()
        #: What `cancel` has to end.
        self._asking: Exchange | None = None
        self._lines: set[Line] = set()

    @property
    def seen(self) -> int:
        """The highest index that the client has seen, of this cluster."""
        seen = self._freshness.index
        return seen if seen > self.obsolete else 0

    def move_on(self, endpoints: tuple[str, ...]) -> None:
        """Follow the next one."""
        at = endpoints.index(self.endpoint) if self.endpoint in endpoints else -1
        self.endpoint = endpoints[(at + 1) % len(endpoints)]

    def cancel(self) -> None:
        """End, from any thread, all that is under way, now and later."""
        self.closed = True
        self._closing.set()
        for line in list(self._lines):
            line.cancel()
        asking = self._asking
        if asking is not None:
            asking.cancel()

    def pause(self, seconds: float) -> None:
        """Wait some seconds, or until `cancel`."""
        self._closing.wait(seconds)

    # --- requests

    def poll(self, wait_index: int) -> KeysRequest[PollEvent]:
        """Return a long poll for the first change at an index or after."""
        target = f"{self._poll_target}&waitIndex={wait_index}"
        return self._request(target, _event_of, "watch", "any", None)

    def whole(self) -> KeysRequest[Reading]:
        """Return a quorum read of the whole tree."""
        query = spell_query(recursive=True, sorted=True, quorum=True)
        target = spell_target(self._target_path, query)
        return self._request(target, _reading_of, "quorum", "linearizable", "get")

    def index(self) -> KeysRequest[int]:
        """Return a quorum read of the index, at what this user may read."""
        path = f"{self._target_path.rstrip('/')}/_"
        target = spell_target(path, spell_query(quorum=True))
        return self._request(
            target, index_of_read, "quorum", "linearizable", "get", path
        )

    def _request(
        self,
        target: str,
        read: Callable[[Any, Answer], T],
        kind: str,
        consistency: str,
        action: str | None,
        path: str | None = None,
    ) -> KeysRequest[T]:
        key, resend = path or self._target_path, Resend.ALWAYS
        return KeysRequest(
            "GET", target, read, key, action, None, resend, kind, consistency
        )

    def ask(self, request: Request[T], seconds: float) -> T:
        """Send a request to the followed member, and to no other."""
        transport = self._client.transport
        self.failed = True
        exchange = self._asking = transport.begin(self.endpoint, request, seconds)
        if self.closed:
            exchange.cancel()
        try:
            # Not its own `wait`, which `cancel` would not end at once.
            while wait_any([exchange], seconds) is None:
                pass
            answer = exchange.result()
        except EtcdMapError:
            if not self.closed:  # else nothing is wrong with it
                transport.distrust(self.endpoint)
            raise
        finally:
            self._asking = None
            exchange.give_up()
        result = request.read(answer)
        if request.api.cluster_of(answer):
            self._freshness.check_cluster(answer)
        self.failed = False
        return result

    # --- connections

    def new_line(self) -> Line:
        """Return a new connection, to be ended by `end`."""
        line = self._make_line(self.endpoint)
        self._lines.add(line)
        if self.closed:
            line.cancel()
        return line

    def end(self, line: Line) -> None:
        """Close a connection."""
        self._lines.discard(line)
        line.close()

    def begun(self, line: Line, by: float) -> int:
        """Wait until a poll has begun; return the index of the store, 0 if refused."""
        head = line.head(by)
        if head is None:
            raise ExchangeFailed("no answer in time", sent=True, timed_out=True)
        return self._index_in(head)

    def begun_already(self, line: Line) -> int:
        """Return the index of the store when a poll began; 0 if it has not, so far."""
        head = line.head(0.0)
        return 0 if head is None else self._index_in(head)

    def _index_in(self, head: tuple[int, Mapping[str, str]]) -> int:
        answer = Answer(*head, b"", self.endpoint)
        if answer.status != 200:
            return 0
        self._freshness.check_cluster(answer)
        return index_of(answer)

    def event(self, answer: Answer) -> PollEvent:
        """Read the answer to a poll."""
        # Nearly all are a text in a file: so read, that takes a third of the time.
        try:
            found = _match_plain(answer.body.decode())
        except UnicodeDecodeError:
            found = None
        if found is None or answer.status != 200:
            return self._any_poll.read(answer)
        action, path, text, number, before = found.groups()
        if "//" in path or is_left_out(path) or not path.startswith(self._below):
            return self._any_poll.read(answer)
        index = int(number)
        fields = "set", path, text, index, before, False
        change = tuple.__new__(Change, fields)
        return tuple.__new__(PollEvent, (index, change, path, action))


# As Go's encoder writes it, see `etcdmap.v2.listing`.
_match_plain = re.compile(
    r'\{"action":"(set|create|update|compareAndSwap)",'
    r'"node":\{"key":"([^"\\]*[^"\\/])",'
    r'"value":"([^"\\]*)",'
    r'"modifiedIndex":([1-9][0-9]{0,17}),"createdIndex":[0-9]+\}'
    r'(?:,"prevNode":\{"key":"[^"\\]*","value":"([^"\\]*)",'
    r'"modifiedIndex":[0-9]+,"createdIndex":[0-9]+\})?\}\n?'
).fullmatch


def _event_of(asked: Asked, answer: Answer) -> PollEvent:
    payload = payload_of(asked, answer)
    index = index_in(payload)
    change = change_of(payload, asked)
    key, action = payload["node"]["key"], payload["action"]
    return PollEvent(index, change, key, action)


def _reading_of(asked: Asked, answer: Answer) -> Reading:
    try:
        root: Tree
        root, index = tree_of(asked, answer)
    except (KeyNotFound, NotADirectory):  # with a file on the way nothing is there
        root, index = None, index_of(answer)
    return Reading(root, index)
