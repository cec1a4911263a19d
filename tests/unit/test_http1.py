"""The reader of HTTP/1.1 answers: every cut of the bytes, and every kind of damage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from etcdmap.errors import ExchangeFailed, InvalidResponse
from etcdmap.transport.head import MAX_FIELDS, spell_start
from etcdmap.transport.http1 import (
    MAX_HEAD,
    MAX_INTERIM,
    MAX_LINE,
    Reader,
)

from support.requests import Request

LIMIT = 100_000


def asks(method: str = "GET") -> Request[object]:
    """Return a request of a method."""
    return Request(method, "/v2/keys/a", lambda answer: answer)


class Outcome(NamedTuple):
    """What became of an answer.

    `error` is the type of the exception, or None.
    """

    error: type[Exception] | None
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    reusable: bool = False


def read(
    pieces: Iterable[bytes], *, method: str = "GET", limit: int = LIMIT
) -> Outcome:
    """Feed pieces, then the end of the connection."""
    reader = Reader("http://a:1", asks(method), limit)
    rest = iter(pieces)
    try:
        whole = any(piece and reader.feed(piece) for piece in rest) or reader.feed(b"")
    except (ExchangeFailed, InvalidResponse) as error:
        return Outcome(type(error))
    assert whole
    reusable = reader.reusable and not any(rest)
    headers = tuple(reader.headers.items())
    return Outcome(None, reader.status, headers, reader.answer().body, reusable)


def bytewise(data: bytes) -> Iterator[bytes]:
    """Cut into single bytes."""
    return (data[at : at + 1] for at in range(len(data)))


def answer(*lines: str, body: bytes = b"", status: str = "HTTP/1.1 200 OK") -> bytes:
    """Put an answer together."""
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1") + body


def counted(body: bytes, *lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """Make an answer with a Content-Length."""
    return answer(*lines, f"Content-Length: {len(body)}", body=body, status=status)


def in_chunks(body: bytes) -> bytes:
    """Make an answer whose body is these chunks as they are."""
    return answer("Transfer-Encoding: chunked", body=body)


# --- answers that are right ---------------------------------------------------

TOKENS = st.text("abcXYZ019-_!~", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
    max_size=20,
)
FRAMING = {"content-length", "transfer-encoding", "connection"}
FIELDS = st.lists(
    st.tuples(TOKENS.filter(lambda name: name.lower() not in FRAMING), VALUES),
    max_size=6,
)
SIZES = st.sampled_from(
    ["{:x}", "{:X}", "000{:x}", "{:x};a=b", '{:x} ; q="1"', "{:x} "]
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a body, and the same in chunks."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    spelt = b""
    for chunk in chunks:
        size = draw(SIZES).format(len(chunk)).encode()
        spelt += size + b"\r\n" + chunk + b"\r\n"
    trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"a: b\r\nc: d\r\n"]))
    return b"".join(chunks), spelt + draw(st.sampled_from([b"0", b"000", b"0;x"])) + (
        b"\r\n" + trailer + b"\r\n"
    )


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """Draw an answer as bytes, its body, and whether the connection persists."""
    minor = draw(st.integers(0, 1))
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 404, 500]))
    reason = draw(st.sampled_from([" OK", " ", "", " Nicht so Gut"]))
    lines = [f"{name}: {value}" for name, value in draw(FIELDS)]
    connection = draw(st.sampled_from([None, "close", "keep-alive", "x, Close"]))
    if connection is not None:
        lines.append(f"Connection: {connection}")
    persists = connection == "keep-alive" or (connection is None and minor == 1)
    body, spelt = draw(chunked_bodies())
    kind = draw(st.sampled_from(["length", "until end", "chunks"][: 2 + minor]))
    if status in (204, 304):
        body = spelt = b""
    elif kind == "length":
        lines.append(f"content-LENGTH:  {len(body)} ")
        spelt = body
    elif kind == "chunks":
        lines.append("Transfer-Encoding: Chunked")
    else:
        spelt, persists = body, False
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    start = f"HTTP/1.{minor} {status}{reason}"
    return interim + answer(*lines, body=spelt, status=start), body, persists


@given(answers())
def test_reader_reads_what_was_written(case: tuple[bytes, bytes, bool]) -> None:
    """Body and persistence of an answer are found, whichever way it is spelt."""
    data, body, persists = case
    outcome = read([data])
    assert outcome.error is None
    assert (outcome.body, outcome.reusable) == (body, persists)


@given(answers())
def test_reader_at_every_cut_gives_the_same(case: tuple[bytes, bytes, bool]) -> None:
    """Two pieces, cut anywhere, and single bytes read as the whole does."""
    data = case[0]
    whole = read([data])
    assert read(bytewise(data)) == whole
    for cut in range(len(data)):
        assert read([data[:cut], data[cut:]]) == whole


@given(answers(), st.binary(min_size=1, max_size=20))
def test_reader_with_more_behind_does_not_reuse(
    case: tuple[bytes, bytes, bool], more: bytes
) -> None:
    """Bytes behind an answer belong to nothing that was asked."""
    data, body, persists = case
    outcome = read([data + more])
    if outcome.error is None and persists:
        assert (outcome.body, outcome.reusable) == (body, False)


@given(answers(), st.data())
def test_reader_of_a_cut_off_answer_fails(
    case: tuple[bytes, bytes, bool], data: st.DataObject
) -> None:
    """What ends early is an error, unless the end is what ends the body."""
    whole, _, _ = case
    assume(b"LENGTH" in whole or b"Chunked" in whole)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert read([whole[:cut]]).error is ExchangeFailed


# --- a second opinion -----------------------------------------------------------


def reference(data: bytes) -> tuple[int, bytes] | None:
    """Read a whole answer to a GET, simply and slowly; None if it is not right."""
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = re.fullmatch(rb"HTTP/1\.(\d) ([1-9]\d\d)( [^\r\n\0]*)?", lines[0])
        fields = [
            re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)", line)
            for line in lines[1:]
        ]
        if not end or not status or not all(fields):
            return None
        if not 102 <= int(status[2]) < 200 and int(status[2]) != 100:
            break
        data = rest
    if int(status[2]) == 101:
        return None
    named: dict[bytes, list[bytes]] = {}
    for field in fields:
        assert field is not None
        named.setdefault(field[1].lower(), []).append(field[2].strip(b" \t"))
    if int(status[2]) in (204, 304):
        return int(status[2]), b""
    body = reference_body(named, rest, http10=status[1] == b"0")
    return None if body is None else (int(status[2]), body)


def reference_body(
    named: dict[bytes, list[bytes]], rest: bytes, *, http10: bool
) -> bytes | None:
    """Read a body, given its head."""
    if b"transfer-encoding" in named:
        coding = b", ".join(named[b"transfer-encoding"]).lower()
        if http10 or coding != b"chunked" or b"content-length" in named:
            return None
        return reference_chunks(rest)
    if b"content-length" not in named:
        return rest if len(rest) <= LIMIT else None
    values = b",".join(named[b"content-length"]).split(b",")
    lengths = {value.strip(b" \t") for value in values}
    if len(lengths) != 1 or not re.fullmatch(rb"[0-9]+", value := lengths.pop()):
        return None
    length = int(value.lstrip(b"0")[:30] or b"0")
    return rest[:length] if length <= min(LIMIT, len(rest)) else None


def reference_chunks(rest: bytes) -> bytes | None:
    """Read a body in chunks."""
    body = b""
    while match := re.match(rb"([0-9A-Fa-f]+)[ \t]*(;[^\r\n\0]*)?\r\n", rest):
        size = int(match[1], 16)
        rest = rest[match.end() :]
        if not size:
            fields = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\n]*\r\n)*"
            return body if re.match(fields + rb"\r\n", rest) else None
        if len(rest) < size + 2 or rest[size : size + 2] != b"\r\n":
            return None
        body += rest[:size]
        rest = rest[size + 2 :]
    return None


EDITS = st.sampled_from(
    [
        *(b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"1"),
        *(b"f", b"-", b"+", b"_", b"\xff", b"\r\n\r\n", b"\r\n ", b"5\r\nhello\r\n"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 101 \r\n\r\n"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an answer with some damage done to its bytes."""
    data = draw(answers())[0]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 4)))
        data = data[:at] + draw(EDITS | st.binary(max_size=3)) + data[end:]
    return data


