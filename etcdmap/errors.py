"""Every exception that leaves the library.

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
``ValueError``, before any request.  Of a value or key that can't be stored they have
``.refusals``, as `InvalidKey` has.

Only "this key is absent" is a ``KeyError``: ``get``, ``in`` and ``pop`` with a
default swallow ``KeyError``, so an outage that was one would read as "missing".

No message holds a password or a stored value.  etcd's own ``cause`` for a
failed comparison quotes the values compared, so it is kept in ``.cause`` and
left out of the text.  What a server or a caller wrote goes into a text through
`legible`: a log has one line for it, whatever it is.

Source of the codes: etcd ``server/etcdserver/api/v2error/error.go``
(branches release-3.4 and release-3.5).
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

#: Characters of one text of others that a message shows.
_MOST_SHOWN = 200
#: Causes that the line of one endpoint shows.
_MOST_CAUSES = 2
#: Kinds of failures that the text of a PartialWrite shows.
_MOST_KINDS = 5


def legible(text: str) -> str:
    """Return a text of others for a message: printable, without its middle if long."""
    if len(text) > _MOST_SHOWN:
        # Both ends alone are escaped: there may be many MiB between them.
        text = _printable(text[:_MOST_SHOWN]) + _printable(text[-_MOST_SHOWN:])
    elif not text.isprintable():
        text = _printable(text)
    if len(text) <= _MOST_SHOWN:
        return text
    half = _MOST_SHOWN // 2
    return f"{text[: half - 3]}...{text[-half:]}"


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error that is kept, and of what caused it.

    Their frames hold the answer, or what came of it: with many errors, many times the
    limit of one.  So may what others raised hold a socket, open as long as it is kept;
    its text is in ours.
    """
    known: set[int] = set()  # a chain of causes may close
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
        path: the absolute path at which it would have stood, whole.  What lies in a
            list is named with its place there, as in ``/app/hosts[2]/port``.
        reason: why it is refused, and what to use instead.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{legible(self.path)}: {self.reason}" if self.path else self.reason


def __tracebackhide__(failure: Any) -> bool:
    """Have pytest hide the frames of a module with this name, if an error is ours.

    Such an error, or a refusal, tells what is wrong with the call, and not where in the
    library that was found out.  Of any other exception all frames are shown.
    """
    return isinstance(failure.value, EtcdMapError) or hasattr(failure.value, "refusals")


class EtcdMapError(Exception):
    """What every exception of this library derives from."""

    def __str__(self) -> str:
        # KeyError.__str__ would show repr(message); all of ours show text.
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own passes no arguments by name.
        state = {**self.__dict__, "args": self.args}
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


class ServerError(EtcdMapError):
    """etcd refused a request and said why.

    Attributes:
        code: etcd's ``errorCode``.
        reason: etcd's short message for that code; at most 200 characters of it.
        cause: what etcd says about this request; may hold stored values.  The first
            1,000 characters of it.
        etcd_index: the index of the store when it answered, or None.
        endpoint: who answered.
        key: the absolute path that was asked for, whole, or None.
        unanswered: whether a copy of the request was sent to another member, or
            before, and not answered: it may have been carried out, and be what
            this refusal met.
    """

    #: etcd's ``errorCode`` for this kind, where it has just one.
    usual_code: ClassVar[int] = 0
    #: What to do next; shown after the message.
    hint: ClassVar[str] = ""
    #: Whether another member, or the same one later, may answer otherwise.
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
    """The key is absent (100), or can't be there: a file is above it (104)."""

    usual_code = 100


class CompareFailed(ServerError):
    """The node is not in the state that the request named (101)."""

    usual_code = 101


class NotAFile(ServerError):
    """A directory stands where the request needs a file (102)."""

    usual_code = 102


class NotADirectory(ServerError):
    """A file stands where the request needs a directory (104)."""

    usual_code = 104
    hint = "a file on the way to this key must be deleted first"


class KeyExists(ServerError):
    """The key to create is there already (105)."""

    usual_code = 105


class RootReadOnly(ServerError):
    """The root directory itself can't be written or deleted (107)."""

    usual_code = 107


class DirectoryNotEmpty(ServerError):
    """The directory to delete is not empty (108)."""

    usual_code = 108


class Unauthorized(ServerError):
    """The user is unknown, the password wrong, or the right missing (110)."""

    usual_code = 110
    hint = "check username, password and the roles granted to this user"
    transient = True  # a member that is cut off does not know new users


class InvalidRequest(ServerError):
    """etcd does not take a parameter of the request (2xx)."""


class RaftError(ServerError):
    """etcd could not agree on a request in time (300), or is electing (301).

    The write may still be carried out later.
    """

    transient = True


class WatchExpired(ServerError):
    """The history asked for is gone: etcd keeps 1,000 events (400, 401)."""


#: etcd's errorCode -> exception; a code that is not here is a ServerError.
CODE_TO_ERROR: Mapping[int, type[ServerError]] = {
    **{k.usual_code: k for k in ServerError.__subclasses__() if k.usual_code},
    **dict.fromkeys(range(200, 213), InvalidRequest),
    **dict.fromkeys((300, 301), RaftError),
    **dict.fromkeys((400, 401), WatchExpired),
}


