"""A request as a call sees it, and what the API that it speaks tells a client.

A client knows no API of etcd: what an answer says of the index, the cluster and a
refusal, and how a request is asked with a quorum, comes with the request.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Generic, TypeVar

from etcdmap.transport import Answer, Identity

T = TypeVar("T")


class Resend(enum.Enum):
    """Whether a request may be sent again after it may have been received."""

    #: Carrying it out twice is the same as once: reads.
    ALWAYS = "always"
    #: At most one of its copies can be carried out, since each names the state
    #: that it replaces; but which answer belongs to which copy must be settled.
    FENCED = "fenced"
    #: Only while it is certain that no server has seen it: other writes.
    IF_NOT_SENT = "if not sent"


class API(ABC):
    """One API of etcd, as far as a client must know it.  Has no state."""

    @abstractmethod
    def index_of(self, answer: Answer) -> int:
        """Return the index of the store that an answer tells; 0 where none is told."""

    @abstractmethod
    def cluster_of(self, answer: Answer) -> str | None:
        """Return the id of the cluster that an answer tells, if it does."""

    @abstractmethod
    def vouches(self, answer: Answer) -> bool:
        """Tell whether an answer can only come from a member, and one in touch.

        From others nothing is learnt of the cluster.
        """

    @abstractmethod
    def identity(self, check: Callable[[Answer], object]) -> Identity:
        """Return what asks an endpoint of which cluster it is.

        Args:
            check: gets an answer that is etcd's; raises if it is another cluster's,
                and returns the identity that it shows.
        """

    @abstractmethod
    def members(self) -> Iterable[Request[tuple[str, ...]]]:
        """Return the requests that list the members' URLs, in the order to try."""


class Request(ABC, Generic[T]):
    """One request to whichever endpoint answers.

    Attributes:
        method: the HTTP method.
        target: path and query, quoted, as they go on the wire.
        body: a form, or None.
        resend: whether it may be sent again after it may have been received.
        kind: requests of one kind take about the same time: "get", "list",
            "write", "quorum"; for "members" and "contact" see `Call`.
        consistency: for a read: "session", "linearizable" (then it is asked with
            a quorum), or "any".
        patient: whether its answer is late by design, as a watch's is.
        key: the absolute path asked for, for messages.
    """

    # No dataclass, and slots: one is made for every call.
    __slots__ = (
        "body",
        "consistency",
        "key",
        "kind",
        "method",
        "patient",
        "resend",
        "target",
    )

    api: ClassVar[API]
    method: str
    target: str
    body: bytes | None
    resend: Resend
    kind: str
    consistency: str
    patient: bool
    key: str | None

    @abstractmethod
    def read(self, answer: Answer, /) -> T:
        """Return what an answer means.

        Raises:
            ServerError: etcd refused the request.
            InvalidResponse: the answer is not etcd's, or to another request.
        """

    @abstractmethod
    def with_quorum(self) -> Request[T]:
        """Return the same read, for the cluster to agree on."""

    @abstractmethod
    def contact(self) -> Request[object]:
        """Return a read of nothing that the cluster must agree on, before this write.

        Who may send the one should be allowed the other.
        """

    def __repr__(self) -> str:
        # The query and the body hold values; neither may reach a log.
        return f"<Request {self.method} {self.target.partition('?')[0]}>"
