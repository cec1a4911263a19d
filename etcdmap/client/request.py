"""Requests, and all that a client must know of the API of etcd that they speak."""

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
    #: At most one of its copies can be carried out, since each names the state that
    #: it replaces.  Which copy an answer belongs to is for the sender to find out.
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
        """Tell whether an answer can only come from a member in touch with the others.

        Which cluster it is can't be learnt from any other answer.
        """

    @abstractmethod
    def identity(self, check: Callable[[Answer], object]) -> Identity:
        """Return the request that asks an endpoint which cluster it belongs to.

        Args:
            check: gets an answer that is etcd's; raises if it is another cluster's,
                and returns the identity that it shows.
        """

    @abstractmethod
    def members(self) -> Iterable[Request[tuple[str, ...]]]:
        """Return the requests that list the members' URLs, in the order to try."""


class Request(ABC, Generic[T]):
    """One request to whichever endpoint answers."""

    # Slots, and no dataclass: every call makes one, so it must be cheap.
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
    #: Bytes of the largest answer that can be meant; None for all that a store holds.
    max_answer: ClassVar[int | None] = None
    method: str
    target: str  # path and query, quoted, as they go on the wire
    body: bytes | None
    resend: Resend
    #: Latencies are measured for each kind: "get", "list", "write", "quorum", "watch",
    #: "members" (see `API.members`), "contact" (see `contact`).
    kind: str
    #: Of a read: "session", "linearizable" (sent with a quorum already), or "any".
    consistency: str
    patient: bool  # whether its answer is late by design, as a watch's is
    key: str | None  # the absolute path, for messages

    @abstractmethod
    def read(self, answer: Answer, /) -> T:
        """Return what an answer means.

        Raises:
            ServerError: etcd refused the request.
            InvalidResponse: the answer is not etcd's, or to another request.
        """

    @abstractmethod
    def with_quorum(self) -> Request[T]:
        """Return the same read as a quorum read."""

    @abstractmethod
    def contact(self) -> Request[object]:
        """Return a quorum read that shows before this write that members are in touch.

        Of a place that whoever may send this write can most likely read.
        """

    def __repr__(self) -> str:
        # Neither query nor body: they hold values, which may not reach a log.
        return f"<Request {self.method} {self.target.partition('?')[0]}>"
