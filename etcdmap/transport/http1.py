"""HTTP/1.1 without I/O: read one answer from its bytes, however they are cut.

Source of the rules: RFC 9112 (HTTP/1.1) and RFC 9110 (what is common to all
versions).  Where they leave a choice, the stricter one is taken: etcd's server
is Go's, which needs no leniency, and two programs that cut one stream of bytes
differently are how an answer ends up with the wrong request.

What is refused: a line that ends in a bare LF, folded fields, a length that is
no plain number, two lengths that differ, a length beside chunks, any coding but
``chunked``, and more than the limits below.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from etcdmap.errors import InvalidResponse
from etcdmap.transport import failures
from etcdmap.transport.head import fields_of, status_of, stays_open

#: Bytes of status line and fields.  Go's client takes 10 MiB, curl 300 KiB, h11
#: 16 KiB; etcd sends 500 bytes.
MAX_HEAD = 64 * 1024
#: Fields in one head.  http.client takes 100.
MAX_FIELDS = 200
#: Bytes of a chunk's line, its extensions included, as in Go's ``net/http``.
MAX_LINE = 4096
#: Interim answers (1xx) before the real one, as in Go's ``net/http``.
MAX_INTERIM = 5

_match_size = re.compile(rb"0*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?").fullmatch

# Pieces of a body below this size are put together: a list of chunks of a few
# bytes each would need many times the memory of the body.
_SMALL = 4096
# Digits of a length that int() takes at once, and that no limit comes near to.
_PLAIN_LENGTH = 18
# Heads above this size are read without the cache, so that it stays small.
_CACHED_HEAD = 4096


class Reader:
    """Reads one answer, however its bytes are cut.

    Args:
        endpoint: who answers, for messages.
        method: of the request; the answer to HEAD has no body.
        limit: of the body, bytes.

    Attributes:
        status: the status, 0 until the head was read.
        headers: the fields by name in lower case; those given more than once
            are joined by commas.
        head: status line and fields as they came.
        reusable: whether another request may follow on the connection; valid
            when the answer is whole.
    """

    __slots__ = (
        "_endpoint",
        "_expect_line",
        "_held",
        "_interim",
        "_left",
        "_limit",
        "_method",
        "_parts",
        "_size",
        "_step",
        "head",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self, endpoint: str, method: str, limit: int) -> None:
        self._endpoint = endpoint
        self._method = method
        self._limit = limit
        self._held = b""  # what came of a line or head that is not whole yet
        self._parts: list[bytes | bytearray] = []
        self._size = 0  # of the body so far
        self._interim = 0
        self._step: Callable[[Reader, bytes], bool] = Reader._read_head
        self.status = 0
        self.reusable = False

    def feed(self, data: bytes) -> bool:
        """Take what arrived, ``b""`` for the end of the connection.

        Returns:
            Whether the answer is whole; nothing may be fed after that.

        Raises:
            InvalidResponse: this is no HTTP/1.1, or more than the limits.
            ExchangeFailed: the connection ended too early.
        """
        if not data:
            return self._end()
        return self._step(self, data)

    def body(self) -> bytes:
        """Give the body of an answer that is whole."""
        parts = self._parts
        if len(parts) == 1:
            return bytes(parts[0])  # no copy: the first one is always bytes
        return b"".join(parts)

    def _end(self) -> bool:
        # Without a length, the end of the connection is the end of the body
        # (RFC 9112 section 6.3, 8).
        if self._step is Reader._read_until_end:
            return True
        if not self.status and not self._held:
            raise failures.closed()
        raise failures.cut_off()

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
        self._held = data
        self._take_head(data[:end])
        self._held = b""
        if self.status < 200:
            return self._skip_interim(data[end + 4 :])
        return self._step(self, data[end + 4 :])

    def _hold_head(self, data: bytes, searched: int) -> None:
        # What can't become a head is refused now: its end might never come.
        self._held = data
        if not data.startswith(b"HTTP/1."[: len(data)]):
            raise self._refused("something that is not HTTP/1.1")
        if data.count(b"\n", searched) != data.count(b"\r\n", max(0, searched - 1)):
            raise self._refused("a line that ends in a bare LF")
        if len(data) > MAX_HEAD + 3:
            raise self._refused(f"a head of more than {MAX_HEAD} bytes")

    def _take_head(self, head: bytes) -> None:
        if len(head) > MAX_HEAD:
            raise self._refused(f"a head of more than {MAX_HEAD} bytes")
        # Latin-1 keeps every byte; RFC 9110 section 5.5 has them opaque.
        lines = head.decode("latin-1").split("\r\n")
        ends = len(lines) - 1
        if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
            raise self._refused("a head with a bare CR, LF or NUL")
        if ends > MAX_FIELDS:
            raise self._refused(f"a head of more than {MAX_FIELDS} fields")
        line = lines.pop(0)
        try:
            minor, status = status_of(line)
            self.headers = fields_of(lines, cached=len(head) <= _CACHED_HEAD)
        except ValueError as error:
            raise self._refused(str(error)) from None
        self.status = status
        self.head = head
        self._step = self._framing(minor)

    def _skip_interim(self, rest: bytes) -> bool:
        # RFC 9110 section 15.2: any number of them may come unasked, but 101,
        # which answers an Upgrade that was not sent.
        self._interim += 1
        if self.status == 101 or self._interim > MAX_INTERIM:
            raise self._refused("interim answers without end, or status 101")
        self.status = 0
        self._step = Reader._read_head
        return self._read_head(rest)

    def _framing(self, minor: int) -> Callable[[Reader, bytes], bool]:
        """Tell how the body ends (RFC 9112 section 6.3, in its order)."""
        fields = self.headers
        self.reusable = stays_open(minor, fields.get("connection", ""))
        self._left = 0
        if self._method == "HEAD" or self.status in (204, 304) or self.status < 200:
            return Reader._read_counted
        if "transfer-encoding" in fields:
            self._check_coding(minor)
            self._expect_line = Reader._take_size
            return Reader._read_chunks
        if "content-length" in fields:
            self._left = self._length_of(fields["content-length"])
            return Reader._read_counted
        self.reusable = False
        return Reader._read_until_end

    def _check_coding(self, minor: int) -> None:
        # Section 6.1: with HTTP/1.0 the framing is faulty by definition; beside
        # a length it "ought to be handled as an error".
        coding = self.headers["transfer-encoding"]
        if coding.lower() != "chunked" or minor == 0:
            raise self._refused("a transfer coding that was not asked for")
        if "content-length" in self.headers:
            raise self._refused("both a Content-Length and chunks")

    def _length_of(self, text: str) -> int:
        if not (text.isdigit() and text.isascii() and len(text) < _PLAIN_LENGTH):
            text = self._single_length(text)
        length = int(text)
        self._check_size(length)
        return length

    def _single_length(self, text: str) -> str:
        # Section 6.3, 5: a list of equal numbers is one number, anything else
        # is an error that can't be recovered from.
        values = {value.strip(" \t") for value in text.split(",")}
        value = values.pop()
        if values or not (value.isdigit() and value.isascii()):
            raise self._refused("a Content-Length that is not one number")
        # int() refuses thousands of digits with an error of its own.
        return value.lstrip("0")[:_PLAIN_LENGTH] or "0"

    # --- the body

    def _read_counted(self, data: bytes) -> bool:
        left = self._left
        if len(data) > left:
            # Nothing was asked for yet that this could answer.
            self.reusable = False
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
        if self._held:
            data = self._held + data
            self._held = b""
        at = 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._keep(piece)
                if self._left:
                    return False
            end = data.find(b"\n", at) + 1
            if not end:
                self._hold_line(data[at:])
                return False
            if self._expect_line(self, self._line(data[at:end])):
                # Bytes after the end belong to no request.
                self.reusable = self.reusable and end == len(data)
                return True
            at = end

    def _hold_line(self, data: bytes) -> None:
        if len(data) > MAX_LINE:
            raise self._refused(f"a chunk's line of more than {MAX_LINE} bytes")
        self._held = data

    def _line(self, line: bytes) -> bytes:
        if len(line) > MAX_LINE:
            raise self._refused(f"a chunk's line of more than {MAX_LINE} bytes")
        if not line.endswith(b"\r\n"):
            raise self._refused("chunks whose lines end in a bare LF")
        return line[:-2]

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
        try:
            fields_of([line.decode("latin-1")], cached=False)
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
            raise InvalidResponse(
                f"{self._endpoint} answered with more than {self._limit} bytes; "
                "raise max_response if the directory is really that large",
                endpoint=self._endpoint,
                status=self.status,
            )

    def _refused(self, what: str) -> InvalidResponse:
        return InvalidResponse(
            f"{self._endpoint} answered with {what}; is it an etcd, and is there a "
            "proxy in between?",
            endpoint=self._endpoint,
            status=self.status,
            excerpt=self._held,
        )
