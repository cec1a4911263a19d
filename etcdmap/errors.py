"""Every exception of the library.

::

    EtcdMapError
      ServerError
        KeyNotFound (KeyError), CompareFailed, NotAFile, NotADirectory, KeyExists,
        RootReadOnly, DirectoryNotEmpty, Unauthorized, InvalidRequest, RaftError,
        WatchExpired
      RequestFailed
        ClusterUnavailable, DeadlineExceeded (TimeoutError), OutcomeUnknown
      InvalidResponse
        V2NotEnabled, WrongCluster
      InvalidKey (ValueError), DirectoryGone (ValueError), LimitExceeded (ValueError),
      DecodeError (ValueError), PrefixRequired (ValueError), ReadOnly (TypeError),
      ClientClosed (RuntimeError), PartialWrite, CredentialsMissing, LocalClusterError

Arguments of the wrong type or range raise Python's own ``TypeError`` and
``ValueError``, before any request.  If a value or key can't be stored, these errors
have ``.refusals``, as `InvalidKey` has.

The only ``KeyError`` is "this key is absent".  ``get``, ``in``, and ``pop`` with a
default swallow every ``KeyError``, so if an outage were a ``KeyError``, it would look
like an absent key.

No message contains a password or a stored value.  etcd's own ``cause`` for a failed
comparison quotes the values that were compared, so it is kept in ``.cause`` and left
out of the message.  Text from a server or a caller goes into a message through
`legible`, so that it takes one line of a log, whatever it is.

Source of the codes: etcd ``server/etcdserver/api/v2error/error.go``
(branches release-3.4 and release-3.5).
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

#: How many characters of one foreign text a message shows.
_MOST_SHOWN = 200
#: How many causes a message shows for one endpoint.
_MOST_CAUSES = 2
#: How many kinds of failures the message of a PartialWrite shows.
_MOST_KINDS = 5


def legible(text: str) -> str:
    """Return a foreign text for a message: escaped, and without its middle if long."""
    if len(text) > _MOST_SHOWN:
        # Only the two ends are escaped: there may be many MiB between them.
        text = _printable(text[:_MOST_SHOWN]) + _printable(text[-_MOST_SHOWN:])
    elif not text.isprintable():
        text = _printable(text)
    if len(text) <= _MOST_SHOWN:
        return text
    half = _MOST_SHOWN // 2
    return f"{text[: half - 3]}...{text[-half:]}"


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error that is kept, and of its causes.

    The frames of a traceback keep the answer in memory, or values made from it: with
    many errors, that is many times the limit of one answer.  An error that is not ours
    is dropped as a cause, because it may keep a socket open; our message quotes it.
    """
    known: set[int] = set()  # a chain of causes may be circular
    while error is not None and id(error) not in known:
        known.add(id(error))
        error.__traceback__ = None
        cause = error.__cause__ or error.__context__
        if not isinstance(cause, EtcdMapError):
            error.__cause__ = error.__context__ = cause = None
        error = cause


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