@given(damaged() | st.binary(max_size=60))
@example(answer("Content-Length: 3", "Content-Length: 4", body=b"abcd"))
@example(answer("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"))
@example(in_chunks(b"5\r\nhello!\r\n0\r\n\r\n"))
def test_reader_of_damaged_bytes_agrees_with_the_reference(data: bytes) -> None:
    """Damage ends in an error of ours, or in what a second reader makes of it."""
    outcome = read([data])
    expected = reference(data)
    if expected is None:
        assert outcome.error is not None
    else:
        assert (outcome.error, outcome.status, outcome.body) == (None, *expected)


@given(damaged())
def test_reader_of_damaged_bytes_cut_anywhere_gives_the_same(data: bytes) -> None:
    """No cut turns a refusal into an answer, or one answer into another."""
    whole = read([data])
    pieces = [
        read(bytewise(data)),
        *(read([data[:n], data[n:]]) for n in range(len(data))),
    ]
    for other in pieces:
        assert (other.error is None) == (whole.error is None)
        assert other[1:] == whole[1:]


# --- one by one ------------------------------------------------------------------


@pytest.mark.parametrize(
    "length",
    [
        "-1",
        "+2",
        "2.0",
        "0x2",
        "2 2",
        "",
        "two",
        "2,3",
        "2,",
        "\u00b2",
        "1_0",
        "9" * 5000,
    ],
)
def test_reader_refuses_a_length_that_is_no_number(length: str) -> None:
    """A Content-Length is digits, and one number."""
    data = answer(f"Content-Length: {length}", body=b"ab")
    assert read([data]).error is InvalidResponse


