"""Writes of files that may be sent twice, and what became of an unanswered one.

Theory of operation
-------------------
A write that was not answered may still wait in a member that is stopped or cut off.
When that member wakes, it carries the write out over newer values; closing the
connection does not take the write back.  So a write here is *fenced*: it names the
state that it replaces, which is the index of the file's last change (``prevIndex``) or
its absence (``prevExist=false``).  Of all copies of a fenced write, etcd carries out at
most one, and none after that state is gone.  (Only an absence can come back: see the
last but one paragraph.)  So a fenced write may be sent again, and to several members at
a time, like a read.

The client remembers the state from its last read or write of the key (`KnownStates`),
or knows it from a listing; otherwise it takes one GET.

If etcd refuses a fenced write (101, 105, 100), this means:

* If all copies were answered, nothing was written.  Read the state again, and send the
  write with the new state.
* If one copy was not answered, it may have been carried out, and may itself be the
  reason for the refusal.  A quorum read tells whether the state is still there.  If it
  is, the same write is sent again.  If it is not, etcd's history of 1,000 events tells
  which write ended it.  If it was this write, it is done.  If it was another write,
  every copy of ours will be refused, so send it with the new state.  If history no
  longer has the event, or does not answer, the result is `OutcomeUnknown`.  (It has no
  answer if somebody only renewed a ttl: that changes the index without an event.)

In some operations the caller must know *who* did it: a compare-and-swap, a create, or
taking a value.  There, an event that looks like ours may be an equal write by somebody
else, so the result is `OutcomeUnknown`.

There is one case that v2 can't exclude: after our client has seen that a key is absent,
somebody else creates and deletes the key, and then a late copy of our create brings the
value back.  So where the caller must know who did it, a create is never sent twice.
Writes of directories and appends can't be fenced at all, because v2 has no conditions
for them, so they are never sent again.

Source: etcd ``server/etcdserver/api/v2store`` (event history, conditions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from etcdmap.client import Resend
from etcdmap.errors import (
    CompareFailed,
    DeadlineExceeded,
    EtcdMapError,
    InvalidResponse,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    OutcomeUnknown,
    ServerError,
    Unauthorized,
    WatchExpired,
    legible,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.tree import Fence
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.models import Result
from etcdmap.v2.readers import fence_of
from etcdmap.v2.responses import result_of
from etcdmap.v2.spelling import spell_query

T = TypeVar("T")

#: Seconds that history may take to answer.  It answers at once; a member that lags
#: behind needs a few milliseconds.
_HISTORY_PATIENCE = 0.5

#: Seconds between two tries, if other writers come between.  The first pause is about
#: as long as a write takes, and each pause is twice as long as the one before.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05

#: What etcd answers to a fenced write when the state is another one.
_REFUSALS = (CompareFailed, KeyExists, KeyNotFound, NotAFile, NotADirectory)
#: The refusals that would also come with any other fence.
_IN_THE_WAY = (NotAFile, NotADirectory)


class Verdict(NamedTuple):
    """What is known about an unanswered write."""

    #: Whether the state that it names is still there, so that it may be sent again.
    unmoved: bool
    #: The event that ended that state, if it looks like this write.
    ours: Result | None = None
    #: Whether a copy may have been carried out, or may still be carried out.
    loose: bool = False


class FencedWrite:
    """One fenced write, with all its copies.

    It must end before its deadline, including the time to find out what became of it.
    """

    _resend = Resend.FENCED
    #: Whether a file must be there already; otherwise KeyNotFound is raised.
    _needs_file = False

    def __init__(self, keys: KeysAPI, path: str, deadline: float) -> None:
        self._keys = keys
        self._client = keys.client
        self._path = path
        self._deadline = deadline
        #: Whether a copy was sent that etcd may have carried out, or still may.
        self._loose = False
        self._tries = 0
        #: An index from before the first copy: the event of this write is newer.
        self._start = keys.memory.freshness.index

    def _send(self, fence: Fence) -> int:
        raise NotImplementedError

    def _remember(self, index: int) -> None:
        raise NotImplementedError

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        raise NotImplementedError

    def do(self, known: Fence | None) -> int:
        """Carry the write out, whatever the state of the file is.

        Raises:
            NotAFile: a directory is there.

        Cost: 1 request if the state is known, otherwise 2; 2 more each time that
        another writer came between.
        """
        fence = known
        if fence is None and (index := self._keys.memory.states.get(self._path)):
            fence = Fence(index)
        while True:
            if fence is None:
                self._in_doubt(self._pause)
                fence = self._in_doubt(self._look)
                if self._needs_file and fence.absent:
                    raise KeyNotFound("Key not found", key=self._path)
            try:
                return self._in_time(fence)
            except _REFUSALS as refusal:
                verdict = self._judge(fence, refusal)
            if verdict.ours is not None:
                index = event_index(verdict.ours)
                self._remember(index)
                return index
            if not verdict.unmoved:
                fence, self._loose = None, verdict.loose
            else:
                self._in_doubt(self._pause)

    def _judge(self, fence: Fence, refusal: ServerError) -> Verdict:
        self._loose = self._loose or refusal.unanswered
        if self._loose:
            return self._settle(fence, refusal)
        if isinstance(refusal, _IN_THE_WAY):
            raise refusal
        return Verdict(unmoved=False)

    def do_if(self, fence: Fence) -> int:
        """Carry the write out if the key is in this state; know for certain who did it.

        Raises:
            CompareFailed, KeyExists, KeyNotFound: the key is in another state, and this
                write was not carried out and never will be.
            OutcomeUnknown: it could not be found out for certain.

        Cost: 1 request.
        """
        if fence.absent:
            # A late copy could bring the key back after somebody else deleted it.
            self._resend = Resend.IF_NOT_SENT
        while True:
            try:
                return self._in_time(fence)
            except _REFUSALS as refusal:
                self._keys.memory.states.drop(self._path)
                self._loose = self._loose or refusal.unanswered
                if not self._loose:
                    raise
                verdict = self._settle(fence, refusal)
                if verdict.ours is not None:
                    raise self._unknown(
                        "a write of the same value was carried out, but it is not "
                        "known whether it was this one"
                    ) from refusal
                if not verdict.unmoved:
                    raise
                self._in_doubt(self._pause)

    def _in_time(self, fence: Fence) -> int:
        index = self._in_doubt(self._send, fence)
        self._remember(index)
        return index

    def _in_doubt(self, act: Callable[..., T], *arguments: Any) -> T:
        """Call a function; if it fails while a copy is loose, raise OutcomeUnknown."""
        try:
            return act(*arguments)
        except (*_REFUSALS, OutcomeUnknown):
            raise
        except EtcdMapError as error:
            if self._loose or getattr(error, "unanswered", False):
                raise self._unknown("nothing more could be found out") from error
            raise

    def _pause(self) -> None:
        """Let other writers finish; not the first time, and then longer each time."""
        client = self._client
        longest = min(_FIRST_PAUSE * 2**self._tries, _LONGEST_PAUSE)
        if self._tries:
            left = self._deadline - client.clock()
            if left <= 0:
                raise DeadlineExceeded(
                    f"{legible(self._path)}: other writers came between, again and "
                    "again, until the time was over"
                )
            client.sleep(min(client.rng.uniform(0, longest), left))
        self._tries += 1

    def _look(self, *, quorum: bool = False) -> Fence:
        try:
            return self._keys.fetch(
                self._path,
                spell_query(quorum=quorum),
                fence_of,
                kind="quorum" if quorum else "get",
                consistency="linearizable" if quorum else "session",
                deadline=self._deadline,
            )
        except Unauthorized as error:
            raise _needs_reading(error) from error

    # --- settling

    def _settle(self, fence: Fence, refusal: ServerError) -> Verdict:
        """Find out what became of the copies that were not answered."""
        try:
            return self._ask_history(fence)
        except OutcomeUnknown:
            raise
        except EtcdMapError as error:
            why = "etcd's history does not tell what became of it"
            if isinstance(error, WatchExpired):
                why = "etcd's history of it is gone"
            raise self._unknown(why) from refusal

    def _ask_history(self, fence: Fence) -> Verdict:
        try:
            now = self._look(quorum=True)
        except _IN_THE_WAY:
            now = Fence(-1)  # no file is there, so the state is another one
        if not fence.absent and now == fence:
            return Verdict(unmoved=True)
        if not now.absent and 0 < now.as_of <= self._start:
            # The key's last change is older than our first copy, so it is not ours.
            return Verdict(unmoved=False)
        if fence.absent:
            return Verdict(unmoved=False, ours=self._find_create(fence, now))
        # If the state that we named was ever there, the first event after it ended it.
        after = max(fence.as_of, self._start)
        try:  # if the key is absent, it may have been deleted before our first copy
            event = self._next_event(fence.as_of if now.absent else after)
        except WatchExpired:
            event = self._next_event(after)
        early = event_index(event) <= self._start
        ours = event if not early and self._is_ours(event, fence) else None
        return Verdict(unmoved=False, ours=ours)

    def _find_create(self, fence: Fence, now: Fence) -> Result | None:
        """Find our create among all events since the key was absent, first or not."""
        after = max(fence.as_of, self._start)
        while now.absent or after != now.as_of:
            event = self._next_event(after)
            if self._is_ours(event, fence):
                return event
            after = event_index(event)
        return None

    def _next_event(self, after: int) -> Result:
        """Return the next event on the file after an index, out of history."""
        while True:
            # Not sent as a watch, for which the client waits for one member only.
            # etcd answers from history at once, so if a member does not answer, the
            # next one should be asked.
            event = self._keys.fetch(
                self._path,
                spell_query(wait=True, waitIndex=after + 1),
                result_of,
                action=None,
                deadline=min(self._client.clock() + _HISTORY_PATIENCE, self._deadline),
            )
            if event_index(event) <= after:
                raise InvalidResponse("an event from before the time asked for")
            # etcd's history also returns deletes of directories whose path is only the
            # beginning of this path, like /a for /abc.
            if event.node and f"{self._path}/".startswith(f"{event.node.key}/"):
                return event
            after = event_index(event)

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{legible(self._path)}: the answer to a write was lost, and {why}"
        )


def event_index(event: Result) -> int:
    """Return the index of an event."""
    if event.node is None:
        raise AssertionError("unreachable")
    return event.node.modified_index


def _needs_reading(error: Unauthorized) -> Unauthorized:
    """Return the error for a user who may write a key, but not read it."""
    return Unauthorized(
        "a write names the state that it replaces, which this user may not read: grant "
        "reading, or use fence=False",
        cause=error.cause,
        etcd_index=error.etcd_index,
        endpoint=error.endpoint,
        key=error.key,
    )
