"""A head read with the help of what was remembered is the head read anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcdmap.transport import head as head_module
from etcdmap.transport.head import read_head

STATUS = st.sampled_from(
    (
        *("HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.0 201 Created"),
        *("HTTP/1.1 204 No Content", "HTTP/1.1 100 Continue", "HTTP/2 200"),
    )
)
NUMBERS = st.integers(0, 10**20).map(str) | st.sampled_from(
    ["", "007", " 5", "5 ", "-1", "5, 5", "²", "0", "1" * 30, "5\t"]
)
NAMES = st.sampled_from(
    (
        *("X-Etcd-Index", "X-Raft-Index", "Content-Length", "x-etcd-index"),
        *("X-Content-Length", "content-length", "X-X-Etcd-Index"),
    )
)
LINES = st.builds("{}: {}".format, NAMES, NUMBERS) | st.sampled_from(
    (
        *("X-Raft-Term: 2", "Connection: close", "Transfer-Encoding: chunked"),
        *("Date: Sun, 22 Nov 2026 12:00:00 GMT", "bad line", ": x"),
    )
)
USUAL = (
    "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 7e\r\nX-Etcd-Index: 12\r\n"
    "X-Raft-Index: 34\r\nX-Raft-Term: 2\r\nContent-Length: 56"
)


def outcome(read: Any, head: bytes) -> Any:
    """Give what a reader makes of a head, its error included."""
    try:
        return read(head)
    except ValueError as error:
        return str(error)


def read_anew(head: bytes) -> Any:
    """Read a head as the first one ever."""
    head_module._last = (b"", (0, {}, False, 0))
    head_module._known.clear()
    return read_head(head)


@st.composite
def sequences(draw: st.DrawFn) -> list[bytes]:
    """Return heads, one after another: the same fields, now and then with others."""
    lines = draw(st.lists(LINES, max_size=6))
    heads = []
    for _ in range(draw(st.integers(2, 6))):
        for at in range(len(lines)):
            if draw(st.booleans()):
                name = lines[at].partition(":")[0]
                lines[at] = f"{name}: {draw(NUMBERS)}"
        if draw(st.integers(0, 4)) == 0:
            lines = draw(st.lists(LINES, max_size=6))
        status = draw(st.just("HTTP/1.1 200 OK") | STATUS)
        heads.append("\r\n".join([status, *lines]).encode("latin-1"))
    return heads


@settings(max_examples=500)
@given(heads=sequences())
def test_head_read_again_is_the_head_read_anew(heads: list[bytes]) -> None:
    """Whatever came before it, whatever its numbers are, and where they stand."""
    again = [outcome(read_head, head) for head in heads]
    assert again == [outcome(read_anew, head) for head in heads]


@given(at=st.integers(0, len(USUAL)), cut=st.integers(0, 9), patch=st.text(max_size=3))
@example(at=0, cut=0, patch="")
@example(at=USUAL.index("12"), cut=2, patch="7")
@example(at=USUAL.index("12"), cut=2, patch="7\r\nContent-Length: 9")
def test_damaged_head_read_again_is_the_head_read_anew(
    at: int, cut: int, patch: str
) -> None:
    """The usual head, whose numbers are known to vary, with something changed."""
    head = (USUAL[:at] + patch + USUAL[at + cut :]).encode()
    for numbers in (("12", "34", "56"), ("13", "35", "9"), ("14", "36", "0")):
        usual = USUAL
        for old, new in zip(("12", "34", "56"), numbers, strict=True):
            usual = usual.replace(old, new)
        read_head(usual.encode())
    again = outcome(read_head, head)
    assert again == outcome(read_anew, head)


def test_heads_remembered_do_not_share_their_numbers() -> None:
    """Each answer has its own."""
    _, first, _, length = read_head(USUAL.encode())
    other = USUAL.replace("12", "13").replace("56", "9")
    _, second, _, other_length = read_head(other.encode())
    assert (first["x-etcd-index"], length) == ("12", 56)
    assert (second["x-etcd-index"], other_length) == ("13", 9)


def test_heads_of_two_kinds_in_turn_are_both_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where one thread writes and another follows; to read one anew takes long."""
    counted = USUAL.encode()
    chunked = counted.replace(b"Content-Length: 56", b"Transfer-Encoding: chunked")
    read_head(counted)
    read_head(chunked)
    monkeypatch.setattr(head_module, "_read_lines", None)
    for index in (b"13", b"14"):
        for head in (counted, chunked):
            _, fields, _, _ = read_head(head.replace(b"12", index))
            assert fields["x-etcd-index"] == index.decode()