@pytest.mark.parametrize("lines", [["2", "2"], ["2, 2"], ["02", "02"], [" 2\t"]])
def test_reader_takes_a_length_given_twice(lines: list[str]) -> None:
    """RFC 9112 section 6.3 allows equal numbers."""
    data = answer(*(f"Content-Length: {line}" for line in lines), body=b"ab")
    assert read([data]).body == b"ab"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="bare LF"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="bare LF behind a chunk"),
        pytest.param(b"5;\nhello\r\n0\r\n\r\n", id="bare LF behind an extension"),
        pytest.param(b"5\r\nhello\r\n0\r\n\n", id="bare LF at the end"),
        pytest.param(b"0;" + b"x" * MAX_LINE + b"\r\n\r\n", id="long extension"),
        pytest.param(b"5\r\nhelloo\r\n0\r\n\r\n", id="longer than said"),
        pytest.param(b"-1\r\n\r\n0\r\n\r\n", id="negative"),
        pytest.param(b"+5\r\nhello\r\n0\r\n\r\n", id="plus"),
        pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="0x"),
        pytest.param(b"1_0\r\nhello\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b" 5\r\nhello\r\n0\r\n\r\n", id="space before"),
        pytest.param(b"\r\n", id="no size"),
        pytest.param(b"fffffffffffffffff\r\n", id="absurd"),
        pytest.param(b"186a1\r\n", id="over the limit"),
        pytest.param(b"0;" + b"x" * MAX_LINE, id="endless extension"),
        pytest.param(b"0\r\n" + b"x: y\r\n" * LIMIT, id="endless trailer"),
        pytest.param(b"0\r\nno field\r\n\r\n", id="trailer that is none"),
        pytest.param(b"0\r\na: b\rc: d\r\n\r\n", id="bare CR in a trailer"),
        pytest.param(b"0\r\na: b\0\r\n\r\n", id="NUL in a trailer"),
    ],
)
def test_reader_refuses_wrong_chunks(body: bytes) -> None:
    """No leniency in chunks: whoever reads them otherwise reads another answer."""
    assert read([in_chunks(body)]).error is InvalidResponse
    assert read(bytewise(in_chunks(body[:9000]))).error is not None


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Transfer-Encoding: gzip, chunked"], id="another coding"),
        pytest.param(["Transfer-Encoding: identity"], id="identity"),
        pytest.param(["Transfer-Encoding: chunked"] * 2, id="chunked twice"),
        pytest.param(["Transfer-Encoding: chunked", "Content-Length: 5"], id="both"),
        pytest.param(["X: 1", " folded"], id="folded"),
        pytest.param(["X : 1"], id="space before the colon"),
        pytest.param([": 1"], id="no name"),
        pytest.param(["X"], id="no colon"),
        pytest.param(["X: a\0b"], id="NUL"),
        pytest.param(["X: a\rb"], id="bare CR"),
        pytest.param(["X: a\nb"], id="bare LF"),
        pytest.param(["X: 1"] * (MAX_FIELDS + 1), id="too many"),
        pytest.param(["X: " + "x" * MAX_HEAD], id="too long"),
    ],
)
def test_reader_refuses_a_wrong_head(lines: list[str]) -> None:
    """What another reader may understand otherwise is not read at all."""
    data = answer(*lines, body=b"0\r\n\r\n")
    assert read([data]).error is InvalidResponse


