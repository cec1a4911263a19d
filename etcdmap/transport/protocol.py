"""What the client asks of a transport, and the values that pass between the two."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from etcdmap.transport.polling import Waiting

#: Bytes; larger answers are refused, so that no server can fill the memory.
DEFAULT_MAX_RESPONSE = 64 * 1024 * 1024
#: Bytes of an answer that says no, beside what it may quote of the request.
MAX_REFUSAL = 64 * 1024
#: A byte of a request in an answer: percent-encoded three, in JSON six.
_QUOTED = 6


@dataclass(slots=True, repr=False)
class Answer:
    """One HTTP answer, read to its end; header names are in lower case.

    It is not frozen, so that who has read a large body can let go of it: the bytes,
    their text and what is made of it would be in memory together.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: str
    memo: int | None = field(default=None, init=False, compare=False)  # the reader's
    #: How long it may take to read it.
    seconds: float = field(default=math.inf, init=False, compare=False)

    def __repr__(self) -> str:  # without the body, which may hold secrets
        return f"<Answer {self.status} of {self.endpoint}, {len(self.body)} bytes>"

    @property
    def redirects_to(self) -> str | None:
        """The URL that the same request is to be sent to instead (307), if any."""
        return self.headers.get("location", "") if self.status == 307 else None


class Request(Protocol):
    """What is sent."""

    method: str
    #: Path and query, quoted, as they go on the wire.
    target: str
    #: A URL-encoded form, or None.
    body: bytes | None

    @property
    def max_answer(self) -> int | None:
        """Bytes of the largest answer that can be meant, if that is below the limit."""


def limit_of(request: Request, status: int, limit: int) -> int:
    """Return the most bytes to take of an answer, which begins with a status."""
    if request.max_answer is not None:
        limit = min(limit, request.max_answer)
    # 412 (Precondition Failed) may quote what is there.
    if status < 300 or status == 412:
        return limit
    quoted = _QUOTED * (len(request.target) + len(request.body or b""))
    return min(limit, MAX_REFUSAL + quoted)


class Identity(Request, Protocol):
    """A question about the server that a connection must have answered as expected.

    It is asked on each new connection, before anything else is sent there.
    """

    def read(self, answer: Answer, /) -> object:
        """Return the `Identity` that was shown: a new one if none was expected.

        Raises:
            EtcdMapError: the server is another one, and nothing more is sent to it.
        """


class Opening(NamedTuple):
    """A short request to send first on a new connection, before one that is long."""

    request: Request
    #: Bytes of the longest target that may come first.
    longest: int


@dataclass(frozen=True, kw_only=True, repr=False)  # no repr shows the password
class Settings:
    """How to connect, and what to accept."""

    #: Seconds for a new connection, TLS included.
    connect_timeout: float = 1.0
    #: For HTTP basic auth; None for no auth.
    username: str | None = None
    password: str | None = None
    #: True for the CAs that requests brings along, the path of a bundle or of a
    #: directory of CAs, or False to verify nothing.
    verify: bool | str = True
    #: Path of a client certificate, or a pair (certificate, key).
    cert: str | tuple[str, str] | None = None
    #: Limit for the body of an answer, bytes.
    max_response: int = DEFAULT_MAX_RESPONSE
    opening: Opening | None = None

    def __post_init__(self) -> None:
        """Refuse credentials that can't be sent, by a text that does not show them.

        Raises:
            ValueError: a password without a username, or a colon in the username.
        """
        if self.username is None and self.password is not None:
            raise ValueError("a password goes with a username: give both")
        if ":" in (self.username or ""):
            raise ValueError("username can't hold ':', where basic auth ends it")


class Exchange(Protocol):
    """One request under way to one endpoint.

    One thread uses it; only `cancel` may come from others.  It must be waited for or
    given up: one that is just dropped holds its connection until the deadline.
    """

    #: Whether there is an answer or a failure.
    ended: bool
    #: Whether the server may have seen the request.  Final once the exchange has ended.
    sent: bool

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for the end, and return whether it has come."""

    def result(self) -> Answer:
        """Wait for the end, which comes by the deadline, and return the answer.

        Raises:
            ExchangeFailed: there was no whole answer in time, or it was given up.
            InvalidResponse: the answer is larger than the limit, or is not HTTP.
            EtcdMapError: as `Identity.read` raised it.
        """

    def give_up(self) -> None:
        """Stop waiting.  What was sent may still be carried out."""

    def cancel(self) -> None:
        """Make it end now, from any thread: whoever waits for it is woken."""

    def showed(self, identity: Identity) -> None:
        """Note that the answer itself showed who the server is."""

    # --- for `wait_any`

    def waiting(self) -> Waiting | None:
        """Return the socket that it waits for, and until when; None at the end."""

    def advance(self, *, late: bool = False) -> None:
        """Go on, as the socket is ready, or as it is too late for that."""


class Transport(Protocol):
    """Exchanges with any endpoint, any number of them at once."""

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> Exchange:
        """Begin to send a request, without waiting; `result` raises what goes wrong.

        Args:
            endpoint: scheme, host and port, without a trailing slash.
            request: what to send.
            timeout: seconds until it ends at the latest, connecting included.
            identity: what the connection must have shown before.

        Raises:
            ClientClosed: `close` was called.
        """

    def distrust(self, endpoint: str) -> None:
        """Use none of the connections to an endpoint again, as nonsense came on one.

        Never raises: the caller has an error to tell already.
        """

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Close and forget what is kept for any other endpoint.

        Exchanges under way there go on, and leave nothing behind.
        """

    def close(self) -> None:
        """Close what is kept open, and end the exchanges under way."""


class Cancellable(Protocol):
    """What waits, and can be ended from another thread."""

    def cancel(self) -> None:
        """Make it end now."""


class BlockingTransport(Protocol):
    """What can only send a request and wait; `wrapped` makes a `Transport` of it."""

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Send a request to an endpoint, and return the answer.

        Raises:
            ExchangeFailed: there was no whole answer in time.
            InvalidResponse: the answer is larger than the limit, or is not HTTP.
        """

    def close(self) -> None:
        """Close what is kept open."""
