"""What the client above needs of a transport."""

from __future__ import annotations

from typing import Any, Protocol

from etcdmap.models import Answer, Request

#: Answers above this many bytes are refused: a listing of 500,000 keys.
DEFAULT_MAX_RESPONSE = 64 * 1024 * 1024


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
            InvalidResponse: the answer is larger than the limit.
        """
        ...

    def close(self) -> None:
        """Close what is kept open; exchanges under way end as they would."""
        ...
