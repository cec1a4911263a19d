"""HTTP/1.1 without I/O: read one answer from its bytes, however they are cut.

The rules are those of RFC 9112 (HTTP/1.1) and RFC 9110 (what all versions share).
Where they leave a choice, the stricter one is taken: when two programs cut one stream
of bytes differently, an answer ends up with the wrong request.

What is refused: a line that ends in a bare LF, folded fields, a length that is
no plain number, two lengths that differ, a length beside chunks, any coding but
``chunked``, and more than the limits below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from etcdmap.errors import ExchangeFailed, InvalidResponse
from etcdmap.transport import failures
from etcdmap.transport.head import CHUNKED, field_of, read_head
from etcdmap.transport.protocol import MAX_REFUSAL, Answer, Request, limit_of

#: Bytes of status line and fields.  Go's client takes 10 MiB, curl 300 KiB, h11 16 KiB.
MAX_HEAD = 64 * 1024
#: Bytes of a chunk's line, its extensions included, as in Go's ``net/http``.
MAX_LINE = 4096
#: Interim answers (1xx) before the real one, as in Go's ``net/http``.
MAX_INTERIM = 5

_match_size = re.compile(rb"0*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?").fullmatch

#: How a body ends whose chunks are as usual.
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_END = len(_LAST_CHUNK)


@lru_cache(maxsize=512)  # to spell it takes longer than all else for a small body
def _size_line(size: int) -> bytes:
    return b"%x\r\n" % size


# Pieces of a body below this size are put together: a list of chunks of a few
# bytes each would need many times the memory of the body.
_SMALL = 4096


class Reader:
    """Reads one answer of an endpoint to a request, with a limit for its body."""

    # On the class, which is quicker: most answers never set the last four.
    #: The fields, as in `Head`.
    headers: Mapping[str, str] = MappingProxyType({})
    #: Whether another request may follow on the connection, once the answer is whole.
    reusable = False
    #: What came behind the end of the answer.
    rest = b""
    _left = 0  # bytes to come of the body, or of a chunk
    _interim = 0
    _expect_line: Callable[[Reader, bytes], bool]

    def __init__(self, endpoint: str, request: Request, limit: int) -> None:
        self._endpoint = endpoint
        self._request = request
        self._limit = limit
        self.status = 0  # until the head was read
        self._size = 0  # of the body so far
        self._held = b""  # what came of a line or head that is not whole yet
        #: What reads on; None while a head is expected.
        self._step: Callable[[Reader, bytes], bool] | None = None
        self._parts: list[bytes | bytearray] = []

    def feed(self, data: bytes) -> bool:
        """Take what arrived; return whether the answer is whole, and no more expected.

        The end of the connection is ``b""``.

        Raises:
            InvalidResponse: this is not HTTP/1.1, or more than the limits.
            ExchangeFailed: the connection ended too early.
        """
        if not data:
            return self._end()
        step = self._step
        return self._read_head(data) if step is None else step(self, data)

    def answer(self) -> Answer:
        """Return the answer, which is whole, and let go of its body."""
        parts = self._parts
        if len(parts) == 1:
            body = bytes(parts.pop())  # no copy: the first one is always bytes
        else:
            body = b"".join(parts)
            self._parts = []
        return Answer(self.status, self.headers, body, self._endpoint)

    def drop(self) -> None:
        """Let go of what came: the exception that ends it may be kept for long."""
        self._parts.clear()
        self._held = b""

    def _end(self) -> bool:
        # Without a length, the end of the connection is the end of the body
        # (RFC 9112 section 6.3, 8).
        if self._step is Reader._read_until_end:
            return True
        nothing_came = not self.status and not self._held
        what = failures.CLOSED if nothing_came else failures.CUT_OFF
        raise ExchangeFailed(what, sent=True)

    # --- the head

    def _read_head(self, data: bytes) -> bool:
        held = self._held
        searched = 0
        if held:
            searched = max(0, len(held) - 3)
            data = held + data
        end = data.find(b"\r\n\r\n", searched)
        if end < 0:
            self._hold_head(data, searched)
            return False
        if end > MAX_HEAD:
            raise self._refused(f"a head of more than {MAX_HEAD} bytes", data)
        try:
            self.status, self.headers, self.reusable, length = read_head(data[:end])
        except ValueError as error:
            raise self._refused(str(error), data) from None
        self._held = b""
        if self.status < 200:
            return self._skip_interim(data[end + 4 :])
        return self._begin_body(length, data[end + 4 :])

    def _hold_head(self, data: bytes, searched: int) -> None:
        # Nonsense is refused now, as the empty line that ends a head might never come.
        if not data.startswith(b"HTTP/1."[: len(data)]):
            raise self._refused("something that is not HTTP/1.1", data)
        if data.count(b"\n", searched) != data.count(b"\r\n", max(0, searched - 1)):
            raise self._refused("a line that ends in a bare LF", data)
        if len(data) > MAX_HEAD + 3:
            raise self._refused(f"a head of more than {MAX_HEAD} bytes", data)
        self._held = data

    def _skip_interim(self, rest: bytes) -> bool:
        # RFC 9110 section 15.2: they may come unasked; but not 101, which answers an
        # Upgrade that was not sent.
        self._interim += 1
        if self.status == 101 or self._interim > MAX_INTERIM:
            raise self._refused("interim answers without end, or status 101")
        self.status = 0
        return self._read_head(rest)

    def _begin_body(self, length: int, data: bytes) -> bool:
        if self._request.method == "HEAD":  # an answer to it has no body
            length = 0
        if not 0 <= length <= MAX_REFUSAL:  # else no limit but the general one matters
            self._limit = limit_of(self._request, self.status, self._limit)
        if length >= 0:
            self._check_size(length)
            if len(data) == length:  # nearly always
                self._parts.append(data)
                return True
            self._left = length
            self._step = Reader._read_counted
            return self._read_counted(data)
        if length == CHUNKED:
            self._step = Reader._read_first_chunk
            self._expect_line = Reader._take_size
            return bool(data) and self._read_first_chunk(data)
        self.reusable = False
        self._step = Reader._read_until_end
        return self._read_until_end(data)

    # --- the body

    def _read_counted(self, data: bytes) -> bool:
        left = self._left
        if len(data) > left:
            # The rest answers nothing that was asked, unless on a `Line`.
            self.reusable = False
            self.rest = data[left:]
            data = data[:left]
        self._keep(data)
        self._left = left = left - len(data)
        return not left

    def _read_until_end(self, data: bytes) -> bool:
        self._check_size(len(data))
        self._keep(data)
        return False

    def _read_chunks(self, data: bytes) -> bool:
        """Take what came of a body in chunks (RFC 9112 section 7.1)."""
        data, self._held = self._held + data, b""
        at = 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._keep(piece)
                if self._left:
                    return False
            line = data[at : data.find(b"\n", at) + 1 or None]
            if len(line) > MAX_LINE:
                raise self._refused(f"a chunk's line of more than {MAX_LINE} bytes")
            if not line.endswith(b"\n"):
                self._held = line
                return False
            if not line.endswith(b"\r\n"):
                raise self._refused("chunks whose lines end in a bare LF")
            at += len(line)
            if self._expect_line(self, line[:-2]):
                # Bytes after the end belong to no request, unless on a `Line`.
                self.rest = data[at:]
                self.reusable = self.reusable and not self.rest
                return True

    def _read_first_chunk(self, data: bytes) -> bool:
        """Take a body that came whole and in one chunk, else what came of it."""
        start = data.find(b"\n") + 1
        size = len(data) - start - _END
        is_one = data[:start] == _size_line(size) and data[-_END:] == _LAST_CHUNK
        if is_one and 0 < size <= self._limit:
            self._parts.append(data[start:-_END])
            return True
        self._step = Reader._read_chunks
        return self._read_chunks(data)

    def _take_size(self, line: bytes) -> bool:
        match = _match_size(line)
        if match is None:
            raise self._refused("a chunk without a proper size")
        self._left = int(match[1], 16)
        self._check_size(self._left)
        self._expect_line = Reader._take_end if self._left else Reader._take_trailer
        return False

    def _take_end(self, line: bytes) -> bool:
        if line:
            raise self._refused("a chunk that is longer than it says")
        self._expect_line = Reader._take_size
        return False

    def _take_trailer(self, line: bytes) -> bool:
        # Section 7.1.2: trailer fields may be discarded.  They are counted as
        # if they were body, so that they have an end.
        if not line:
            return True
        if b"\r" in line or b"\0" in line:
            raise self._refused("a trailer with a bare CR or NUL")
        try:
            field_of(line.decode("latin-1"))
        except ValueError as error:
            raise self._refused(str(error)) from None
        self._check_size(len(line))
        self._size += len(line)
        return False

    # --- both

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        parts = self._parts
        if len(piece) >= _SMALL or not parts:
            parts.append(piece)
            return
        last = parts[-1]
        if isinstance(last, bytearray):
            last += piece
        else:
            parts.append(bytearray(piece))

    def _check_size(self, more: int) -> None:
        if self._size + more > self._limit:
            raise failures.too_large(self._endpoint, self.status, self._limit)

    def _refused(self, what: str, excerpt: bytes = b"") -> InvalidResponse:
        what = f"{what}; is the URL the right one, and is there a proxy in between?"
        return failures.invalid(self._endpoint, self.status, what, excerpt)
