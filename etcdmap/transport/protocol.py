"""What the client above needs of a transport, and what passes between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from etcdmap.transport.polling import Waiting

#: Answers above this many bytes are refused: a listing of 500,000 keys.
DEFAULT_MAX_RESPONSE = 64 * 1024 * 1024


@dataclass(slots=True, repr=False)
class Answer:
    """One HTTP answer, read to its end.

    Header names are in lower case.  Not frozen: who has read a large body lets go
    of it, since the text, what is made of it and the body are large together.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: str

    def __repr__(self) -> str:
        # The body holds values.
        return f"<Answer {self.status} of {self.endpoint}, {len(self.body)} bytes>"

    @property
    def redirects_to(self) -> str | None:
        """The URL that the same request is to be sent to instead (307), if any."""
        return self.headers.get("location", "") if self.status == 307 else None


class Request(Protocol):
    """What is sent.

    Attributes:
        method: the HTTP method.
        target: path and query, quoted, as they go on the wire.
        body: a URL-encoded form, or None.
    """

    method: str
    target: str
    body: bytes | None


class Identity(Request, Protocol):
    """What a connection must have shown before a request may leave on it.

    It is asked first, on a connection that has not been asked it.
    """

    def read(self, answer: Answer, /) -> object:
        """Return the identity that was shown, another one where it was not known.

        Raises:
            EtcdMapError: something else was shown; nothing more is sent then.
        """


class Opening(NamedTuple):
    """What a connection is opened with, before a first request that is too long.

    Attributes:
        request: costs the server nothing.
        longest: targets above so many bytes must not come first.
    """

    request: Request
    longest: int


class Exchange(Protocol):
    """One request under way to one endpoint.

    It is used by one thread, but for `cancel`: whoever began it waits for it, or
    gives it up; one that is just dropped holds its connection until the deadline.
    """

    #: Whether there is an answer or a failure.
    ended: bool
    #: Whether the request may have reached the server.  Once the exchange has ended
    #: this does not change any more.
    sent: bool

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for its end, and tell whether it has ended."""

    def result(self) -> Answer:
        """Wait for its end, by its deadline, and return the answer.

        Raises:
            ExchangeFailed: there was no whole answer in time, or it was given up.
            InvalidResponse: the answer is larger than the limit, or no HTTP; or
                what had to be shown first was not.
        """

    def give_up(self) -> None:
        """Stop waiting.  What was sent may still be carried out."""

    def cancel(self) -> None:
        """Make it end now, from any thread: whoever waits for it is woken."""

    def showed(self, identity: Identity) -> None:
        """Note that its answer showed what was to be shown."""

    # --- for `wait_any`

    def waiting(self) -> Waiting | None:
        """Tell what it waits for: a socket, and until when; None if it has ended."""

    def advance(self, *, late: bool = False) -> None:
        """Go on: what it waited for is there, or it is too late for that."""


class Transport(Protocol):
    """Exchanges with one endpoint at a time, any number of them at once."""

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> Exchange:
        """Begin to send a request; never wait.

        What goes wrong is the exchange's `result` to raise.

        Args:
            endpoint: scheme, host and port, without a trailing slash.
            request: what to send.
            timeout: seconds until it ends at the latest, connecting included.
            identity: what the connection must have shown before.

        Raises:
            ClientClosed: `close` was called.
        """

    def distrust(self, endpoint: str) -> None:
        """Use none of the connections to an endpoint again: nonsense came on one.

        Never raises: the caller has an error to tell already.
        """

    def close(self) -> None:
        """Close what is kept open, and end the exchanges under way."""


class BlockingTransport(Protocol):
    """What can only send a request and wait; `wrapped` makes a `Transport` of it."""

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Send a request to an endpoint and read the whole answer.

        Raises:
            ExchangeFailed: there was no whole answer in time.
            InvalidResponse: the answer is larger than the limit, or no HTTP.
        """

    def close(self) -> None:
        """Close what is kept open."""
