"""The pages that repeat the code: limits, and the messages of the library."""

from __future__ import annotations

import ast
import inspect
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import etcdmap
from etcdmap import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapping,
    LimitExceeded,
    Live,
    Policy,
    cache,
    codecs,
    connect,
    paths,
    refusals,
)
from etcdmap import errors as etcdmap_errors
from etcdmap.client import attempts, freshness
from etcdmap.client import client as failover
from etcdmap.local import member
from etcdmap.mapping import base as mapping_base
from etcdmap.mapping import execution, feed, subscription
from etcdmap.transport import head, http1, pool, protocol
from etcdmap.v2 import memory, parsing, responses, setbacks, spelling, watching
from etcdmap.v2 import request as v2_request

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "reference" / "limits.md"
PERFORMANCE = DOCS / "explanation" / "performance.md"
CONNECT = inspect.signature(connect).parameters

#: What bounds what, by the first column of the tables.
LIMITS: dict[str, float] = {
    "levels of a path": paths.MAX_DEPTH,
    "length of a path": paths.MAX_TARGET,
    "size of a value": spelling.MAX_BODY,
    "levels of lists": codecs.MAX_NESTING,
    "digits": codecs.MAX_INT_DIGITS,
    "a ttl": spelling.MAX_TTL,
    "how long a call may": failover.DEFAULT_TIMEOUT,
    "how long it may take to make": CONNECT["connect_timeout"].default.value,
    "how old the data": failover.DEFAULT_MAX_STALE,
    "how often a read": freshness._RENEW_AFTER * failover.DEFAULT_MAX_STALE,
    "the longest pause before a call": mapping_base._LONGEST_PAUSE,
    "the time that the client assumes": parsing._SECONDS_PER_ITEM * 1e6,
    "how long Tab": mapping_base._COMPLETION_PATIENCE,
    "how long the client waits for the list": failover._SYNC_TIMEOUT,
    "how long the client waits before": Policy().first_delay,
    "the shortest time .* a read": Policy().read_floor,
    "the shortest time .* a write": Policy().write_floor,
    "how long an endpoint rests after one": Policy().first_rest,
    "how long an endpoint rests at most": Policy().longest_rest,
    "the first pause": Policy().first_pause,
    "the longest pause after all": Policy().longest_pause,
    "the longest time between two checks": inspect.signature(EtcdMapping.live)
    .parameters["max_stale"]
    .default,
    "how often the replica asks": watching._LOOK_EVERY,
    "how long the replica waits for the answer to": setbacks.PATIENCE,
    "how long the replica waits for the answer when": setbacks.PATIENCE
    * watching._QUORUM_PATIENCE,
    "how long the replica waits for the index": setbacks.PATIENCE
    * watching._CONTACT_PATIENCE,
    "how long an outage": setbacks.ELECTION,
    "the longest pause between two attempts": setbacks.LONGEST_PAUSE,
    "how long a callback": feed._GLANCE,
    "how long the first read": feed._CATCH_UP,
    "changes by which a live": watching._FAR,
    "events that may wait": subscription._LONG,
    "how long `LocalCluster`": member.START_TIMEOUT,
    "size of an answer$": protocol.DEFAULT_MAX_RESPONSE,
    "memory": float(re.findall(r"\*\*(\d+) times", PERFORMANCE.read_text())[0]),
    "size of an answer that refuses": protocol.MAX_REFUSAL,
    "size of the head": http1.MAX_HEAD,
    "number of header fields": head.MAX_FIELDS,
    "redirects": attempts._MOST_REDIRECTS,
    "requests that a write": execution.MOST_CONNECTIONS,
    "idle": pool.MAX_IDLE,
    "how often a call tries": mapping_base._MOST_ROUNDS,
    "additional requests": Policy().hedge_share * 100,
    "keys in the cache": cache.DEFAULT_SIZE,
    "keys whose": memory._MOST,
    "endpoints": v2_request.MOST_URLS,
    "refused values": refusals._MOST_TOLD,
    "different causes .* for one endpoint": etcdmap_errors._MOST_CAUSES,
    "different causes .* a `PartialWrite`": etcdmap_errors._MOST_KINDS,
    "characters that the message": etcdmap_errors._MOST_SHOWN,
    "characters that the attribute": responses._MOST_CAUSE,
}


def test_limits_are_those_of_the_code() -> None:
    """Each row has a constant, and each constant a row."""
    ours, _, _ = PAGE.read_text().partition("## Of etcd itself")
    rows = [row.split(" | ") for row in re.findall(r"^\| (?!what)(.*) \|$", ours, re.M)]
    shown = {what: limit for what, limit, _ in rows}
    for front, value in LIMITS.items():
        (limit,) = [limit for what, limit in shown.items() if re.match(front, what)]
        number = re.findall(r"[\d,.]*\d", limit)[1 if front == "a ttl" else 0]
        assert float(number.replace(",", "")) == value, front
    assert len(shown) == len(LIMITS)