def test_reader_refuses_chunks_in_http_1_0() -> None:
    """RFC 9112 section 6.1: its framing is faulty, whatever it looks like."""
    data = answer("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK")
    assert read([data + b"0\r\n\r\n"]).error is InvalidResponse


@pytest.mark.parametrize(
    "start",
    [
        *("HTTP/2 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 99 X", "HTTP/1.1 2000"),
        *("HTTP/1.1 099 X", "HTTP/1.1 000 X"),
        *("http/1.1 200", "ICY 200 OK", "HTTP/1.1 200\tOK", " HTTP/1.1 200 OK", ""),
        "HTTP/1.1 \u0662\u0660\u0660",
    ],
)
def test_reader_refuses_what_is_no_status_line(start: str) -> None:
    """An answer starts with HTTP/1 and three digits."""
    data = (start + "\r\nContent-Length: 0\r\n\r\n").encode()
    assert read([data]).error is InvalidResponse


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-x",
        b"<html>",
        b"\r\n",
        b"HTTP/1.1 2\n",
    ],
)
def test_reader_refuses_another_protocol_at_once(data: bytes) -> None:
    """It does not wait for the end of a head that can't be one."""
    with pytest.raises(InvalidResponse) as caught:
        Reader("http://a:1", asks(), LIMIT).feed(data)
    assert "http://a:1" in str(caught.value)
    assert caught.value.excerpt == data


def test_reader_refuses_a_head_that_does_not_end() -> None:
    """A flood of fields ends at the limit, not with the memory."""
    reader = Reader("http://a:1", asks(), LIMIT)
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(InvalidResponse):
        any(reader.feed(b"x: y\r\n") for _ in range(MAX_HEAD))


@pytest.mark.parametrize("status", [100, 102, 103])
def test_reader_skips_interim_answers(status: int) -> None:
    """1xx is not the answer; some may come, with fields of their own."""
    interim = answer("Link: x", status=f"HTTP/1.1 {status} Wait")
    outcome = read([interim * MAX_INTERIM + counted(b"ab")])
    assert (outcome.status, outcome.body, outcome.reusable) == (200, b"ab", True)
    assert "link" not in dict(outcome.headers)


def test_reader_refuses_interim_answers_without_end() -> None:
    """Their number has a limit."""
    interim = answer(status="HTTP/1.1 100 Continue")
    data = interim * (MAX_INTERIM + 1) + counted(b"ab")
    assert read([data]).error is InvalidResponse


