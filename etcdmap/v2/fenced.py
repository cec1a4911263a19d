"""The fenced writes, see `etcdmap.v2.settling`: of a text, and the delete of a file."""

from __future__ import annotations

from etcdmap.client import Resend
from etcdmap.errors import ServerError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.tree import Fence
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.models import Result
from etcdmap.v2.readers import index_of_write
from etcdmap.v2.settling import FencedWrite, Verdict
from etcdmap.v2.spelling import spell_condition, spell_form, spell_query


class FencedPut(FencedWrite):
    """A fenced write of a text; with `present`, only where a file is already."""

    def __init__(
        self,
        keys: KeysAPI,
        path: str,
        deadline: float,
        text: str | None,
        ttl: float | None,
        *,
        present: bool = False,
    ) -> None:
        super().__init__(keys, path, deadline)
        self._text = text
        self._expires = ttl is not None
        self._needs_file = present
        self._form = spell_form(text, ttl)

    def _send(self, fence: Fence) -> int:
        query, action = spell_condition(fence)
        return self._keys.store(
            "PUT",
            self._path,
            action,
            query,
            self._form,
            index_of_write,
            # By position: naming the arguments would double the time that it takes.
            self._deadline,
            self._resend,
            fence.as_of,
            True,
        )

    def _remember(self, index: int) -> None:
        self._keys.memory.states.put(self._path, index)

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        node = event.node
        if node is None or node.value != self._text:
            return False
        if (node.ttl is not None or node.expiration is not None) != self._expires:
            return False
        if fence.absent:
            return event.action == "create"
        return event.action == "compareAndSwap" and _replaced(event, fence)


class FencedRefresh(FencedPut):
    """A fenced renewal of a ttl; any of its copies may be the one carried out."""

    def __init__(self, keys: KeysAPI, path: str, deadline: float, ttl: float) -> None:
        super().__init__(keys, path, deadline, None, ttl, present=True)
        self._form = spell_form(None, ttl, refresh=True)

    def _settle(self, fence: Fence, refusal: ServerError) -> Verdict:
        # History does not show renewals.  So the renewal is sent again, with the state
        # that is there now.  Then the ttl is right, whatever became of earlier copies.
        return Verdict(unmoved=False, loose=True)


class FencedDelete(FencedWrite):
    """A fenced delete of a file; raises KeyNotFound if the file is absent."""

    _needs_file = True

    def _send(self, fence: Fence) -> int:
        return self._keys.store(
            "DELETE",
            self._path,
            "compareAndDelete",
            spell_query(prevIndex=fence.as_of),
            None,
            index_of_write,
            after=fence.as_of,
            resend=Resend.FENCED,
            deadline=self._deadline,
        )

    def _remember(self, index: int) -> None:
        self._keys.memory.states.drop(self._path)

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        return event.action == "compareAndDelete" and _replaced(event, fence)


def _replaced(event: Result, fence: Fence) -> bool:
    before = event.prev_node
    return before is not None and before.modified_index == fence.as_of
