"""Answers of which one field of the JSON, or one header, is something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from etcdmap.transport import Answer

#: In place of a field; ABSENT takes it away.
ABSENT = object()
NESTED = [{"a": [None]}]
#: By what is there now: not all in each place, as that would take minutes.
WRONG: dict[type, list[Any]] = {
    str: [ABSENT, None, -1, "", "x", NESTED],
    int: [ABSENT, None, True, -1, 2**70, 1.5, "x", {}],
    bool: [ABSENT, None, -1, "x", []],
    list: [ABSENT, None, True, "", [], {}, NESTED],
    dict: [ABSENT, None, True, 1.5, "x", [], {}, NESTED],
    object: [True, -1, 2**70, "x", [], {}],
}
#: What some nodes have and others not.
SOMETIMES = ("dir", "nodes", "ttl", "expiration")
#: Headers that say something, and what may stand there.
HEADERS = ("x-etcd-index", "x-etcd-cluster-id", "x-raft-index")
TEXTS = [ABSENT, "", "-1", "1_0", "1.5", "\u0667", str(2**70)]

Path = tuple[str | int, ...]


def payload_of(answer: Answer) -> Any:
    """Give the JSON, None without a body."""
    return json.loads(answer.body) if answer.body else None


def fields_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """Give the way to each field of a JSON; of a list to those of the first and last.

    To those, too, that other nodes have.
    """
    if isinstance(value, dict):
        more = SOMETIMES if "modifiedIndex" in value else ()
        for name in dict.fromkeys((*value, *more)):
            yield (*path, name)
            yield from fields_of(value.get(name), (*path, name))
    elif isinstance(value, list):
        for at in sorted({0, len(value) - 1}) if value else ():
            yield (*path, at)
            yield from fields_of(value[at], (*path, at))


def with_field(answer: Answer, path: Path, wrong: Any) -> Answer:
    """Give an answer with another value at a place, if it has that place."""
    payload = payload_of(answer)
    place = payload
    try:
        for step in path[:-1]:
            place = place[step]
        if wrong is ABSENT:
            del place[path[-1]]
        else:
            place[path[-1]] = wrong
    except (KeyError, IndexError, TypeError):
        return answer
    return replace(answer, body=json.dumps(payload).encode())


def with_header(answer: Answer, name: str, wrong: Any) -> Answer:
    """Give an answer with another header, or without it."""
    headers = {**answer.headers, name: wrong}
    if wrong is ABSENT:
        del headers[name]
    return replace(answer, headers=headers)


def at(payload: Any, path: Path) -> Any:
    """Give the value at a place, or ABSENT."""
    try:
        for step in path:
            payload = payload[step]
    except (KeyError, IndexError, TypeError):
        return ABSENT
    return payload


def could_be_etcds(name: str | int, was: Any, wrong: Any) -> bool:
    """Tell whether a value could be etcd's own: then it is to be believed."""
    if name == "ttl" and wrong == -1:  # it has just expired
        return True
    if was is ABSENT:
        return (name, wrong) in (("dir", True), ("nodes", []), ("expiration", "x"))
    if wrong is ABSENT or wrong is None:  # as what is empty is left out
        return True
    return type(was) is type(wrong) and wrong not in (-1, 2**70)


class Alteration(NamedTuple):
    """What is done to answers, from which one on, and whether it is to be believed."""

    name: str
    first: int
    alter: Callable[[Answer], Answer]
    fits: bool


def alterations(answers: list[Answer]) -> Iterator[Alteration]:
    """Give all that is done to the answers of a call."""
    shapes = []
    for first, answer in enumerate(answers):
        payload = payload_of(answer)
        paths = list(fields_of(payload))
        shape = (paths, at(payload, ("action",)))
        if shape not in shapes:  # else an answer like this was altered before
            shapes.append(shape)
            yield from of_fields(first, payload, paths)
            yield from of_headers(first)


def of_fields(first: int, payload: Any, paths: list[Path]) -> Iterator[Alteration]:
    """Give what is done to fields of the JSON."""
    for path in paths:
        was = at(payload, path)
        for wrong in WRONG[type(was)]:
            yield Alteration(
                f"answer {first}, {path} = {wrong!r}",
                first,
                partial(with_field, path=path, wrong=wrong),
                could_be_etcds(path[-1], was, wrong),
            )


def of_headers(first: int) -> Iterator[Alteration]:
    """Give what is done to headers."""
    for header in HEADERS:
        for text in TEXTS:
            yield Alteration(
                f"answer {first}, {header}: {text!r}",
                first,
                partial(with_header, name=header, wrong=text),
                header != "x-etcd-index",
            )