def test_reader_refuses_switching_protocols() -> None:
    """101 answers an Upgrade, and none was sent."""
    data = answer(status="HTTP/1.1 101 Switching Protocols") + counted(b"ab")
    assert read([data]).error is InvalidResponse


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [204, 304])
def test_reader_takes_no_body_where_none_can_be(method: str, status: int) -> None:
    """Whatever the length says."""
    data = answer("Content-Length: 5", status=f"HTTP/1.1 {status} X")
    outcome = read([data], method=method)
    assert (outcome.status, outcome.body, outcome.reusable) == (status, b"", True)


def test_reader_takes_no_body_for_head() -> None:
    """The length is that of the body that GET would get."""
    assert read([answer("Content-Length: 5")], method="HEAD").reusable
    assert read([answer("Transfer-Encoding: chunked")], method="HEAD").reusable
    assert read([answer("X: y")], method="HEAD").reusable
    assert not read([counted(b"hello")], method="HEAD").reusable


@pytest.mark.parametrize("body", [b"x" * 11, b"x" * 1_000])
@pytest.mark.parametrize("kind", ["length", "chunks", "until end"])
def test_reader_refuses_a_body_over_the_limit(kind: str, body: bytes) -> None:
    """And says how to raise it."""
    data = {
        "length": counted(body),
        "chunks": in_chunks(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
        "until end": answer(body=body),
    }[kind]
    reader = Reader("http://a:1", asks(), 10)
    with pytest.raises(InvalidResponse, match="max_response") as caught:
        reader.feed(data)
    assert caught.value.status == 200


def test_reader_of_a_body_at_the_limit_reads_it() -> None:
    """The limit itself is allowed."""
    assert read([counted(b"x" * 10)], limit=10).body == b"x" * 10


def test_reader_joins_fields_given_twice() -> None:
    """RFC 9110 section 5.3: a list, in order."""
    headers = dict(read([counted(b"", "X: a", "x: b")]).headers)
    assert headers["x"] == "a, b"


def test_reader_of_an_end_without_a_byte_says_so() -> None:
    """The member went away: not the same as an answer cut off."""
    with pytest.raises(ExchangeFailed, match="before an answer") as caught:
        Reader("http://a:1", asks(), LIMIT).feed(b"")
    assert caught.value.sent


def test_reader_of_an_end_behind_an_interim_answer_says_so() -> None:
    """1xx is no answer, whatever it says of a body."""
    reader = Reader("http://a:1", asks(), LIMIT)
    reader.feed(answer("Content-Length: x", status="HTTP/1.1 103 Early Hints"))
    with pytest.raises(ExchangeFailed, match="before an answer"):
        reader.feed(b"")


@pytest.mark.parametrize("more", [b"x", b"\r\n", counted(b"ab")])
def test_reader_of_chunks_with_more_behind_does_not_reuse(more: bytes) -> None:
    """The bytes behind the last chunk were not asked for."""
    data = in_chunks(b"2\r\nab\r\n0\r\n\r\n")
    assert read([data]).reusable
    outcome = read([data + more])
    assert (outcome.body, outcome.reusable) == (b"ab", False)


@pytest.mark.parametrize("size", [1, 2, 5_000])
def test_reader_of_many_chunks_puts_them_together(size: int) -> None:
    """Small ones too: their list would be larger than the body."""
    piece = b"%x\r\n%s\r\n" % (size, b"x" * size)
    outcome = read([in_chunks(piece * 20 + b"0\r\n\r\n")])
    assert outcome.body == b"x" * size * 20


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/a b"),
        ("GET", "/a\r\nX: y"),
        ("GET", "/a\n"),
        ("GET", "/\u00e4"),
        ("GET", ""),
        ("GE T", "/"),
        ("GET\r\n", "/"),
        ("", "/"),
    ],
)
def test_request_line_with_what_would_end_it_is_refused(
    method: str, target: str
) -> None:
    """Nothing that a caller passes becomes a second request."""
    with pytest.raises(ExchangeFailed) as caught:
        spell_start(method, target)
    assert not caught.value.sent
