"""A transport to a real etcd whose answers are twisted: they answer something else.

In a time that does not pass: what is waited for in vain costs a test nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from etcdmap import Client
from etcdmap.client.freshness import Need
from etcdmap.connecting import make_client
from etcdmap.transport import Answer, Request, make_transport
from etcdmap.v2 import V2_API

from support.proper import Parts
from support.scripted_cluster import FakeTime, Steady
from support.transports import Instantly

#: Makes another answer of one that etcd gave; None if there is nothing to twist.
Twist = Callable[[Parts, Answer], Answer | None]

OTHER = "/other/00000000000000000001"


def _payload(answer: Answer) -> dict[str, Any] | None:
    """Give the JSON of a success."""
    if answer.status > 201 or not answer.body:
        return None
    payload: dict[str, Any] = json.loads(answer.body)
    return payload


def _saying(answer: Answer, payload: dict[str, Any]) -> Answer:
    return replace(answer, body=json.dumps(payload).encode())


def _telling(answer: Answer, **headers: str | None) -> Answer:
    fields = dict(answer.headers)
    for name, text in headers.items():
        name = name.replace("_", "-")
        fields.pop(name, None)
        if text is not None:
            fields[name] = text
    return replace(answer, headers=fields)


def another_key(asks: Parts, answer: Answer) -> Answer | None:
    """Be about another node."""
    payload = _payload(answer)
    if payload is None:
        return None
    node = payload.get("node") or {"value": "theirs", "modifiedIndex": 10**6}
    below = [{**child, "key": OTHER + child["key"]} for child in node.pop("nodes", ())]
    node = {**node, "key": OTHER, **({"nodes": below} if below else {})}
    return _saying(answer, {**payload, "node": node})


def another_action(asks: Parts, answer: Answer) -> Answer | None:
    """Tell of something else that was done."""
    payload = _payload(answer)
    if payload is None:
        return None
    other = "set" if asks.action == "get" else "get"
    return _saying(answer, {**payload, "action": other})


def no_action(asks: Parts, answer: Answer) -> Answer | None:
    """Tell nothing of what was done."""
    payload = _payload(answer)
    if payload is None:
        return None
    payload.pop("action", None)
    return _saying(answer, payload)


def no_node(asks: Parts, answer: Answer) -> Answer | None:
    """Show no node where there has to be one."""
    payload = _payload(answer)
    if payload is None or "node" not in payload:
        return None
    del payload["node"]
    return _saying(answer, payload)


def odd_children(asks: Parts, answer: Answer) -> Answer | None:
    """Show children that are another directory's."""
    payload = _payload(answer)
    if payload is None or not payload.get("node", {}).get("nodes"):
        return None
    for child in payload["node"]["nodes"]:
        child["key"] = OTHER + child["key"]
    return _saying(answer, payload)


def old_index(asks: Parts, answer: Answer) -> Answer | None:
    """Be as old as the state that was to be replaced, where that alone could tell."""
    payload = _payload(answer)
    if payload is None or "node" in payload:
        return None
    return _telling(answer, x_etcd_index=asks.parameters.get("prevIndex", "0"))


def another_cluster(asks: Parts, answer: Answer) -> Answer | None:
    """Come from another cluster."""
    return _telling(answer, x_etcd_cluster_id="abcdef")


def no_cluster(asks: Parts, answer: Answer) -> Answer | None:
    """Tell no cluster."""
    return _telling(answer, x_etcd_cluster_id=None)


def empty_cluster(asks: Parts, answer: Answer) -> Answer | None:
    """Tell an empty one."""
    return _telling(answer, x_etcd_cluster_id="")


class TwistedTransport(Instantly):
    """Passes exchanges on, and twists the answers that it is told to.

    Attributes:
        twist: does it; None to pass them on as they are.
        writes_only: whether reads are answered properly.
        twisted: how many answers were.
        passed: how many were not, since they do not show what is to be twisted.
        written: how many writes etcd carried out meanwhile.
    """

    def __init__(self) -> None:
        self._inner = make_transport()
        self.twist: Twist | None = None
        self.writes_only = False
        self.twisted = self.passed = self.written = 0

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Pass it on, and twist the answer."""
        answer = self._inner.begin(endpoint, request, 10.0).result()
        reads = request.method in ("GET", "HEAD")
        if self.twist is None or (reads and self.writes_only):
            return answer
        self.written += not reads and answer.status <= 201
        other = self.twist(Parts(request), answer)
        if other is None:
            self.passed += 1
            return answer
        self.twisted += 1
        return other

    def close(self) -> None:
        """Close the transport within."""
        self._inner.close()


@dataclass(frozen=True)
class Seen:
    """What a client remembers of its cluster, and whom it asks first."""

    index: int
    cluster_id: str | None
    need: Need
    pinned: str


class Notes:
    """What a client remembers of its cluster: to be the same afterwards."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.answers = 0
        answered = client.health.answered

        def noting(endpoint: str, kind: str, began: float) -> None:
            self.answers += 1
            answered(endpoint, kind, began)

        client.health.answered = noting  # type: ignore[method-assign]
        self.before = self.now()

    def now(self) -> Seen:
        """Give it."""
        freshness = self._client.freshness(V2_API)
        pinned = self._client.pinned
        known = freshness.index, freshness.cluster_id
        return Seen(*known, freshness.needs_proof(), pinned)


def twisted_client(
    endpoints: Sequence[str], transport: TwistedTransport, **options: Any
) -> Client:
    """Make a client in a time that does not pass."""
    time = FakeTime()
    return make_client(
        endpoints,
        transport,
        clock=time.clock,
        sleep=time.sleep,
        rng=Steady(),
        shuffle=False,
        **options,
    )
