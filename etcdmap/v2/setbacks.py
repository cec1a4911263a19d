"""What goes wrong in a row while a tree is followed, and what follows from it.

How long to wait for answers, and before the next attempt; and from when on it is an
outage, and not only an election or a member that another one can stand in for.
"""

from __future__ import annotations

from etcdmap.client import Client
from etcdmap.errors import (
    ClientClosed,
    EtcdMapError,
    ExchangeFailed,
    Unauthorized,
    V2NotEnabled,
    WrongCluster,
)

#: Seconds for which members may be electing a leader, which is no outage yet.
ELECTION = 2.0
#: Seconds for the member to answer what needs no other member.  More where it is far
#: away: as many times as long as an answer took.
PATIENCE, _TIMES = 1.0, 4
#: The least seconds for an event to come by itself; more where answers take long.
_MOMENT = 0.01
#: Seconds over which replicas spread that read the tree for the same reason.
_SPREAD = 0.05
#: Seconds of pause when no member can be followed: the first one, and the longest.
_FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Setbacks:
    """The failures in a row of a follower; one thread uses it."""

    #: When the first of the failures was.
    _since = 0.0

    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        #: Seconds to wait for an answer that needs no other member.
        self.patience = PATIENCE
        #: Seconds for an event to come by itself before a barrier asks for it.
        self.moment = _MOMENT
        #: How often something failed, for good, or in time; track was lost; a proof did
        #: not come about.
        self.failures = self._slow = self.losses = self._unproved = 0
        #: The members that refuse for good.
        self.refusing: set[str] = set()

    def note_speed(self, took: float) -> None:
        """Learn from the seconds that a member took to answer."""
        self._slow, self.moment = 0, max(_MOMENT, 2 * took)
        self.patience = self._bounded(_TIMES * took)

    def note_proof(self) -> None:
        """All is well again."""
        self.failures = self.losses = self._unproved = 0

    def note_failure(
        self, error: EtcdMapError, endpoint: str, *, of_member: bool
    ) -> bool:
        """Count a failure, of the member or of the connection; tell if it is trouble.

        Else another member may do, or a proxy or a restart ended what had worked; or
        they are electing a leader.
        """
        count, now = len(self._client.endpoints), self._client.clock()
        if not self.failures:
            self._since = now
        self.failures += 1
        lasts = _will_last(error)
        (self.refusing.add if lasts else self.refusing.discard)(endpoint)
        if of_member and isinstance(error, ExchangeFailed) and error.timed_out:
            self._slow += 1  # is none of them there, or are all far away?
            slow = max(0, self._slow // count - 1)
            self.patience = self._bounded(PATIENCE * 2 ** min(slow, 10))
        for_long = lasts or now - self._since >= ELECTION
        again = of_member or self.failures > 1
        return self.failures >= count and for_long and again

    @property
    def most_refuse(self) -> bool:
        """Whether most members refuse for good.

        One does not suffice: a member that is cut off does not know new users.
        """
        endpoints = self._client.endpoints
        return 2 * len(self.refusing.intersection(endpoints)) > len(endpoints)

    # --- pauses, in seconds

    def before_next_attempt(self) -> float:
        """Return the pause since the last attempt began."""
        count = len(self._client.endpoints)
        if self.failures <= count:
            return 0.0
        pause = _backoff(_FIRST_PAUSE, self.failures // count)
        return pause * self._client.rng.uniform(0.5, 1.0)

    def before_next_proof(self) -> float:
        """Return the pause after a proof that did not come about."""
        self._unproved += 1
        return _backoff(self.moment, self._unproved - 1)

    def before_next_reading(self) -> float:
        """Return the pause after track was lost.

        So that not all replicas of a cluster that was wiped read at once; and ever less
        often where the history is gone before anybody can ask for it.
        """
        pause = _backoff(_SPREAD, self.losses) * self._client.rng.random()
        self.losses += 1
        return pause

    def _bounded(self, patience: float) -> float:
        return min(max(PATIENCE, patience), max(PATIENCE, self._timeout))


def _backoff(first: float, times: int) -> float:
    pause: float = first * 2 ** min(times, 10)
    return min(pause, LONGEST_PAUSE)


def _will_last(error: EtcdMapError) -> bool:
    if isinstance(error, ExchangeFailed):
        return error.lasting
    return isinstance(error, (ClientClosed, Unauthorized, V2NotEnabled, WrongCluster))
