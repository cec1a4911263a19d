"""What the client above needs of a transport."""

from __future__ import annotations

from typing import Any, Protocol

from etcdmap.models import Answer, Request
from etcdmap.transport.sockets import Waiting

#: Answers above this many bytes are refused: a listing of 500,000 keys.
DEFAULT_MAX_RESPONSE = 64 * 1024 * 1024


class Exchange(Protocol):
    """One request under way to one endpoint.

    It is used by one thread: whoever started it waits for it, or gives it up;
    one that is just dropped holds its connection until the deadline.
    """

    #: Whether there is an answer or a failure.
    ended: bool
    #: Whether the request may have reached the server.
    sent: bool

    @property
    def endpoint(self) -> str:
        """Who is asked."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for its end, and tell whether it has ended."""
        ...

    def result(self) -> Answer:
        """Wait for its end, by its deadline, and give the answer.

        Raises:
            ExchangeFailed: there was no whole answer in time, or it was given up.
            InvalidResponse: the answer is larger than the limit, or no HTTP.
        """
        ...

    def give_up(self) -> None:
        """Stop waiting.  What was sent may still be carried out."""
        ...

    # --- for `wait_any`

    def waiting(self) -> Waiting:
        """Tell what it waits for: a socket, and until when."""
        ...

    def advance(self) -> None:
        """Go on: what it waited for is there."""
        ...

    def overdue(self) -> None:
        """Go on: the time is over."""
        ...


class Transport(Protocol):
    """What the client needs to talk to one endpoint at a time."""

    def exchange(self, endpoint: str, request: Request[Any], timeout: float) -> Answer:
        """Send a request to an endpoint and read the whole answer.

        Args:
            endpoint: scheme, host and port, without a trailing slash.
            request: what to send.
            timeout: seconds until it gives up, connecting included.

        Raises:
            ExchangeFailed: there was no whole answer in time.
            InvalidResponse: the answer is larger than the limit, or no HTTP.
        """
        ...

    def close(self) -> None:
        """Close what is kept open; exchanges under way end as they would."""
        ...


class StartingTransport(Transport, Protocol):
    """A transport that one thread can use for several exchanges at a time."""

    def start(self, endpoint: str, request: Request[Any], timeout: float) -> Exchange:
        """Send a request, and give the exchange instead of waiting for its end.

        What goes wrong is the exchange's `result` to raise.
        """
        ...

    def distrust(self, endpoint: str) -> None:
        """Use none of the connections to an endpoint again: nonsense came on one.

        Never raises: the caller has an error to tell already.
        """
        ...
