"""Writes of files that may be sent twice, and what became of an unanswered one.

Theory of operation
-------------------
A member that is stopped or cut off still holds a write that nobody answered, and
may carry it out when it wakes, over newer values; closing the connection does
not take it back.  So a write here is *fenced*: it names the state that it
replaces, the index of the file's last change (``prevIndex``) or its absence
(``prevExist=false``).  Of all copies of a fenced write etcd carries out one at
most, and none once that state is gone.  That makes it as free to send again, and
to several members at a time, as a read.

The state named is remembered from the client's last read or write of the key
(`etcdmap.fences`), or comes with a listing; else it costs a GET.

What a refusal (101, 105, 100) means then:

* No copy is unanswered: surely not written.  Look again, fence anew, send.
* A copy is unanswered: it may be what the others met.  A quorum read tells
  whether the state moved on.  If not, the same write goes out again.  If it did,
  the first event after the state named tells whose write it was, from etcd's
  history of 1,000 events.  Ours: done.  Another's: every copy of ours is refused
  for ever; fence anew.  History gone: `OutcomeUnknown`.

Where the caller must know *who* did it (a compare-and-swap, a create, taking a
value), an event that looks like ours may be an equal write of somebody else's:
then it is `OutcomeUnknown`.

What v2 can't exclude: between "absent" and a late copy of our create, somebody
else may create and delete the key; the copy then brings the value back.  Not
fenceable at all are directories and appends: v2 has no conditions for them, so
they are never sent again.

Source: etcd ``server/etcdserver/api/v2store`` (event history, conditions).
"""

from __future__ import annotations

from typing import NamedTuple

from etcdmap.errors import (
    ClusterUnavailable,
    CompareFailed,
    DeadlineExceeded,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    OutcomeUnknown,
    ServerError,
    WatchExpired,
)
from etcdmap.keys import KeysAPI
from etcdmap.models import Resend, Result
from etcdmap.nodes import Directory, Fence, File, index_of_write, node_of
from etcdmap.parameters import spell_form

#: How long the history may take to answer, seconds.  What is in it comes at
#: once; a member that lags behind needs a few milliseconds.
_HISTORY_PATIENCE = 0.5

#: What etcd answers to a fenced write when the state is another one.
_REFUSALS = (CompareFailed, KeyExists, KeyNotFound)


class _Verdict(NamedTuple):
    """What became of an unanswered write."""

    #: Whether the state that it names is still there: it may be sent again.
    unmoved: bool
    #: The event that ended that state, if it looks like ours.
    ours: Result | None = None


class FencedWrites:
    """Fenced writes of files.

    Args:
        keys: reaches etcd.
        timeout: deadline of one write, seconds, settling included.
    """

    def __init__(self, keys: KeysAPI, timeout: float | None) -> None:
        self._keys = keys
        self._timeout = keys.client.timeout if timeout is None else timeout

    # --- writes that only have to be done

    def put(
        self, path: str, text: str, ttl: float | None, known: Fence | None = None
    ) -> int:
        """Write a file, whatever it held, and give its index.

        Raises:
            NotAFile: a directory stands there.

        Cost: 1 request if the state is known, else 2; 2 more each time that
        another writer came between.
        """
        return _Put(self._keys, path, self._timeout, text, ttl).do(known)

    def delete(self, path: str, known: Fence | None = None) -> None:
        """Delete a file.

        Raises:
            KeyNotFound: the key is absent.
            NotAFile: a directory stands there.

        Cost: as `put`.
        """
        _Delete(self._keys, path, self._timeout).do(known)

    # --- writes whose caller must know who did it

    def put_if(self, path: str, text: str, ttl: float | None, fence: Fence) -> int:
        """Write a file that is in a state, and give its index.

        Raises:
            CompareFailed, KeyExists, KeyNotFound: it is in another state, and
                this write was not carried out and never will be.
            OutcomeUnknown: that could not be made certain.

        Cost: 1 request.
        """
        return _Put(self._keys, path, self._timeout, text, ttl).do_if(fence)

    def delete_if(self, path: str, fence: Fence) -> None:
        """Delete a file that is in a state.  Raises, cost: as `put_if`."""
        _Delete(self._keys, path, self._timeout).do_if(fence)


