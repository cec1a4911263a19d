"""Which events a watch of a subtree gets, live and out of history, per operation."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import Any

import pytest

from etcdmap.local import LocalCluster
from etcdmap.transport import Line, WireTransport
from etcdmap.v2.events import change_of

from support.v2_walk import ask

Step = tuple[str, str, str, dict[str, object]]


def put(path: str, **form: object) -> Step:
    """Return a PUT."""
    return "PUT", path, "", form


def delete(path: str, query: str = "?recursive=true") -> Step:
    """Return a DELETE."""
    return "DELETE", path, query, {}


F, D = put("/p/f", value="1"), put("/p/d/x", value="1")

#: What is there; what is done; the change that a live watch tells; that of history,
#: where it is another.
CASES: dict[str, tuple[list[Step], Step, Any, Any]] = {
    "set": ([], put("/p/n", value="1"), ("set", "/p/n", "1"), ...),
    "set with its way": ([F], put("/p/a/b", value="1"), ("set", "/p/a/b", "1"), ...),
    "the same again": ([F], F, ("set", "/p/f", "1"), ...),
    "create": (
        [],
        put("/p/n", value="1", prevExist="false"),
        ("set", "/p/n", "1"),
        ...,
    ),
    "update": (
        [F],
        put("/p/f", value="2", prevExist="true"),
        ("set", "/p/f", "2"),
        ...,
    ),
    "swap": ([F], put("/p/f", value="2", prevValue="1"), ("set", "/p/f", "2"), ...),
    "refused swap": ([F], put("/p/f", value="2", prevValue="9"), None, ...),
    "empty file": (
        [F],
        put("/p/f", dir="true", prevExist="true"),
        ("set", "/p/f", ""),
        ...,
    ),
    "refresh": (
        [put("/p/t", value="1", ttl=50)],
        put("/p/t", refresh="true", ttl=60, prevExist="true"),
        None,
        ...,
    ),
    "mkdir": ([F], put("/p/d", dir="true"), ("make_directory", "/p/d", None), ...),
    "mkdir over": ([F], put("/p/f", dir="true"), ("make_directory", "/p/f", None), ...),
    "delete": ([F], delete("/p/f", ""), ("delete", "/p/f", None), ...),
    "compared delete": (
        [F],
        delete("/p/f", "?prevValue=1"),
        ("delete", "/p/f", None),
        ...,
    ),
    "delete a directory": ([D], delete("/p/d"), ("delete", "/p/d", None), ...),
    "delete the prefix": ([F], delete("/p"), ("delete", "/p", None), ...),
    "delete above": ([F], delete(""), ("delete", "/p", None), ...),
    "delete above nothing": (
        [put("/o", value="1")],
        delete(""),
        None,
        ("delete", "/p", None),
    ),
    "file at the prefix": (
        [put("/o", value="1")],
        put("/p", value="x"),
        ("set", "/p", "x"),
        ...,
    ),
    "hidden": (
        [F],
        put("/p/a/_h", value="1"),
        None,
        ("make_directory", "/p/a", None),
    ),
    "delete hidden": ([put("/p/_h", value="1")], delete("/p/_h"), None, ...),
    "neighbour": ([F], put("/p2", value="1"), None, ...),
    "delete a neighbour": ([F, put("/pp/x", value="1")], delete("/pp"), None, ...),
}


class Poll:
    """A poll under way, which is known to have begun."""

    def __init__(self, endpoint: str, path: str, index: int) -> None:
        self._transport = WireTransport()
        self._line = self._transport.line(endpoint)
        self._asked = Asked(path, index)
        self._line.send([self._asked], later(5))  # type: ignore[list-item]
        assert self._line.head(later(5)) is not None

    def change(self, seconds: float) -> Any:
        """Return what the event changes; None for no event in time, or no change."""
        answer = self._line.receive(later(seconds))
        self._line.close()
        self._transport.close()
        if answer is None:
            return None
        assert answer.status == 200, answer.body
        change = change_of(json.loads(answer.body), self._asked)
        return None if change is None else (change.action, change.path, change.text)


def later(seconds: float) -> float:
    """Return a time to come."""
    return time.monotonic() + seconds


class Asked:
    """A request for a poll."""

    method, body, max_answer = "GET", None, None
    action: str | None = None
    after, bare, inside = 0, False, False

    def __init__(self, key: str, index: int) -> None:
        self.key = key
        quoted = urllib.parse.quote(key)
        self.target = f"/v2/keys{quoted}?wait=true&recursive=true&waitIndex={index}"


@pytest.mark.parametrize("case", CASES)
def test_events_of_an_operation(etcd: LocalCluster, prefix: str, case: str) -> None:
    """What a live watch is told, and what history tells."""
    (endpoint,) = etcd.endpoints
    setup, operation, live, history = CASES[case]
    for method, path, query, form in [put("/keep", value="1"), *setup]:
        ask(endpoint, method, prefix + path, query, **form)
    _, index, _ = ask(endpoint, "GET", "/")
    poll = Poll(endpoint, f"{prefix}/p", index + 1)
    method, path, query, form = operation
    ask(endpoint, method, prefix + path, query, **form)
    wanted = [
        None if found is None else (found[0], prefix + found[1], found[2])
        for found in (live, live if history is ... else history)
    ]
    assert poll.change(0.1 if live is None else 5) == wanted[0]
    again = Poll(endpoint, f"{prefix}/p", index + 1)
    assert again.change(0.1 if wanted[1] is None else 5) == wanted[1]


def poll_of(line: Line, prefix: str, index: int) -> int:
    """Begin a poll; return the index of the store that its head tells."""
    line.send([Asked(prefix, index)], later(5))  # type: ignore[list-item]
    head = line.head(later(5))
    assert head is not None
    return int(head[1]["x-etcd-index"])


@pytest.mark.parametrize("event", [False, True])
def test_half_close_of_a_silent_poll_ends_it(
    etcd: LocalCluster, prefix: str, event: bool
) -> None:
    """The answer ends empty, and where there was an event it has come before."""
    (endpoint,) = etcd.endpoints
    _, index, _ = ask(endpoint, "PUT", f"{prefix}/k", value="1")
    transport = WireTransport()
    line = transport.line(endpoint)
    assert poll_of(line, prefix, index + 1) >= index
    time.sleep(0.005)
    if event:
        ask(endpoint, "PUT", f"{prefix}/k", value="2")
    line.end_sending()
    answer = line.receive(later(5))
    assert answer is not None
    assert bool(answer.body) == event
    line.close()
    transport.close()


def test_history_tells_of_a_neighbour_whose_name_is_a_beginning(
    etcd: LocalCluster, prefix: str
) -> None:
    """Who watches /pXYZ is told of the delete of /p, which means nothing to them."""
    (endpoint,) = etcd.endpoints
    ask(endpoint, "PUT", f"{prefix}/p/a", value="1")
    _, index, _ = ask(endpoint, "PUT", f"{prefix}/pXYZ/a", value="1")
    ask(endpoint, "DELETE", f"{prefix}/p", "?recursive=true")
    assert Poll(endpoint, f"{prefix}/pXYZ", index + 1).change(5) is None
