"""How the endpoints do: latencies, failures, rests, and when to ask another one.

Threads share it without a lock: at worst a sample is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from etcdmap.client.options import positive_int, positive_seconds


@dataclass(frozen=True)
class Policy:
    """When to try again, and when to ask the next endpoint as well.

    All values are in seconds, except ``hedge_share`` and ``overtakes``.  The client
    measures how long answers take, separately for each kind of request: writes, reads
    of one key, listings, quorum reads.

    Attributes:
        first_delay: how long to wait for an answer before the next endpoint is asked as
            well.  This applies until an answer to the same kind of request has been
            measured; later, the client waits for as long as nearly all answers take.
        read_floor: the shortest such delay for reads, after answers have been measured.
        write_floor: the shortest such delay for writes, after answers have been
            measured.
        hedge_share: while nothing fails, at most this share of the requests is also
            sent to a second endpoint.
        quiet: if no request of a kind has been answered for this time, ``hedge_share``
            no longer limits the extra requests of this kind.  If four times the delay
            before the client asks the next endpoint is longer than this time, the limit
            ends only after four times that delay.
        again: if no endpoint answers, how long to wait before another copy of the
            request is sent to one of them.  The earlier copies may have been lost in an
            election.
        first_pause: the pause that a call makes when it has tried each endpoint twice.
            The pause doubles with each further round of attempts.
        longest_pause: the longest such pause.
        first_rest: for how long an endpoint that has failed is tried only after the
            others.  This time doubles with each further failure in a row.
        longest_rest: the longest such time.
        overtakes: how many times in a row another endpoint must be quicker than the
            endpoint that is tried first, before the client changes to the quicker one.
    """

    first_delay: float = 1.0
    read_floor: float = 0.02
    write_floor: float = 0.1
    hedge_share: float = 0.05
    quiet: float = 0.5
    again: float = 0.3
    first_pause: float = 0.05
    longest_pause: float = 0.5
    first_rest: float = 0.1
    longest_rest: float = 5.0
    overtakes: int = 2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("hedge_share", "overtakes"):
                positive_seconds(name, value)
        positive_int("overtakes", self.overtakes)
        share = self.hedge_share
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(f"hedge_share is a number, not {type(share).__name__}")
        if not 0 <= share <= 1:
            raise ValueError(f"hedge_share is from 0 to 1, not {share!r}")


#: Extra requests that may be sent in a burst before the share counts.
_BURST = 10.0


class Health:
    """What a client knows of its endpoints."""

    def __init__(self, policy: Policy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        #: Seconds for which a call just waits: no second copy is ever sent earlier.
        self.least_delay = min(policy.read_floor, policy.write_floor, policy.again)
        self._latencies: dict[str, _Latency] = {}
        self._rests: dict[str, tuple[float, float]] = {}  # length, end
        self._overtaken: dict[str, int] = {}
        self._answered: dict[str, float] = {}
        self._began = clock()
        self._hedges_left = _BURST

    # --- what happened

    def answered(self, endpoint: str, kind: str, began: float) -> None:
        """Note an answer that could be used, to a request that began at a time."""
        latency = self._latencies.get(kind)
        if latency is None:
            latency = self._latencies[kind] = _Latency()
        self._answered[kind] = now = self._clock()
        latency.add(now - began)
        if self._rests or self._overtaken:
            self._rests.pop(endpoint, None)
            self._overtaken.pop(endpoint, None)

    def failed(self, endpoint: str) -> None:
        """Note that an endpoint gave no usable answer: it rests."""
        before, _ = self._rests.get(endpoint, (0.0, 0.0))
        policy = self._policy
        length = min(max(2 * before, policy.first_rest), policy.longest_rest)
        self._rests[endpoint] = (length, self._clock() + length)

    def overtaken(self, endpoint: str) -> bool:
        """Note that another endpoint was quicker; tell whether to leave this one."""
        count = self._overtaken.get(endpoint, 0) + 1
        self._overtaken[endpoint] = count
        return count >= self._policy.overtakes

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Forget what is known of any other endpoint."""
        for known in (self._rests, self._overtaken):
            for endpoint in list(known):
                if endpoint not in endpoints:
                    known.pop(endpoint, None)

    # --- what to do

    def order(self, endpoints: tuple[str, ...], pinned: str) -> tuple[str, ...]:
        """Return the endpoints in the order to try them.

        The pinned one first, the others as they follow it; those that rest come
        last, the one that has rested longest before the others.
        """
        at = endpoints.index(pinned)
        order = endpoints[at:] + endpoints[:at]
        if not self._rests:
            return order
        now = self._clock()
        ends = {endpoint: end for endpoint, (_, end) in list(self._rests.items())}
        # A rest that is over counts as none; sorting keeps the order of equals.
        return tuple(sorted(order, key=lambda e: max(ends.get(e, 0.0) - now, 0.0)))

    def delay(self, kind: str) -> float:
        """Return the seconds after which the next endpoint is asked as well."""
        policy = self._policy
        latency = self._latencies.get(kind)
        if latency is None:
            return policy.first_delay
        floor = policy.write_floor if kind == "write" else policy.read_floor
        return max(floor, latency.long())

    def may_hedge(self, kind: str) -> bool:
        """Tell whether an extra request may be sent, and count it.

        When nothing of a kind has been answered for a while, something is broken, and
        the budget does not count.  A cluster that is just busy goes on answering.
        """
        silence = self._clock() - self._answered.get(kind, self._began)
        if silence > max(self._policy.quiet, 4 * self.delay(kind)):
            return True
        if self._hedges_left < 1.0:
            return False
        self._hedges_left -= 1.0
        return True

    def count_request(self) -> None:
        """Note a request, which earns a share of an extra one."""
        if self._hedges_left < _BURST:
            self._hedges_left += self._policy.hedge_share


class _Latency:
    """A running mean and deviation, as TCP keeps them for its timer (RFC 6298)."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    def add(self, seconds: float) -> None:
        """Add a sample."""
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
            return
        off = seconds - self._mean
        self._mean += off / 8
        self._deviation += (abs(off) - self._deviation) / 4

    def long(self) -> float:
        """Return a time that few answers exceed."""
        return self._mean + 4 * self._deviation
