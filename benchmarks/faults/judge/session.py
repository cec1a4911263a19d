"""Whether reads kept the rules of a session, whoever wrote.

The rules, for each client and key: its reads never go back in time, and they see its
own acknowledged writes.  "Back" needs an order of all writes, which nobody saw.  But
since every value is written once, each fact says of two values that one is not newer
than the other:

- a write that ended, or was read, before another began took effect before it;
- of two reads in a session the second saw nothing older than the first;
- a read in a session saw nothing older than an own write acknowledged before.

There is an order that agrees with all facts if and only if they form no circle.  The
graph of the facts has a node for each value and, so that "before" needs no edge for
each pair, a chain of nodes for the moments of all, and one for those of each session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.faults.judge.history import Op

Node = tuple[Any, ...]
Graph = dict[Node, list[Node]]


def broken(ops: Sequence[Op], initial: str | None = None) -> list[str]:
    """Find contradictions in the history of one key.

    Args:
        ops: all operations on it.  Absent, after a delete, is a value written many
            times; such reads decide nothing here.
        initial: the value before all of them.

    Returns:
        A sentence for each circle.
    """
    deletes = any(op.writes and op.value is None for op in ops)
    writes = [op for op in ops if op.writes and op.value is not None]
    reads = [
        op
        for op in ops
        if op.reads and op.level != "any" and not (deletes and op.value is None)
    ]
    graph = _facts(writes, reads, initial)
    return [_describe(circle) for circle in _circles(graph) if _contradicts(circle)]


def _value(op: Op) -> Node:
    return "value", op.value


def _start(op: Op) -> Node:
    return "time", op.start, 0


def _end(op: Op) -> Node:
    return "time", op.end, 1  # what begins at the same time overlaps


def _own(op: Op, moment: Node) -> Node:
    return ("session", op.client, *moment)


def _facts(writes: list[Op], reads: list[Op], initial: str | None) -> Graph:
    graph: Graph = defaultdict(list)
    acknowledged = [op for op in writes if op.acknowledged]
    moments = {_start(op) for op in writes}
    moments |= {_end(op) for op in (*acknowledged, *reads)}
    chain = _add_chain(graph, moments)
    if chain:
        graph["value", initial].append(chain[0])
    for op in writes:
        graph[_start(op)].append(_value(op))
    for op in (*acknowledged, *reads):
        graph[_value(op)].append(_end(op))
    _add_sessions(graph, acknowledged, reads)
    return graph


def _add_sessions(graph: Graph, acknowledged: list[Op], reads: list[Op]) -> None:
    moments: dict[str, set[Node]] = defaultdict(set)
    for op in (*acknowledged, *reads):
        end = _own(op, _end(op))
        moments[op.client].add(end)
        graph[_value(op)].append(end)
    for op in reads:
        start = _own(op, _start(op))
        moments[op.client].add(start)
        graph[start].append(_value(op))
    for nodes in moments.values():
        _add_chain(graph, nodes)


def _add_chain(graph: Graph, nodes: Iterable[Node]) -> list[Node]:
    chain = sorted(nodes)
    for earlier, later in pairwise(chain):
        graph[earlier].append(later)
    return chain


def _contradicts(circle: Sequence[Node]) -> bool:
    """Tell whether it says more than that a value is not newer than itself."""
    kinds = [node[0] for node in circle]
    return kinds.count("value") > 1 or "time" in kinds


def _describe(circle: Sequence[Node]) -> str:
    values = [str(node[1]) for node in circle if node[0] == "value"]
    clients = sorted({node[1] for node in circle if node[0] == "session"})
    shown = ", ".join(sorted(values)[:4]) + (", ..." if len(values) > 4 else "")
    who = " and ".join(clients) or "its readers"
    return f"no order of the values {shown} agrees with what {who} saw"


def _circles(graph: Graph) -> Iterator[list[Node]]:
    """Give the strongly connected parts of more than one node."""
    search = _Tarjan(graph)
    for node in list(graph):
        if node not in search.order:
            for part in search.parts(node):
                if len(part) > 1:
                    yield part


class _Tarjan:
    """Tarjan's search, without recursion: the chains are thousands of nodes long."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.order: dict[Node, int] = {}
        self._low: dict[Node, int] = {}
        self._path: list[Node] = []
        self._done: set[Node] = set()

    def parts(self, root: Node) -> Iterator[list[Node]]:
        work = [self._enter(root)]
        while work:
            node, following = work[-1]
            child = next(following, None)
            if child is None:
                work.pop()
                if work:
                    self._lower(work[-1][0], self._low[node])
                if self._low[node] == self.order[node]:
                    yield self._leave(node)
            elif child not in self.order:
                work.append(self._enter(child))
            elif child not in self._done:
                self._lower(node, self.order[child])

    def _enter(self, node: Node) -> tuple[Node, Iterator[Node]]:
        self.order[node] = self._low[node] = len(self.order)
        self._path.append(node)
        return node, iter(self._graph.get(node, ()))

    def _lower(self, node: Node, to: int) -> None:
        self._low[node] = min(self._low[node], to)

    def _leave(self, node: Node) -> list[Node]:
        part = [self._path.pop()]
        while part[-1] != node:
            part.append(self._path.pop())
        self._done.update(part)
        return part