class Attempt(NamedTuple):
    """One try at one endpoint that did not give a usable answer."""

    endpoint: str
    error: Exception
    #: Whether the request may have reached the server.
    sent: bool
    #: Seconds from the beginning of the call until it had failed.
    after: float = 0.0

    def __str__(self) -> str:
        text = str(self.error)
        return text if text.startswith(self.endpoint) else f"{self.endpoint}: {text}"

    @property
    def was_late(self) -> bool:
        """Whether it failed by running out of its time."""
        return getattr(self.error, "timed_out", False)


class RequestFailed(EtcdMapError):
    """No endpoint gave an answer that can be used.

    Attributes:
        attempts: every attempt made, in order.
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
    """Tell on one line why an endpoint could not be used, how often, over how long."""
    # The deadline cuts the last attempt short: of its endpoint that tells nothing, and
    # would hide what the others have found.
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
    """No member answered; the request was not applied, so trying again is safe.

    What the call did by earlier requests remains: if a value was to replace a
    directory, the directory may be gone.
    """


class DeadlineExceeded(RequestFailed, TimeoutError):
    """The deadline passed before a write was sent, or during a read."""


class OutcomeUnknown(RequestFailed):
    """A write was sent and its answer never came, or made no sense.

    It may have been applied, may still be applied, or may be lost.  A read that shows
    the old value proves nothing yet.
    """

    hint = (
        "Repeat it if repeating is harmless; otherwise read the key first, with "
        "consistency='linearizable'"
    )


class ExchangeFailed(EtcdMapError):
    """One exchange with one endpoint failed; seen as ``Attempt.error``.

    Attributes:
        sent: whether the request may have reached the server.
        timed_out: whether it failed by running out of its time.
        lasting: whether trying again is no use: a refused certificate.
        nobody: whether nobody was met there: nothing listens, no such host, or no
            connection in time.
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
        endpoint: who answered.
        status: the HTTP status.
        excerpt: the first 200 bytes of the answer; may hold stored values.
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

        Redirects, client errors and "method not implemented" do; a 200 that makes no
        sense, or a gateway's 502 to 504, says nothing about a write.  Nor do the client
        errors about time or rate: a proxy may have passed the request on before.
        """
        if self.status in (408, 425, 429, 499):
            return False
        return 300 <= self.status < 500 or self.status == 501


class WrongCluster(InvalidResponse):
    """The endpoint belongs to another cluster than the one seen first."""


class V2NotEnabled(InvalidResponse):
    """The server answers, but has no v2 API."""


class InvalidKey(EtcdMapError, ValueError):
    """A key that can't exist in etcd, met by a write; names it and says why.

    Attributes:
        refusals: all that the write refuses, of which this is the first.
    """

    refusals: tuple[Refusal, ...] = ()


class DirectoryGone(EtcdMapError, ValueError):
    """A mapping given as a value whose directory does not exist; nothing was written.

    It is a handle on a directory and holds no data: stored, it would be empty.

    Attributes:
        refusals: as of `InvalidKey`; empty if it is the whole of what was given.
    """

    refusals: tuple[Refusal, ...] = ()


class LimitExceeded(EtcdMapError, ValueError):
    """A key or value beyond what etcd takes; refused before any request.

    Attributes:
        refusals: as of `InvalidKey`.
    """

    refusals: tuple[Refusal, ...] = ()


class DecodeError(EtcdMapError, ValueError):
    """A stored text that the codec can't read.

    Attributes:
        key: the absolute path of the node, or None where it is not known.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        text = Exception.__str__(self)
        return text if self.key is None else f"{legible(self.key)}: {text}"


class PrefixRequired(EtcdMapError, ValueError):
    """The call would empty or replace the whole cluster's key space."""


class ReadOnly(EtcdMapError, TypeError):
    """A write on a read-only mapping; nothing was sent."""


class CredentialsMissing(EtcdMapError):
    """A mapping was unpickled where there are no credentials for its endpoints."""


class ClientClosed(EtcdMapError, RuntimeError):
    """The client was used after ``close()``."""

    def __init__(
        self, message: str = "this client was closed; make a new mapping or client"
    ) -> None:
        super().__init__(message)


class PartialWrite(EtcdMapError):
    """A write of many keys that did not end whole.

    Attributes:
        written: absolute paths that were written or deleted for certain.
        failed: absolute path -> the error met there.
        pending: absolute paths that were not tried.
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
            # With the lines of its endpoints, of one of them.
            text = str(self.failed[paths[0]]).replace("\n", "\n  ")
            lines.append(f"  {_some(paths)}: {text}")
        if len(alike) > _MOST_KINDS:
            lines.append("  ... and others in .failed")
        return "\n".join(lines)


def _some(paths: list[str]) -> str:
    more = len(paths) - 1
    return legible(paths[0]) + (f", and {more} more" if more else "")


class LocalClusterError(EtcdMapError):
    """No etcd binary was found, or a local member did not start or answer."""
