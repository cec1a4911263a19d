"""Requests that tests make by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from etcdmap.client import Resend
from etcdmap.transport import Answer
from etcdmap.v2.request import V2Request

T = TypeVar("T")


class Request(V2Request[T], Generic[T]):
    """A request of the v2 API whose answer is read by a function."""

    __slots__ = ("reader",)

    def __init__(
        self,
        method: str,
        target: str,
        reader: Callable[[Answer], T],
        body: bytes | None = None,
        resend: Resend = Resend.IF_NOT_SENT,
        kind: str = "write",
        consistency: str = "any",
        patient: bool = False,
        key: str | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.reader = reader
        self.body = body
        self.resend = resend
        self.kind = kind
        self.consistency = consistency
        self.patient = patient
        self.key = key

    def read(self, answer: Answer, /) -> T:
        """Return what the function makes of it."""
        return self.reader(answer)


@dataclass(slots=True)
class Asked:
    """What was asked for, where no request is needed."""

    key: str
    action: str | None = "get"
    after: int = 0
    bare: bool = False
    inside: bool = False