class Refusal(NamedTuple):
    """One key or value that can't be written.

    Attributes:
        path: the absolute path that the key or value would have had.  Inside a list,
            the path includes the place in the list, as in ``/app/hosts[2]/port``.
        reason: why the key or value is refused, and what to use instead.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{legible(self.path)}: {self.reason}" if self.path else self.reason


def __tracebackhide__(failure: Any) -> bool:
    """Have pytest hide the frames of the modules that import this, for errors of ours.

    Such an error, or a refusal, says what is wrong with the call, and it does not
    matter where in the library that was noticed.  For any other exception, pytest shows
    all frames.
    """
    return isinstance(failure.value, EtcdMapError) or hasattr(failure.value, "refusals")


class EtcdMapError(Exception):
    """The base class of every exception of this library."""

    def __str__(self) -> str:
        # KeyError.__str__ would show repr(message); all our errors show the text.
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own method passes no arguments by name.
        state = {**self.__dict__, "args": self.args}
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


class ServerError(EtcdMapError):
    """etcd refused a request and said why.

    Attributes:
        code: etcd's ``errorCode``.
        reason: etcd's short message for that code.
        cause: what etcd says about this request, up to 1,000 characters; it may contain
            stored values.
        etcd_index: the index of the store when etcd answered, or None.
        endpoint: the endpoint that answered.
        key: the absolute path that was asked for, or None.
        unanswered: whether another copy of the request, sent earlier or to another
            member, was never answered.  That copy may have been carried out, and this
            may be the reason for the refusal.
    """

    #: etcd's ``errorCode`` for this class, if there is only one.
    usual_code: ClassVar[int] = 0
    #: What to do next; shown after the message.
    hint: ClassVar[str] = ""
    #: Whether another member, or the same member later, may answer differently.
    transient: ClassVar[bool] = False

    def __init__(
        self,
        reason: str,
        *,
        code: int | None = None,
        cause: str = "",
        etcd_index: int | None = None,
        endpoint: str = "",
        key: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = self.usual_code if code is None else code
        self.reason = reason
        self.cause = cause
        self.etcd_index = etcd_index
        self.endpoint = endpoint
        self.key = key
        self.unanswered = False

    def __str__(self) -> str:
        text = self.reason
        if self.code:
            text += f" (etcd error {self.code})"
        if self.key is not None:
            text += f": {legible(self.key)}"
        if self.endpoint:
            text += f" at {self.endpoint}"
        return f"{text}; {self.hint}" if self.hint else text


class KeyNotFound(ServerError, KeyError):
    """The key is absent (100), or a file stands where its directory would be (104)."""

    usual_code = 100


class CompareFailed(ServerError):
    """The key does not have the value or index that the request expected (101)."""

    usual_code = 101


class NotAFile(ServerError):
    """A directory is there, and the request needs a file (102)."""

    usual_code = 102


class NotADirectory(ServerError):
    """A file is there, and the request needs a directory (104)."""

    usual_code = 104
    hint = "a file on the way to this key must be deleted first"


class KeyExists(ServerError):
    """The key that the request would create is there already (105)."""

    usual_code = 105


class RootReadOnly(ServerError):
    """The root directory itself can't be written or deleted (107)."""

    usual_code = 107


class DirectoryNotEmpty(ServerError):
    """The directory that the request would delete is not empty (108)."""

    usual_code = 108


class Unauthorized(ServerError):
    """The user is unknown, the password is wrong, or a right is missing (110)."""

    usual_code = 110
    hint = "check username, password and the roles granted to this user"
    transient = True  # a member that is cut off does not know new users


class InvalidRequest(ServerError):
    """etcd refuses a parameter of the request (200 to 212)."""


class RaftError(ServerError):
    """The members could not agree in time (300), or are electing a leader (301).

    If the request was a write, it may still be carried out later.
    """

    transient = True


class WatchExpired(ServerError):
    """etcd no longer has the events asked for (400, 401): it keeps only 1,000."""


#: etcd's errorCode -> exception; any other code gives a ServerError.
CODE_TO_ERROR: Mapping[int, type[ServerError]] = {
    **{k.usual_code: k for k in ServerError.__subclasses__() if k.usual_code},
    **dict.fromkeys(range(200, 213), InvalidRequest),
    **dict.fromkeys((300, 301), RaftError),
    **dict.fromkeys((400, 401), WatchExpired),
}


class Attempt(NamedTuple):
    """One attempt at one endpoint that did not give a usable answer.

    Attributes:
        endpoint: the endpoint that was asked.
        error: why the attempt failed.
        sent: whether the request may have reached the server.
        after: seconds from the beginning of the call until this attempt had failed.
    """

    endpoint: str
    error: Exception
    sent: bool
    after: float = 0.0

    def __str__(self) -> str:
        text = str(self.error)
        return text if text.startswith(self.endpoint) else f"{self.endpoint}: {text}"

    @property
    def was_late(self) -> bool:
        """Whether the attempt failed because its time was over."""
        return getattr(self.error, "timed_out", False)