class _Write:
    """One fenced write, with all its copies."""

    def __init__(self, keys: KeysAPI, path: str, timeout: float) -> None:
        self._keys = keys
        self._client = keys.client
        self._path = path
        self._deadline = keys.client.clock() + timeout
        #: Whether a copy was sent that may still be carried out.
        self._loose = False

    def _send(self, fence: Fence, timeout: float) -> int:
        """Send it; what is done then is done, so remember it."""
        raise NotImplementedError

    def _check_state(self, fence: Fence) -> None:
        """Raise if nothing can be done in the state that was found."""

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        raise NotImplementedError

    def do(self, known: Fence | None) -> int:
        """Do it, whatever the state is."""
        fence = known
        if fence is None and (index := self._client.fences.get(self._path)):
            fence = Fence(index)
        while True:
            if fence is None:
                fence = self._look()
                self._check_state(fence)
            try:
                return self._in_time(fence)
            except _REFUSALS as refusal:
                self._loose = self._loose or refusal.unanswered
                if not self._loose:
                    fence = None
                    continue
                verdict = self._settle(fence, refusal)
            if verdict.ours is not None:
                return self._done(verdict.ours)
            if not verdict.unmoved:
                fence, self._loose = None, False

    def do_if(self, fence: Fence) -> int:
        """Do it if this is the state, and be certain of who did it."""
        while True:
            try:
                return self._in_time(fence)
            except _REFUSALS as refusal:
                self._client.fences.drop(self._path)
                self._loose = self._loose or refusal.unanswered
                if not self._loose:
                    raise
                verdict = self._settle(fence, refusal)
                if verdict.ours is not None:
                    raise self._unknown(
                        "an equal write was carried out, by whom is not known"
                    ) from refusal
                if not verdict.unmoved:
                    raise

    def _in_time(self, fence: Fence) -> int:
        try:
            return self._send(fence, self._left())
        except (ClusterUnavailable, DeadlineExceeded) as error:
            if self._loose:
                raise self._unknown("time ran out") from error
            raise

    def _done(self, event: Result) -> int:
        raise NotImplementedError

    def _left(self) -> float:
        left = self._deadline - self._client.clock()
        if left > 0:
            return left
        raise DeadlineExceeded(
            f"{self._path}: other writers came between, again and "
            "again, until the time was over"
        )

    def _look(self, *, quorum: bool = False) -> Fence:
        """Read the state of the file."""
        try:
            node = self._keys.fetch(
                self._path,
                "?quorum=true" if quorum else "",
                node_of,
                kind="quorum" if quorum else "get",
                consistency="linearizable" if quorum else "session",
                timeout=self._left(),
            )
        except KeyNotFound as error:
            return Fence(0, error.etcd_index or 0)
        if isinstance(node, Directory):
            raise NotAFile("a directory is there", code=102, key=self._path)
        return Fence(node.modified_index)

    # --- settling

    def _settle(self, fence: Fence, refusal: ServerError) -> _Verdict:
        """Find out what became of the copies that were not answered."""
        try:
            return self._ask_history(fence)
        except (ClusterUnavailable, DeadlineExceeded, WatchExpired) as error:
            why = "time ran out"
            if isinstance(error, WatchExpired):
                why = "etcd's history of it is gone"
            raise self._unknown(why) from refusal

    def _ask_history(self, fence: Fence) -> _Verdict:
        try:
            now = self._look(quorum=True)
        except (NotAFile, NotADirectory):
            now = Fence(-1)  # something else is there: it moved on
        index = fence.modified_index
        if index and now.modified_index == index:
            return _Verdict(unmoved=True)
        if not index and not fence.since:
            if now.modified_index:
                raise self._unknown("the key is there, by whom is not known")
            return _Verdict(unmoved=True)
        event = self._first_event(index or fence.since)
        if event is None:
            # Only a renewed ttl moves an index without an event; an absent key
            # without an event is as absent as before.
            return _Verdict(unmoved=not index)
        ours = event if self._is_ours(event, fence) else None
        return _Verdict(unmoved=False, ours=ours)

    def _first_event(self, after: int) -> Result | None:
        """Give the first event on the file after an index, or None."""
        while True:
            timeout = min(_HISTORY_PATIENCE, self._left())
            try:
                event = self._keys.watch(self._path, after_index=after, timeout=timeout)
            except (ClusterUnavailable, DeadlineExceeded):
                return None
            if event.node is None:
                return None
            # History also gives deletes of directories whose name only begins
            # like the path's.
            if f"{self._path}/".startswith(f"{event.node.key}/"):
                return event
            after = event.node.modified_index

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._path}: the answer to a write was lost, and {why}. Read the key "
            "before writing it again"
        )


class _Put(_Write):
    """A fenced write of a text."""

    def __init__(
        self, keys: KeysAPI, path: str, timeout: float, text: str, ttl: float | None
    ) -> None:
        super().__init__(keys, path, timeout)
        self._text = text
        self._form = spell_form(text, ttl)

    def _send(self, fence: Fence, timeout: float) -> int:
        condition = "prevExist=false"
        if fence.modified_index:
            condition = f"prevIndex={fence.modified_index}"
        index = self._keys.store(
            "PUT",
            self._path,
            f"?noValueOnSuccess=true&{condition}",
            self._form,
            index_of_write,
            resend=Resend.FENCED,
            timeout=timeout,
        )
        self._client.fences.put(self._path, index)
        return index

    def _done(self, event: Result) -> int:
        if event.node is None:
            raise AssertionError("unreachable")
        self._client.fences.put(self._path, event.node.modified_index)
        return event.node.modified_index

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        if event.node is None or event.node.value != self._text:
            return False
        if not fence.modified_index:
            return event.action == "create"
        return event.action == "compareAndSwap" and _replaced(event, fence)


class _Delete(_Write):
    """A fenced delete of a file."""

    def _check_state(self, fence: Fence) -> None:
        if not fence.modified_index:
            raise KeyNotFound("Key not found", code=100, key=self._path)

    def _send(self, fence: Fence, timeout: float) -> int:
        index = self._keys.store(
            "DELETE",
            self._path,
            f"?prevIndex={fence.modified_index}",
            None,
            index_of_write,
            resend=Resend.FENCED,
            timeout=timeout,
        )
        self._client.fences.drop(self._path)
        return index

    def _done(self, event: Result) -> int:
        self._client.fences.drop(self._path)
        return event.etcd_index

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        return event.action == "compareAndDelete" and _replaced(event, fence)


def _replaced(event: Result, fence: Fence) -> bool:
    before = event.prev_node
    return before is not None and before.modified_index == fence.modified_index


def remember_read(keys: KeysAPI, path: str, node: File | Directory) -> None:
    """Remember the state of a file that was just read."""
    if isinstance(node, File):
        keys.client.fences.put(path, node.modified_index)
