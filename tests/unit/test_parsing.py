"""JSON of servers: what etcd writes is read, what it can't have written is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcdmap.v2.parsing import MOST_LEVELS, OutOfBounds, TooLate, parse_json

#: What bounds could stumble on: brackets, commas, quotes and backslashes in strings.
ODD = st.text('[]{},:"\\ é\N{SNAKE}\n', max_size=30)


def nodes(texts: list[str]) -> dict[str, Any]:
    """Make the listing of a directory, as short as etcd would write it."""
    files = [
        {"key": f"/{n}", "value": text, "modifiedIndex": 1, "createdIndex": 1}
        for n, text in enumerate(texts)
    ]
    return {"action": "get", "node": {"dir": True, "nodes": files}}


def spelt(document: object, *, ascii_only: bool = False) -> str:
    """Spell it as etcd does, without white space."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=ascii_only)


@given(st.lists(ODD, max_size=5), st.integers(0, 400), st.booleans())
@example(['\\"', "[" * 30], 400, False)
@example(["\\", '"'], 400, False)
def test_listing_of_any_texts_is_read(
    texts: list[str], more: int, ascii_only: bool
) -> None:
    """No text, and no number of them, makes a listing look like something else."""
    document = nodes([*texts, *["" for _ in range(more)]])
    assert parse_json(spelt(document, ascii_only=ascii_only)) == document


def test_texts_of_nothing_but_brackets_and_commas_are_read() -> None:
    """Only what is outside of strings counts."""
    document = nodes(["[" * 100_000, "," * 100_000, '"' * 1000, '\\"]' * 1000])
    assert parse_json(spelt(document)) == document


@pytest.mark.parametrize("kind", ["[]", "{}"])
@pytest.mark.parametrize("closed", [True, False])
def test_nesting_beyond_the_limit_is_refused(kind: str, closed: bool) -> None:
    """Before it is parsed, which would overflow the stack; spaces don't hide it."""
    opened = "[ " if kind == "[]" else '{"a": '
    end = (" " * 20 + kind[1]) * (MOST_LEVELS + 1) if closed else " " * 9000
    text = f"{opened * (MOST_LEVELS + 1)}1{end}"
    with pytest.raises(OutOfBounds, match="deep"):
        parse_json(text)


@pytest.mark.parametrize(
    "piece", ["[],", "{},", "1,", '"a",', "[[[]]],", '"",'], ids=repr
)
def test_more_items_than_etcd_writes_are_refused(piece: str) -> None:
    """Each takes many times its length as an object."""
    with pytest.raises(OutOfBounds, match="items"):
        parse_json('{"x":[' + piece * 10_000 + "0]}")


def test_what_can_not_be_read_in_time_is_not_begun() -> None:
    """While it is parsed nothing can stop it."""
    text = spelt(nodes(["x"] * 2000))
    assert parse_json(text, 1.0)
    with pytest.raises(TooLate):
        parse_json(text, 0.001)
    # What was cut out already took no time here, and allows no more items.
    assert parse_json("[" + "0," * 1000 + "0]", 1.0, 20_000)


SMALL_STACK = """
import threading
from etcdmap import EtcdMapError, EtcdMapping
from etcdmap.connecting import make_client
from etcdmap.transport import Answer

BODIES = [
    b'{"action":"get","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"action":"get","x":' + b'{"a": ' * 400 + b"1" + b" " * 9000 + b"}" * 401,
    b'{"action":"get","node":{"key":"/app/k","modifiedIndex":1,"value":"'
    + b"[" * 100_000 + b'"}}',
]

class Server:
    def exchange(self, endpoint, request, timeout):
        return Answer(200, {"x-etcd-index": "7"}, self.body, endpoint)
    def close(self):
        pass

def ask():
    server = Server()
    for server.body in BODIES:
        client = make_client("http://a:1", server, timeout=0.2)
        mapping = EtcdMapping(client=client, prefix="/app")
        set_it = lambda: mapping.set("k", 1)
        for call in (lambda: mapping["k"], mapping.to_dict, set_it):
            try:
                call()
            except EtcdMapError as error:
                pass
    print("done")

threading.stack_size(128 * 1024)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


def test_deep_answers_in_a_thread_with_a_small_stack_end_as_errors() -> None:
    """The process lives on: on 128 KiB, where a thousand levels end it."""
    done = subprocess.run(
        [sys.executable, "-c", SMALL_STACK],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