class RequestFailed(EtcdMapError):
    """No endpoint gave a usable answer.

    Attributes:
        attempts: every `Attempt` that was made, in order.
    """

    #: What to do next; shown after the message.
    hint: ClassVar[str] = ""

    def __init__(self, message: str, attempts: Iterable[Attempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)

    def __str__(self) -> str:
        text = Exception.__str__(self)
        lines = [f"{text}. {self.hint}" if self.hint else text]
        at: dict[str, list[Attempt]] = {}
        for attempt in self.attempts:
            at.setdefault(attempt.endpoint, []).append(attempt)
        return "\n  ".join(lines + [_line(*each) for each in at.items()])


def _line(endpoint: str, attempts: list[Attempt]) -> str:
    """Say in one line why an endpoint could not be used, how often, over what time."""
    # The deadline cuts the last attempt short.  Such an attempt says nothing about its
    # endpoint, and would hide what the other attempts have found.
    telling = [a for a in attempts if not a.was_late] or attempts
    times: dict[str, list[float]] = {}
    for attempt in telling:
        cause = str(attempt).removeprefix(endpoint).lstrip(": ")
        times.setdefault(cause, []).append(attempt.after)
    most = sorted(times, key=lambda cause: -len(times[cause]))[:_MOST_CAUSES]
    line = ", then ".join(f"{cause}{_count(times[cause])}" for cause in most)
    more = len(times) - len(most)
    return f"{endpoint}: {line}" + (f", and {more} more in .attempts" if more else "")


def _count(times: list[float]) -> str:
    if len(times) == 1:
        return ""
    took = times[-1] - times[0]
    seconds = f"{took:.2g}" if took < 10 else f"{took:.0f}"
    return f" ({len(times)} times" + (f" in {seconds} s)" if took else ")")


class ClusterUnavailable(RequestFailed):
    """No endpoint could be used; the request was not applied, so trying again is safe.

    If the call had sent other requests before, their effect remains.  For instance, if
    a value was to replace a directory, the directory may be deleted already.
    """


class DeadlineExceeded(RequestFailed, TimeoutError):
    """The time of a call was over; the request that the error names was not applied.

    Either the client was still waiting for an endpoint, or no time was left for the
    call's next request, or other writers kept changing the key.
    """


class OutcomeUnknown(RequestFailed):
    """A write was sent, but its answer never came, or made no sense.

    The write may have been applied, may still be applied later, or may be lost.  Even
    if a read still shows the old value, the write may be applied later.
    """

    hint = (
        "Repeat it if repeating is harmless; otherwise read the key first, with "
        "consistency='linearizable'"
    )


class ExchangeFailed(EtcdMapError):
    """One exchange with one endpoint failed; you find it as ``Attempt.error``.

    Attributes:
        sent: whether the request may have reached the server.
        timed_out: whether the exchange failed because its time was over.
        lasting: whether trying again is useless, as for a refused certificate.
        nobody: whether there was no server at all: the host does not exist, nothing
            listens there, or no connection was made in time.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        timed_out: bool = False,
        lasting: bool = False,
        nobody: bool = False,
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.timed_out = timed_out
        self.lasting = lasting
        self.nobody = nobody


class InvalidResponse(EtcdMapError):
    """The endpoint answered, but not as etcd's v2 API does.

    Attributes:
        endpoint: the endpoint that answered.
        status: the HTTP status.
        excerpt: the first 200 bytes of the answer; they may contain stored values.
    """

    def __init__(
        self, message: str, *, endpoint: str = "", status: int = 0, excerpt: bytes = b""
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.status = status
        self.excerpt = excerpt[:200]

    @property
    def refused(self) -> bool:
        """Whether the status says that the request was not carried out.

        Redirects, client errors and "method not implemented" say so.  A 200 that makes
        no sense, or a gateway's 502 to 504, says nothing about a write.  The client
        errors about time or rate say nothing either, because a proxy may have passed
        the request on before.
        """
        if self.status in (408, 425, 429, 499):
            return False
        return 300 <= self.status < 500 or self.status == 501


class WrongCluster(InvalidResponse):
    """The endpoint belongs to a different cluster than the one that answered first."""


class V2NotEnabled(InvalidResponse):
    """The server answers, but has no v2 API."""


class InvalidKey(EtcdMapError, ValueError):
    """A key can't be written; the message says why.

    Either etcd can't have this key, or a mapping does not use such keys, although etcd
    can have them, as with names that start with ``_``.

    Attributes:
        refusals: one `Refusal` for each key or value that can't be written.
    """

    refusals: tuple[Refusal, ...] = ()


class DirectoryGone(EtcdMapError, ValueError):
    """A mapping was given as a value, and its directory does not exist.

    Nothing was written.  A mapping on etcd contains no data of its own, so an empty
    directory would have been stored.

    Attributes:
        refusals: as for `InvalidKey`; empty if the argument itself was that mapping,
            and not a dict with that mapping as a value.
    """

    refusals: tuple[Refusal, ...] = ()


class LimitExceeded(EtcdMapError, ValueError):
    """A key or value exceeds a limit of etcdmap; it is refused before any request.

    Attributes:
        refusals: as for `InvalidKey`.
    """

    refusals: tuple[Refusal, ...] = ()


class DecodeError(EtcdMapError, ValueError):
    """The codec can't read a stored text.

    Attributes:
        key: the absolute path of the file, or None if the path is not known.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        text = Exception.__str__(self)
        return text if self.key is None else f"{legible(self.key)}: {text}"


class PrefixRequired(EtcdMapError, ValueError):
    """The mapping has no prefix, so the call would replace all keys of the cluster."""


class ReadOnly(EtcdMapError, TypeError):
    """The mapping is read-only, so it can't write; nothing was sent."""


class CredentialsMissing(EtcdMapError):
    """A mapping was unpickled, and the environment has no credentials for it."""


class ClientClosed(EtcdMapError, RuntimeError):
    """The client was used after ``close()``."""

    def __init__(
        self, message: str = "this client was closed; make a new mapping or client"
    ) -> None:
        super().__init__(message)


class PartialWrite(EtcdMapError):
    """A write of many keys was carried out only in part.

    Attributes:
        written: the absolute paths that were certainly written or deleted.
        failed: a dict whose keys are the absolute paths that could not be written or
            deleted, and whose values are the errors.
        pending: the absolute paths that were not tried.
    """

    def __init__(
        self,
        *,
        written: Iterable[str],
        failed: Mapping[str, Exception],
        pending: Iterable[str],
    ) -> None:
        super().__init__("a write of many keys ended half-way")
        self.written = tuple(written)
        self.failed = dict(failed)
        self.pending = tuple(pending)

    def __str__(self) -> str:
        lines = [
            f"a write of many keys ended half-way: {len(self.written)} done, "
            f"{len(self.failed)} failed, {len(self.pending)} not tried; call it again "
            "with the same values"
        ]
        alike: dict[str, list[str]] = {}
        for path, error in self.failed.items():
            first_line, _, _ = str(error).partition("\n")
            alike.setdefault(first_line.replace(path, "..."), []).append(path)
        for paths in list(alike.values())[:_MOST_KINDS]:
            # The whole text of one error, with its lines about the endpoints.
            text = str(self.failed[paths[0]]).replace("\n", "\n  ")
            lines.append(f"  {_some(paths)}: {text}")
        if len(alike) > _MOST_KINDS:
            lines.append("  ... and others in .failed")
        return "\n".join(lines)


def _some(paths: list[str]) -> str:
    more = len(paths) - 1
    return legible(paths[0]) + (f", and {more} more" if more else "")


class LocalClusterError(EtcdMapError):
    """No etcd binary was found, or a local member did not start or did not answer."""
