"""The /v2/keys interface: one method for each operation, with all its parameters.

These methods don't fence writes, so a write that was sent and not properly answered
raises `OutcomeUnknown`.  Keys are absolute paths; hidden names (``_x``) are allowed.

Source: etcd ``Documentation/v2/api.md`` and ``server/etcdserver/api/v2http``
(branches release-3.4, release-3.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from etcdmap.client import Client, Resend
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.marks import alters_data
from etcdmap.transport import Answer
from etcdmap.v2.memory import Memory
from etcdmap.v2.models import Result
from etcdmap.v2.request import KeysRequest
from etcdmap.v2.responses import presence, presence_from_body, result_of
from etcdmap.v2.spelling import (
    check_conditions,
    need_condition,
    spell_form,
    spell_query,
    spell_target,
)

T = TypeVar("T")


class KeysAPI:
    """etcd's v2 operations on keys.

    Each method takes absolute paths.  Before it sends a request, it may raise
    `InvalidKey` or `LimitExceeded`.  After a request, it may raise `ServerError` with
    etcd's own code, or the other errors of `Client.send`.  ``timeout`` is the longest
    time of the call, in seconds.

    Cost: 1 request for each call.  Threads: any number of threads can share one object.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        #: Shared with the stores of the same client.
        self.memory = Memory.of(client)

    def __reduce__(self) -> tuple[Any, ...]:
        return KeysAPI, (self.client,)

    def __repr__(self) -> str:
        return f"<KeysAPI {list(self.client.endpoints)}>"

    # --- reads

    def get(
        self,
        key: str,
        *,
        recursive: bool = False,
        sorted: bool = False,
        quorum: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Read a file, or list a directory.

        Args:
            key: the absolute path.
            recursive: whether to list the whole subtree.
            sorted: whether etcd sorts the children by name; otherwise their order is
                random.
            quorum: whether a majority of the members confirms the read, which makes it
                linearizable.  Otherwise, the member answers from its own data, which
                may be old.
            timeout: deadline of this call, in seconds.
        """
        query = spell_query(recursive=recursive, sorted=sorted, quorum=quorum)
        return self.fetch(
            key,
            query,
            result_of,
            kind="quorum" if quorum else "list" if recursive else "get",
            consistency="linearizable" if quorum else "any",
            deadline=self.client.deadline(timeout),
        )

    def exists(self, key: str, *, timeout: float | None = None) -> bool:
        """Tell whether a file or directory is there, by a HEAD request.

        The answer to HEAD has no body, so this method can't tell a file from a
        directory.  If the answer is unclear, this method asks again with GET.

        Cost: 1 request; 2 if the first answer is unclear.
        """
        return self.present(key, deadline=self.client.deadline(timeout))

    def watch(
        self,
        key: str,
        *,
        after_index: int | None = None,
        recursive: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Wait for one change of a node and return it.

        Args:
            key: the absolute path.
            after_index: return the first change with a higher index.  With None, return
                the first change from now on.  So with None, changes between two calls
                are missed.
            recursive: whether changes below the node count too.
            timeout: deadline of this call, in seconds; None for the client's timeout.

        Raises:
            WatchExpired: etcd keeps only the last 1,000 events; read the data again,
                and watch from the index of that read.
            DeadlineExceeded: nothing changed in time.
        """
        wait_index = None if after_index is None else after_index + 1
        query = spell_query(wait=True, recursive=recursive, waitIndex=wait_index)
        return self.fetch(
            key,
            query,
            result_of,
            action=None,
            kind="watch",
            patient=True,
            deadline=self.client.deadline(timeout),
        )

    # --- writes

    @alters_data
    def set(
        self,
        key: str,
        value: str | None = None,
        *,
        ttl: float | None = None,
        dir: bool = False,
        refresh: bool = False,
        prev_exist: bool | None = None,
        prev_value: str | None = None,
        prev_index: int | None = None,
        no_value_on_success: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """PUT a node; etcd makes the directories above it.

        Args:
            key: the absolute path.
            value: the text to store; None with `dir` or `refresh`.
            ttl: seconds until the node expires, rounded up; None if it never expires
                (an earlier ttl is dropped).
            dir: whether to make a directory; if a file is there, the directory replaces
                it, and the value is lost.
            refresh: whether to only renew the ttl, without an event for those who watch
                the key.
            prev_exist: True to fail with KeyNotFound (100) if the key is absent; False
                to fail with KeyExists (105) if it is there.
            prev_value: fail with CompareFailed (101) if the present value differs.  You
                can't give ``""``, because etcd can't compare with an empty value.
            prev_index: fail with CompareFailed (101) if the index of the key's last
                change differs.
            no_value_on_success: whether etcd leaves the node out of its answer.
            timeout: deadline of this call, in seconds.
        """
        check_conditions(prev_value, prev_index)
        query = spell_query(
            dir=dir,
            prevExist=prev_exist,
            prevIndex=prev_index,
            noValueOnSuccess=no_value_on_success,
        )
        if value is None and not (dir or refresh):
            raise TypeError("set() needs a value, or dir=True, or refresh=True")
        form = spell_form(value, ttl, refresh=refresh, prev_value=prev_value)
        # What etcd calls it, also if there are several conditions.
        action = "set"
        if prev_exist is False:
            action = "create"
        elif prev_value is not None or prev_index is not None:
            action = "compareAndSwap"
        elif prev_exist:
            action = "update"
        return self.store(
            "PUT",
            key,
            action,
            query,
            form,
            result_of,
            after=prev_index or 0,
            bare=no_value_on_success,
            deadline=self.client.deadline(timeout),
        )

    @alters_data
    def create(
        self,
        key: str,
        value: str,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Set a key that must be absent; raise KeyExists (105) if it is there."""
        return self.set(key, value, ttl=ttl, prev_exist=False, timeout=timeout)

    @alters_data
    def update(
        self,
        key: str,
        value: str,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Set a key that must be there; raise KeyNotFound (100) if it is absent."""
        return self.set(key, value, ttl=ttl, prev_exist=True, timeout=timeout)

    @alters_data
    def compare_and_swap(
        self,
        key: str,
        value: str,
        *,
        prev_value: str | None = None,
        prev_index: int | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Set a file if it has the given value or index; else raise CompareFailed."""
        need_condition(prev_value, prev_index)
        return self.set(
            key,
            value,
            ttl=ttl,
            prev_value=prev_value,
            prev_index=prev_index,
            timeout=timeout,
        )

    @alters_data
    def create_in_order(
        self,
        directory: str,
        value: str | None = None,
        *,
        ttl: float | None = None,
        dir: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """POST a new node to a directory; its name is a number that always grows."""
        if value is None and not dir:
            raise TypeError("create_in_order() needs a value, or dir=True")
        return self.store(
            "POST",
            directory,
            "create",
            spell_query(dir=dir),
            spell_form(value, ttl),
            result_of,
            inside=True,
            deadline=self.client.deadline(timeout),
        )

    @alters_data
    def make_directory(
        self, key: str, *, ttl: float | None = None, timeout: float | None = None
    ) -> Result:
        """Make a new directory; raise KeyExists (105) if the key is there already.

        If you need a ttl, give it here: etcd 3.5 can't set or change it later.
        """
        return self.set(key, dir=True, prev_exist=False, ttl=ttl, timeout=timeout)

    @alters_data
    def refresh(self, key: str, ttl: float, *, timeout: float | None = None) -> Result:
        """Renew the ttl of a file, without an event for those who watch it.

        Even so, the file's ``modified_index`` changes.  If the file is absent,
        KeyNotFound (100) is raised.
        """
        return self.set(key, refresh=True, prev_exist=True, ttl=ttl, timeout=timeout)

    @alters_data
    def delete(
        self,
        key: str,
        *,
        dir: bool = False,
        recursive: bool = False,
        prev_value: str | None = None,
        prev_index: int | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Delete a node.

        Args:
            key: the absolute path.
            dir: whether an empty directory may be deleted.
            recursive: whether a directory may be deleted with everything below it,
                including hidden nodes.
            prev_value: as for `set`; for a directory, NotAFile (102) is raised.
            prev_index: as for `set`; for a directory, NotAFile (102) is raised.
            timeout: deadline of this call, in seconds.
        """
        check_conditions(prev_value, prev_index)
        # etcd ignores the body of a DELETE, so a condition there would have no effect.
        query = spell_query(
            dir=dir, recursive=recursive, prevValue=prev_value, prevIndex=prev_index
        )
        compared = prev_value is not None or prev_index is not None
        action = "compareAndDelete" if compared else "delete"
        deadline = self.client.deadline(timeout)
        return self.store(
            "DELETE", key, action, query, None, result_of, deadline=deadline
        )

    @alters_data
    def compare_and_delete(
        self,
        key: str,
        *,
        prev_value: str | None = None,
        prev_index: int | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Delete a file if it has the given value or index; else raise CompareFailed.

        Prefer ``prev_index``: etcd ignores the body of a DELETE, so a ``prev_value``
        goes into the URL, and URLs end up in logs.
        """
        need_condition(prev_value, prev_index)
        return self.delete(
            key, prev_value=prev_value, prev_index=prev_index, timeout=timeout
        )

    # --- for the store

    def fetch(
        self,
        key: str,
        query: str,
        read: Callable[[Any, Answer], T],
        *,
        method: str = "GET",
        action: str | None = "get",
        kind: str = "get",
        consistency: str = "any",
        patient: bool = False,
        deadline: float,
    ) -> T:
        """Send a read, and return what `read` makes of the request and the answer.

        If `read` raises InvalidResponse, the client asks another endpoint.
        """
        return self.client.send_by(
            deadline,
            # By position: naming the arguments would double the time that it takes.
            KeysRequest(
                method,
                spell_target(key, query),
                read,
                key,
                action,
                None,
                Resend.ALWAYS,
                kind,
                consistency,
                patient,
            ),
        )

    def present(self, key: str, *, consistency: str = "any", deadline: float) -> bool:
        """Do what `exists` does, with the consistency that the store needs."""
        found = self.fetch(
            key,
            "",
            presence,
            method="HEAD",
            consistency=consistency,
            deadline=deadline,
        )
        if found is not None:
            return found
        return self.fetch(
            key, "", presence_from_body, consistency=consistency, deadline=deadline
        )

    @alters_data
    def store(
        self,
        method: str,
        key: str,
        action: str,
        query: str,
        form: str | None,
        read: Callable[[Any, Answer], T],
        deadline: float,
        resend: Resend = Resend.IF_NOT_SENT,
        after: int = 0,
        bare: bool = False,
        inside: bool = False,
    ) -> T:
        """Send a write, and return what `read` makes of the request and the answer."""
        memory = self.memory
        seen = memory.freshness.index
        request = KeysRequest(
            method,
            spell_target(key, query),
            read,
            key,
            action,
            None if form is None else form.encode("ascii"),
            resend,
            "write",
            "any",
            False,
            # An answer with an index that was seen before belongs to another request.
            after if after > seen else seen,
            bare,
            inside,
        )
        try:
            return self.client.send_by(deadline, request)
        finally:
            # Also after a failure, because the write may have been carried out.  But
            # not after a POST: the node that it makes is new, so nobody has read it.
            if memory.cache is not None and method != "POST":
                memory.cache.invalidate(key)
