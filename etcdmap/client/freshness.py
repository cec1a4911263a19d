"""How fresh reads are: what a client has seen of its cluster, and so can promise.

Theory of operation
-------------------
etcd's index only grows, and every answer tells it.  The client remembers the
highest one.  An answer with a lower index than was known when the call began
shows an older state than this client has seen or made: it is not used.  So
reads never go back in time and always see own writes, over failover too.

An index that stands still proves nothing: a member that is cut off from the
others goes on answering, and neither term nor index nor its own statistics show
it.  So once per `max_stale` a read asks for a quorum, which a member
can answer only in touch with the others.  A write that was acknowledged proves
the same.  A proof holds for all members: what shows an index that was proved at
some moment is no older than that moment, whoever answers.  So after a failover
reads go on at once, even while the members elect a leader.

A quorum answer is the truth.  If it is below the remembered index, the cluster
was restored or built anew (it can have the same cluster id): the client then
forgets what it knew, drops its cache and warns.
"""

from __future__ import annotations

import enum
import re
import threading
import warnings
from collections.abc import Callable

from etcdmap import forking
from etcdmap.client.request import API
from etcdmap.errors import ExchangeFailed, WrongCluster
from etcdmap.transport import Answer, Identity

#: Part of `max_stale` after which one thread renews the proof while the others
#: go on with plain reads.
_RENEW_AFTER = 0.75


class Need(enum.Enum):
    """Whether a session read must be a quorum read."""

    NO = "no"
    #: The last proof still counts: a plain read will do if this one is slow.
    BETTER = "better"
    YES = "yes"


class ClusterRebuilt(UserWarning):
    """The cluster's index went back, as after a restore from a backup or a rebuild."""


class StaleAnswer(ExchangeFailed):
    """An answer that is older than what this client has seen."""


class Freshness:
    """What one client has seen of its cluster through one API."""

    def __init__(self, api: API, max_stale: float, clock: Callable[[], float]) -> None:
        self._api = api
        self._max_stale = max_stale
        self._clock = clock
        #: Called when all that is remembered of keys may be wrong.
        self.on_rebuilt: list[Callable[[], object]] = []
        #: The highest index of the store that was seen.
        self.index = 0
        #: The id of the first cluster; None until it is known.
        self.cluster_id: str | None = None
        self._proved = self._failed = float("-inf")
        self._renewing = 0.0
        #: What a connection must have shown before a write leaves on it.
        self.identity = self._new_identity()
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Replace the lock: a thread that is not here may hold it."""
        self._lock = threading.Lock()

    # --- before a read

    def needs_proof(self) -> Need:
        """Tell whether a session read must be a quorum read now."""
        age = self._clock() - self._proved
        if age <= self._max_stale * _RENEW_AFTER:
            return Need.NO
        if age > self._max_stale:
            return Need.YES
        return Need.BETTER if self._take_renewal() else Need.NO

    def _take_renewal(self) -> bool:
        """Let one thread renew a proof that still counts."""
        now = self._clock()
        with self._lock:
            if now < self._renewing:
                return False
            self._renewing = now + self._max_stale * (1 - _RENEW_AFTER)
            return True

    # --- before a write

    def in_doubt(self) -> bool:
        """Tell whether something failed since the last proof of contact.

        A write that may not be sent twice would then be a risk: a member that hangs,
        or a leader that was replaced, may take it and never answer.
        """
        return self._proved < self._failed

    def failed(self) -> None:
        """Note that an endpoint gave no usable answer."""
        self._failed = self._clock()

    # --- after an answer that was understood

    def take(
        self, answer: Answer, floor: int, *, quorum: bool
    ) -> tuple[int, Identity | None]:
        """Learn from an answer that was understood, or refuse it.

        Returns:
            Its index, and the identity that its connection has shown, if any.

        Raises:
            StaleAnswer: its index is below the floor, that of when the call began.
            WrongCluster: it comes from another cluster than the first one, or does
                not tell from which.
        """
        api = self._api
        # Before the id is compared: `forget` may change both in between.
        identity: Identity | None = self.identity
        if api.cluster_of(answer) != self.cluster_id:
            identity = self.check_cluster(answer)
        index = api.index_of(answer)
        if index > self.index:
            with self._lock:
                self.index = max(self.index, index)
        elif 0 < index < floor:
            if not quorum:
                raise StaleAnswer(
                    f"an answer as of index {index}, older than {floor}, which this "
                    "client has seen",
                    sent=True,
                )
            self._start_anew(index)
        return index, identity

    def proved(self, since: float) -> None:
        """Note that the index known now is no older than this moment."""
        if since > self._proved:
            self._proved = since

    def check_cluster(self, answer: Answer) -> Identity | None:
        """Refuse another cluster's answer; the first one that vouches says which it is.

        Returns:
            The identity that its connection has shown, if it has shown one.

        Raises:
            WrongCluster: it is another one's, or does not tell whose.
        """
        shown = self._api.cluster_of(answer)
        if shown != self.cluster_id:
            if self.cluster_id is None and not self._api.vouches(answer):
                return None
            self._first_or_same(shown, answer)
        # In this order: `forget` may run between the two lines.
        identity = self.identity
        return identity if shown == self.cluster_id else None

    def _first_or_same(self, shown: str | None, answer: Answer) -> None:
        with self._lock:
            if self.cluster_id is None:
                self.cluster_id = shown
                # Connections that were looked at before proved nothing.
                self.identity = self._new_identity()
        if shown != self.cluster_id:
            whose = f"cluster {_shown(shown)}" if shown else "a cluster without an id"
            raise WrongCluster(
                f"{answer.endpoint} belongs to {whose}, and this client uses cluster "
                f"{_shown(self.cluster_id)}: remove this endpoint.  Only if the "
                "cluster was replaced on purpose, call client.forget_cluster()",
                endpoint=answer.endpoint,
                status=answer.status,
            )

    def _start_anew(self, index: int) -> None:
        with self._lock:
            if index >= self.index:
                return
            before, self.index = self.index, index
        self._drop_memories()
        warnings.warn(
            f"the cluster's index went back from {before} to {index}: the cluster was "
            "restored from a backup, or rebuilt.  This client has forgotten what it "
            "knew about the cluster",
            ClusterRebuilt,
            stacklevel=2,
        )

    def forget(self) -> None:
        """Forget which cluster it was and what was seen of it."""
        with self._lock:
            self.index = 0
            self.cluster_id = None
            self._proved = float("-inf")
            self.identity = self._new_identity()
        self._drop_memories()

    def _drop_memories(self) -> None:
        for drop in self.on_rebuilt:
            drop()

    def _new_identity(self) -> Identity:
        return self._api.identity(self.check_cluster)


def _shown(cluster_id: str | None) -> str:
    """Return an id for a message, if it is one: who answers may echo a password."""
    usual = re.fullmatch("[0-9A-Fa-f]{1,20}", str(cluster_id))
    return str(cluster_id) if usual else "with an odd id"
