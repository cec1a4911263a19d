"""The fenced writes: of a text, and the delete of a file.

What fencing is, and how a lost answer is settled: `etcdmap.settling`.
"""

from __future__ import annotations

from etcdmap.errors import ServerError
from etcdmap.keys import KeysAPI
from etcdmap.models import Asked, Resend, Result
from etcdmap.nodes import Fence, index_of_write
from etcdmap.parameters import spell_form
from etcdmap.settling import FencedWrite, Verdict


class FencedPut(FencedWrite):
    """A fenced write of a text; `do` and `do_if` give its index.

    Args:
        keys: reaches etcd.
        path: where.
        deadline: when it must have ended, settling included; on the client's clock.
        text: what.
        ttl: seconds until it expires, or None.
        present: whether there must be a file already, else KeyNotFound.
    """

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
        condition, action, after = spell_condition(fence)
        return self._keys.store(
            "PUT",
            Asked(self._path, action, after, bare=True),
            f"?noValueOnSuccess=true{condition}",
            self._form,
            index_of_write,
            resend=self._resend,
            deadline=self._deadline,
        )

    def _remember(self, index: int) -> None:
        self._client.fences.put(self._path, index)

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        node = event.node
        if node is None or node.value != self._text:
            return False
        if (node.ttl is not None or node.expiration is not None) != self._expires:
            return False
        if not fence.modified_index:
            return event.action == "create"
        return event.action == "compareAndSwap" and _replaced(event, fence)


class FencedRefresh(FencedPut):
    """A fenced renewal of a ttl; which of two equal ones was carried out is all one."""

    def __init__(self, keys: KeysAPI, path: str, deadline: float, ttl: float) -> None:
        super().__init__(keys, path, deadline, None, ttl, present=True)
        self._form = spell_form(None, ttl, refresh=True)

    def _settle(self, fence: Fence, refusal: ServerError) -> Verdict:
        # History holds no renewals.  Renewed once more from the state that is there
        # now, the ttl is what was asked for, whatever became of the other copies.
        return Verdict(unmoved=False, loose=True)


class FencedDelete(FencedWrite):
    """A fenced delete of a file; KeyNotFound if it is absent."""

    _needs_file = True

    def _send(self, fence: Fence) -> int:
        return self._keys.store(
            "DELETE",
            Asked(self._path, "compareAndDelete", fence.modified_index),
            f"?prevIndex={fence.modified_index}",
            None,
            index_of_write,
            resend=Resend.FENCED,
            deadline=self._deadline,
        )

    def _remember(self, index: int) -> None:
        self._client.fences.drop(self._path)

    def _is_ours(self, event: Result, fence: Fence) -> bool:
        return event.action == "compareAndDelete" and _replaced(event, fence)


def spell_condition(fence: Fence) -> tuple[str, str, int]:
    """Spell a state as the condition of a PUT.

    Returns:
        The rest of the query, what etcd takes the write for, and the index that
        the one of the write is above.
    """
    if fence.modified_index:
        condition = f"&prevIndex={fence.modified_index}"
        return condition, "compareAndSwap", fence.modified_index
    return "&prevExist=false", "create", fence.since


def _replaced(event: Result, fence: Fence) -> bool:
    before = event.prev_node
    return before is not None and before.modified_index == fence.modified_index
