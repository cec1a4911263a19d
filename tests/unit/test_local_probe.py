"""What is made of a member's answers, good and bad."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import probe

Answering = Callable[..., str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Serve one given answer to each connection; gives the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers: list[bytes] = []

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)

        def start(*bodies: bytes) -> str:
            answers.extend(b"HTTP/1.1 200 OK\r\n\r\n" + body for body in bodies)
            thread.start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start
        thread.join(timeout=10)
        assert not thread.is_alive()


def trouble_of(ask: Callable[[str], object], endpoint: str) -> str:
    """Return why an answer is not a good one."""
    with pytest.raises(probe.NotYet) as info:
        ask(endpoint)
    return str(info.value)


def test_health_good_answer_no_trouble(answering: Answering) -> None:
    """etcd says "true" as a text."""
    probe.check_health(answering(b'{"health":"true","reason":""}'))


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        (b'{"health":"false","reason":"RAFT NO LEADER"}', "RAFT NO LEADER"),
        (b'{"health":"false"}', "no reason given"),
        (b"{}", "health"),
        (b"[]", "list"),
        (b"<html>", "Expecting value"),
        (b"\xff\xff", "codec"),
    ],
)
def test_health_bad_answer_says_why(
    body: bytes, trouble: str, answering: Answering
) -> None:
    """Whatever comes back is a reason to wait, not another exception."""
    assert trouble in trouble_of(probe.check_health, answering(body))


def test_health_no_http_says_why() -> None:
    """A connection that is closed at once is a reason, too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        assert trouble_of(probe.check_health, endpoint) != ""
        thread.join()
    assert "refused" in trouble_of(probe.check_health, endpoint)


def test_health_no_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused member accepts, and says nothing."""
    monkeypatch.setattr(probe, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "timed out" in trouble_of(probe.check_health, endpoint)


def test_known_endpoints_and_raft_are_read(answering: Answering) -> None:
    """Both come from the v2 API."""
    members = b'{"members":[{"clientURLs":["http://a"]},{"clientURLs":[]}]}'
    endpoint = answering(members, b'{"id":"1","leaderInfo":{"leader":"2"}}')
    assert probe.known_endpoints(endpoint) == {"http://a"}
    assert probe.raft(endpoint) == ("1", "2")


def test_known_endpoints_and_raft_bad_answer_is_not_yet(answering: Answering) -> None:
    """A member that does not answer well does not count."""
    endpoint = answering(b"{}", b'{"id":"1"}')
    assert "members" in trouble_of(probe.known_endpoints, endpoint)
    assert "leaderInfo" in trouble_of(probe.raft, endpoint)


def test_wait_for_returns_what_comes_in_time() -> None:
    """It looks again until there is something to return."""
    looks: Iterator[probe.NotYet | str] = iter([probe.NotYet("later"), "it"])

    def look() -> str:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    assert probe.wait_for(look, 5, "nothing came") == "it"


def test_wait_for_time_is_up_tells_the_last_reason() -> None:
    """The error says what was waited for, how long, and why it did not come."""

    def look() -> NoReturn:
        raise probe.NotYet("too early")

    with pytest.raises(LocalClusterError, match=r"^no tea within 0 s: too early$"):
        probe.wait_for(look, 0, "no tea")


def test_moments_without_time_gives_one() -> None:
    """Something is looked at once, however short the time."""
    assert len(list(probe.moments(0))) == 1
    assert len(list(probe.moments(-1))) == 1


def test_moments_with_time_ends() -> None:
    """The number of looks is bounded by the time."""
    assert 2 <= len(list(probe.moments(0.05))) <= 6
