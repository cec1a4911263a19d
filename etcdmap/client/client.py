"""The failover client: which endpoints there are, and which one is in use.

Theory of operation
-------------------
One endpoint is *pinned*: every request goes there while it works, so that a
client needs few sockets and reads one member's history.  The endpoints were
shuffled once, so that many clients spread over the members.

What happens to one request is in `call`: attempts, copies, deadline.  What that
tells of the endpoints is in `endpoint_health`, and what reads promise over several
of them in `freshness`.

Threads share one client.  Endpoints and pinned are one immutable `State`,
replaced under a lock that is never held during I/O; two threads that fail over
at the same time at worst pin one after the other.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, TypeVar

from etcdmap import forking
from etcdmap.client.call import Call
from etcdmap.client.endpoint_health import Health, Policy
from etcdmap.client.freshness import Freshness
from etcdmap.client.options import clean_endpoints, positive_seconds
from etcdmap.client.request import API, Request
from etcdmap.errors import EtcdMapError, InvalidResponse
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.marks import alters_data
from etcdmap.transport import BlockingTransport, Transport, wrapped

T = TypeVar("T")

#: A healthy cluster elects within 1 to 2 s; etcd gives up on a write after 7 s.
DEFAULT_TIMEOUT = 5.0
#: Longest sync of `auto_sync`, seconds: it holds up a call that has its result already.
_SYNC_TIMEOUT = 1.0
#: How old a session read may be, seconds.
DEFAULT_MAX_STALE = 2.0


class State(NamedTuple):
    """What threads share; never changed, only replaced."""

    endpoints: tuple[str, ...]
    pinned: str


class Client(contextlib.AbstractContextManager["Client"]):
    """Sends requests to a cluster, through whichever of its endpoints works.

    `connect` makes it, and takes its options.

    Threads: any number of threads can share one client.  A forked child may go on using
    it.
    """

    #: The API that `sync` asks for the members; `etcdmap.connecting` sets it.
    api: ClassVar[API]

    def __init__(
        self,
        endpoints: str | Iterable[str],
        transport: Transport | BlockingTransport,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        shuffle: bool = True,
        max_stale: float = DEFAULT_MAX_STALE,
        policy: Policy | None = None,
        auto_sync: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
        recipe: tuple[Any, ...] | None = None,
    ) -> None:
        """Make a client; `connect` has the options that are not explained here.

        ``transport`` carries the exchanges, and is closed with the client.  A transport
        that can only block (``exchange``, ``close``) needs a thread for each exchange.
        ``clock`` returns the time in seconds; like ``sleep`` and ``rng``, it is for
        tests.  ``recipe`` is what ``__reduce__`` returns; with None, the client can't
        be pickled.
        """
        self.timeout = positive_seconds("timeout", timeout)
        self.rng = rng or random.Random()
        known = clean_endpoints(endpoints)
        if shuffle:
            known = tuple(self.rng.sample(known, len(known)))
        self.state = State(known, known[0])
        self._given = known
        if auto_sync is not None:
            auto_sync = positive_seconds("auto_sync", auto_sync)
        self._auto_sync = auto_sync
        self._next_sync = clock()
        self.policy = policy or Policy()
        self.health = Health(self.policy, clock)
        self._max_stale = positive_seconds("max_stale", max_stale)
        self._freshness: dict[API, Freshness] = {}
        #: A place for objects that the stores above share; not read here.
        self.stores: dict[str, Any] = {}
        #: Called by `close`, to end threads that would go on with a closed client.
        self.on_close: list[Callable[[], object]] = []
        self.transport = wrapped(transport)
        self.clock = clock
        self._given_sleep = sleep
        self._recipe = recipe
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Replace locks: threads that did not survive the fork may hold them."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        #: Waits for some seconds, or until the client is closed.
        self.sleep = self._given_sleep or self._closing.wait

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints that the client knows, in the order in which it tries them."""
        return self.state.endpoints

    @property
    def pinned(self) -> str:
        """The endpoint that the client tries first with the next request."""
        return self.state.pinned

    @alters_data
    def send(self, request: Request[T], *, timeout: float | None = None) -> T:
        """Send a request to the cluster; return the decoded answer.

        Args:
            request: says what to send, whether it may be sent again, and how its answer
                is decoded.
            timeout: deadline of this call, in seconds; None for the client's timeout.

        Raises:
            ServerError: etcd refused the request.
            InvalidResponse: all endpoints answer, but none of them as etcd does.
            ClusterUnavailable: no endpoint could be used; the request was not applied.
            DeadlineExceeded: the time was over, and an endpoint had not answered yet;
                the request was not applied.
            OutcomeUnknown: a server may have received the write; the ``attempts`` of
                the error say what happened.

        Cost: 1 request; more only when endpoints fail.
        """
        return self.send_by(self.deadline(timeout), request)

    def deadline(self, timeout: float | None = None) -> float:
        """Return the time, on the client's clock, by which a call from now must end."""
        if timeout is None:
            return self.clock() + self.timeout
        return self.clock() + positive_seconds("timeout", timeout)

    @alters_data
    def send_by(self, deadline: float, request: Request[T]) -> T:
        """Do what `send` does, for a call of several requests with one deadline."""
        try:
            result: T = Call(self, request, deadline).run()
        except EtcdMapError as error:
            # The message is complete; frames from inside a call would only bury it.
            raise error.with_traceback(None) from error.__cause__
        if self._auto_sync is not None and self.clock() >= self._next_sync:
            self._sync_in_passing(self._auto_sync, deadline)
        return result

    @alters_data
    def sync(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Ask the cluster for the endpoints of its members, and use these from now on.

        The endpoints that you gave are kept.  If all of them are https, only https
        endpoints are added.  Don't use this method if the cluster is behind a proxy or
        an address translation: the members report addresses that are valid on their own
        side, and that your program may not be able to reach.

        Other endpoints are dropped if the cluster no longer reports them.  The
        connections to these endpoints are closed, except those of a
        ``requests.Session``.  A call that is still using a connection to such an
        endpoint goes on.

        The errors are those of `send`; `InvalidResponse` is also raised if the cluster
        reports more than 100 URLs.

        Returns:
            The endpoints that the client uses from now on.

        Cost: 1 request; 2 if the server knows only an older form of this request.
        """
        deadline = self.deadline(timeout)
        learnt = self._members(deadline)
        with self._lock:
            known, pinned = self.state
            endpoints = _with_learnt(self._given, learnt, known)
            if pinned not in endpoints:
                pinned = endpoints[0]
            self.state = State(endpoints, pinned)
        # Even if nothing has changed: a call that began before an earlier sync may have
        # gone to an endpoint that was dropped then.
        self.health.keep_only(endpoints)
        self.transport.keep_only(endpoints)
        return endpoints

    def _members(self, deadline: float) -> tuple[str, ...]:
        refusal: InvalidResponse | None = None
        for request in self.api.members():
            if refusal is not None and self.clock() >= deadline:
                break
            try:
                learnt: tuple[str, ...] = Call(self, request, deadline).run()
                return learnt
            except InvalidResponse as error:
                refusal = refusal or error
        raise refusal or AssertionError("unreachable")

    def _sync_in_passing(self, every: float, deadline: float) -> None:
        """Sync in the time that a call has left, unless another thread does so."""
        left = min(deadline - self.clock(), _SYNC_TIMEOUT)
        if left <= 0:
            return
        with self._lock:
            if self.clock() < self._next_sync:
                return
            self._next_sync = self.clock() + every
        with contextlib.suppress(EtcdMapError):
            self.sync(timeout=left)

    @alters_data
    def close(self) -> None:
        """Close the connections and end the calls that are under way.

        If another thread is waiting for the answer to a write, `OutcomeUnknown` is
        raised in that thread.  Later calls raise `ClientClosed`.
        """
        for end in self.on_close:
            end()
        self._closing.set()
        self.transport.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {list(self.endpoints)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._recipe is None:
            raise TypeError(
                "a client with a session or transport of your own can't be pickled; "
                "make the mapping in the process that uses it"
            )
        return self._recipe

    @alters_data
    def forget_cluster(self) -> None:
        """Accept the cluster that answers next as the right one.

        Call this when the cluster was replaced on purpose.  The new cluster has another
        id, so without a call of this method, each request would raise `WrongCluster`.
        """
        for freshness in list(self._freshness.values()):
            freshness.forget()

    # --- for calls

    def freshness(self, api: API) -> Freshness:
        """Return what was seen of the cluster through an API."""
        found = self._freshness.get(api)
        if found is None:
            new = Freshness(api, self._max_stale, self.clock)
            found = self._freshness.setdefault(api, new)
        return found

    def order(self) -> tuple[str, ...]:
        """Return the endpoints in the order to try them now."""
        endpoints, pinned = self.state
        return self.health.order(endpoints, pinned)

    @alters_data
    def pin(self, endpoint: str) -> None:
        """Have the next requests go to this endpoint first."""
        with self._lock:
            if endpoint in self.state.endpoints:
                self.state = self.state._replace(pinned=endpoint)


def _with_learnt(
    given: tuple[str, ...], learnt: tuple[str, ...], known: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the endpoints to use from now on; those known already keep their order.

    The endpoints that the user gave are always kept: after an outage they may be the
    only way back.  If all of them are https, only https endpoints are added.
    """
    if all(endpoint.startswith("https:") for endpoint in given):
        learnt = tuple(url for url in learnt if url.startswith("https:"))
    wanted = dict.fromkeys((*given, *learnt))
    kept = [endpoint for endpoint in known if endpoint in wanted]
    return tuple(dict.fromkeys((*kept, *wanted)))