def test_value_of_quotes_is_too_large_before_one_of_spaces() -> None:
    """Nothing listens there: what is refused by its size never finds out."""
    cfg = EtcdMapping("http://127.0.0.1:1", prefix="/app", timeout=0.1)
    with pytest.raises(LimitExceeded):
        cfg["k"] = '"' * 4_000_000
    with pytest.raises(ClusterUnavailable):
        cfg["k"] = " " * 4_000_000


def test_troubles_quote_messages_of_the_library() -> None:
    """What a heading has in backticks is said by some module, or is an exception."""
    page = (DOCS / "how-to" / "troubles.md").read_text()
    headings = re.findall(r"^### `([^`]*)`", page, re.M)
    assert len(headings) > 25
    said = texts_of(Path(etcdmap.__file__).parent)
    for heading in headings:
        if heading in etcdmap.__all__ or heading.startswith("cfg["):
            continue
        for part in filter(None, heading.split("...")):
            assert any(part.strip(" ,") in text for text in said), heading


def texts_of(package: Path) -> list[str]:
    """Give the texts in the modules of a package, those with gaps joined by a dot."""
    texts = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(value, "value", "") for value in node.values)
                texts.append("".join(p if isinstance(p, str) else "\0" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def shape_of(message: str) -> list[str]:
    """Give the lines of a message without what differs from one run to the next."""
    text = re.sub(r"http://[\d.:]+", "URL", message)
    text = re.sub(r" \(\d+ times in [\d.]+ s\)", "", text)
    text = re.sub(r"no answer (within [\d.]+ s|in time)", "no answer", text)
    return text.replace("no answer, then no answer", "no answer").splitlines()


def test_sample_of_an_outage_is_what_an_outage_says() -> None:
    """One member does not run, the other one hangs: the message is the page's."""
    page = (DOCS / "how-to" / "outages.md").read_text()
    sample = page.partition("```text\n")[2].partition("\n```")[0]
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        free = socket.create_server(("127.0.0.1", 0))
        endpoints = [f"http://127.0.0.1:{s.getsockname()[1]}" for s in (free, hanging)]
        free.close()
        with (
            EtcdMapping(endpoints, prefix="/app", timeout=2, shuffle=False) as cfg,
            pytest.raises(DeadlineExceeded) as caught,
        ):
            cfg["db"]
    assert shape_of(str(caught.value)) == shape_of(sample)


def test_options_of_single_calls_are_those_of_the_methods() -> None:
    """Each row names all methods that take the option, and no other."""
    page = (DOCS / "reference" / "options.md").read_text()
    _, _, table = page.partition("## Of single calls")
    told: dict[str, set[str]] = {}
    for option, methods in re.findall(r"^\| `(\w+)` \| (`.*?) \|", table, re.M):
        told.setdefault(option, set()).update(re.findall(r"`(\w+)`", methods))
    assert len(told) == 5
    of_dicts = {"get", "pop", "setdefault"}  # whose `default` needs no row
    for option, methods in told.items():
        assert methods == {
            name
            for name, method in inspect.getmembers(EtcdMapping, inspect.isfunction)
            if option in inspect.signature(method).parameters
            and name not in of_dicts
            and not name.startswith("_")
        }


def test_options_of_a_watch_and_a_replica_are_those_of_the_methods() -> None:
    """Each has a row, with the methods that take it and its default."""
    page = (DOCS / "reference" / "options.md").read_text()
    table = page.partition("## Of a watch and a live replica")[2].partition("\n## ")[0]
    told = {
        (method, option, float(default) if default.isdigit() else default.strip("`"))
        for option, methods, default in re.findall(
            r"^\| `(\w+)` \| (`.*?) \| (.*?) \|", table, re.M
        )
        for method in re.findall(r"`(\w+)`", methods)
    }
    methods: list[Any] = [EtcdMapping.watch, EtcdMapping.live]
    methods += [Live.wait, Live.subscribe, Live.changes]
    taken = {
        (method.__name__, name, default if default == 10 else repr(default))
        for method in methods
        for name, parameter in inspect.signature(method).parameters.items()
        if (default := parameter.default) is not parameter.empty
    }
    assert told == taken


def test_ttl_may_be_none_where_the_page_says() -> None:
    """Each call of the row takes None for "for ever"; `refresh` has no default."""
    page = (DOCS / "reference" / "options.md").read_text()
    row, other = re.findall(r"^\| `ttl` \| (.*?) \|", page, re.M)
    for name in re.findall(r"`(\w+)`", row):
        parameter = inspect.signature(getattr(EtcdMapping, name)).parameters["ttl"]
        assert parameter.default is None, name
    assert other == "`refresh`"
    assert inspect.signature(EtcdMapping.refresh).parameters["ttl"].default is (
        inspect.Parameter.empty
    )


def test_pages_agree_on_how_often_a_read_proves() -> None:
    """Three quarters of `max_stale`, everywhere."""
    seconds = freshness._RENEW_AFTER * failover.DEFAULT_MAX_STALE
    for page in ("costs", "limits"):
        assert f"{seconds:g} s" in (DOCS / "reference" / f"{page}.md").read_text()
    for page in ("what-happens-when", "performance"):
        text = (DOCS / "explanation" / f"{page}.md").read_text()
        assert re.search(rf"{seconds:g} s", text), page
