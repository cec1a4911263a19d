"""Nodes, requests and answers as plain data."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from etcdmap.client import Resend
from etcdmap.errors import InvalidResponse
from etcdmap.transport import Answer
from etcdmap.v2.models import Node, Result
from etcdmap.v2.responses import is_shown_by

from support.requests import Asked, Request

FILE = {"key": "/k", "value": "hunter2", "modifiedIndex": 5, "createdIndex": 4}


def test_node_file_has_every_field() -> None:
    """What etcd says of a file is there under the same names."""
    node = Node.from_json(
        {**FILE, "ttl": 30, "expiration": "2026-11-22T10:00:00.5Z"},
    )
    assert node == Node(
        key="/k",
        value="hunter2",
        dir=False,
        nodes=None,
        created_index=4,
        modified_index=5,
        ttl=30,
        expiration=datetime(2026, 11, 22, 10, 0, 0, 500_000, tzinfo=timezone.utc),
    )


def test_node_directory_has_children_and_no_value() -> None:
    """A directory's value is None, also where etcd's JSON had one."""
    child = {**FILE, "key": "/d/k"}
    node = Node.from_json({"key": "/d", "dir": True, "value": "x", "nodes": [child]})
    assert node.dir
    assert node.value is None
    assert node.nodes == (Node.from_json(child),)


@pytest.mark.parametrize("key", ["/k", "/d", "/d/", "/dd/k", "/d/k/k", "k", ""])
def test_node_child_of_another_directory_is_invalid_response(key: str) -> None:
    """What a directory shows lies right below it."""
    with pytest.raises(InvalidResponse, match="no child"):
        Node.from_json({"key": "/d", "dir": True, "nodes": [{**FILE, "key": key}]})


def test_node_of_the_root_has_children() -> None:
    """The root comes without a key; what it shows has one segment."""
    node = Node.from_json({"dir": True, "nodes": [FILE]})
    assert node.nodes == (Node.from_json(FILE),)


def test_node_unlisted_directory_has_no_children() -> None:
    """An empty directory and one that was not listed look the same in etcd."""
    assert Node.from_json({"key": "/d", "dir": True}).nodes is None
    assert Node.from_json({"key": "/d", "dir": True, "nodes": []}).nodes == ()


def test_node_root_has_a_key_and_index_zero() -> None:
    """etcd leaves out the root's key and indexes."""
    node = Node.from_json({"dir": True})
    assert (node.key, node.created_index, node.modified_index) == ("/", 0, 0)


def test_node_empty_value_is_a_value() -> None:
    """An empty text is not the same as none."""
    assert Node.from_json({"key": "/k", "value": ""}).value == ""
    assert Node.from_json({"key": "/k"}).value is None


def test_node_that_is_said_to_be_no_directory_is_a_file() -> None:
    """etcd leaves it out; JSON's own false says the same."""
    assert not Node.from_json({**FILE, "dir": False}).dir


@pytest.mark.parametrize(
    ("shown", "ttl"),
    [
        pytest.param({"ttl": 1}, 1, id="last-second"),
        pytest.param({"ttl": 315_360_000}, 315_360_000, id="years"),
        pytest.param({"ttl": 0}, 0, id="over"),
        pytest.param({"ttl": -1}, 0, id="below"),
        pytest.param({"expiration": "2026-11-22T10:00:00Z"}, 0, id="left-out"),
    ],
)
def test_node_ttl_that_is_over_is_0(shown: dict[str, Any], ttl: int) -> None:
    """An expired node is seen for half a second more; etcd leaves a ttl of 0 out."""
    assert Node.from_json({**FILE, **shown}).ttl == ttl


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        pytest.param("2026-11-22T10:00:00Z", 0, id="none"),
        pytest.param("2026-11-22T10:00:00.1Z", 100_000, id="1"),
        pytest.param("2026-11-22T10:00:00.123Z", 123_000, id="3"),
        pytest.param("2026-11-22T10:00:00.123456Z", 123_456, id="6"),
        pytest.param("2026-11-22T10:00:00.123456789Z", 123_456, id="9"),
    ],
)
def test_node_expiration_has_any_number_of_digits(text: str, micros: int) -> None:
    """Go leaves out trailing zeros; what is finer than Python can show is cut."""
    expiration = Node.from_json({**FILE, "expiration": text}).expiration
    assert expiration == datetime(2026, 11, 22, 10, 0, 0, micros, tzinfo=timezone.utc)
    assert expiration is not None
    assert expiration.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"key": 5}, id="key"),
        pytest.param({"dir": None}, id="dir-null"),
        pytest.param({"dir": 1}, id="dir-number"),
        pytest.param({"dir": "true"}, id="dir-text"),
        pytest.param({"value": 5}, id="value"),
        pytest.param({"value": ["a"]}, id="value-list"),
        pytest.param({"modifiedIndex": "5"}, id="modified"),
        pytest.param({"modifiedIndex": True}, id="modified-bool"),
        pytest.param({"modifiedIndex": None}, id="modified-null"),
        pytest.param({"modifiedIndex": -1}, id="modified-below-0"),
        pytest.param({"modifiedIndex": 2**64}, id="modified-huge"),
        pytest.param({"createdIndex": 5.0}, id="created"),
        pytest.param({"createdIndex": 2**64}, id="created-huge"),
        pytest.param({"ttl": "5"}, id="ttl"),
        pytest.param({"ttl": False}, id="ttl-bool"),
        pytest.param({"ttl": 2**63}, id="ttl-huge"),
        pytest.param({"expiration": 5}, id="expiration"),
        pytest.param({"expiration": "soon"}, id="expiration-text"),
        pytest.param({"expiration": ""}, id="expiration-empty"),
        pytest.param({"expiration": "2026-11-22T10:00:00.xZ"}, id="expiration-digits"),
        pytest.param({"expiration": "2026-13-22T10:00:00Z"}, id="expiration-month"),
        pytest.param({"nodes": 5}, id="nodes"),
        pytest.param({"nodes": {}}, id="nodes-object"),
        pytest.param({"nodes": ""}, id="nodes-text"),
        pytest.param({"nodes": False}, id="nodes-false"),
        pytest.param({"nodes": [None]}, id="child-null"),
        pytest.param({"nodes": [{"value": "v"}]}, id="child-without-key"),
        pytest.param({"nodes": [5]}, id="child"),
        pytest.param({"nodes": [{"key": 5}]}, id="grandchild"),
    ],
)
def test_node_wrong_field_is_invalid_response(wrong: dict[str, Any]) -> None:
    """A field of another type is noticed, and its value not shown."""
    with pytest.raises(InvalidResponse, match=r"^a node whose ") as caught:
        Node.from_json({**FILE, **wrong})
    assert "hunter2" not in str(caught.value)


def test_node_repr_shows_no_value() -> None:
    """A node ends up in a log sooner or later."""
    node = Node.from_json(FILE)
    assert repr(node) == "<Node file '/k' at index 5>"
    child = {**FILE, "key": "/d/k"}
    listed = Node.from_json({"key": "/d", "dir": True, "nodes": [child]})
    assert repr(listed) == "<Node directory '/d' at index 0>"


def test_result_repr_shows_no_value() -> None:
    """Nor does what holds nodes."""
    node = Node.from_json(FILE)
    result = Result("set", node, node, 5, None, None, None)
    assert "hunter2" not in repr(result)


def test_answer_repr_shows_no_body() -> None:
    """An answer's body holds values, and its repr can end up in a traceback."""
    shown = repr(
        Answer(200, {"x-etcd-index": "5"}, b'{"value":"hunter2"}', "http://a:1")
    )
    assert "hunter2" not in shown


@pytest.mark.parametrize("name", ["key", "value", "modified_index", "new"])
def test_node_can_not_be_changed(name: str) -> None:
    """Nodes are shared by threads and caches."""
    node = Node.from_json(FILE)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        setattr(node, name, "x")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Node.from_json(FILE), id="node"),
        pytest.param(
            Result("get", Node.from_json(FILE), None, 5, 6, 7, "id"), id="res"
        ),
    ],
)
def test_model_is_hashable_and_survives_copying(model: Any) -> None:
    """Plain data can be compared, put in a set and sent to another process."""
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301
    assert copy.deepcopy(model) == model
    assert len({model, copy.deepcopy(model)}) == 1


def test_request_defaults_to_the_careful_choice() -> None:
    """Who says nothing gets a request that is not sent twice."""
    request = Request("PUT", "/v2/keys/k", lambda answer: answer)
    assert request.resend is Resend.IF_NOT_SENT
    assert not request.patient
    assert request.body is None


def test_request_repr_shows_neither_query_nor_body() -> None:
    """Both hold values."""
    request = Request(
        "PUT", "/v2/keys/k?prevValue=hunter2", lambda answer: answer, b"value=hunter2"
    )
    assert repr(request) == "<Request PUT /v2/keys/k>"


# --- what was asked for -------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        pytest.param(Asked("/k"), {"key": "/k"}, id="key"),
        pytest.param(Asked("/k/"), {"key": "/k"}, id="slash"),
        pytest.param(Asked("/"), {}, id="root"),
        pytest.param(Asked("/"), {"key": "/"}, id="root-slash"),
        pytest.param(Asked("/d", inside=True), {"key": "/d/007"}, id="inside"),
        pytest.param(Asked("/d/", inside=True), {"key": "/d/007"}, id="inside-slash"),
        pytest.param(Asked("/", inside=True), {"key": "/007"}, id="inside-root"),
        pytest.param(Asked("/d", None), {"key": "/d"}, id="watch"),
        pytest.param(Asked("/d", None), {"key": "/d/a/b"}, id="watch-below"),
        pytest.param(Asked("/d/a", None), {"key": "/d"}, id="watch-above"),
        pytest.param(Asked("/ddXYZ", None), {"key": "/dd"}, id="watch-history"),
        pytest.param(Asked("/", None), {"key": "/d"}, id="watch-root"),
    ],
)
def test_asked_is_shown_by_its_node(asked: Asked, shown: dict[str, Any]) -> None:
    """A node is the one asked for, or new below it, or what a watch tells of."""
    assert is_shown_by(asked, shown)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        pytest.param(Asked("/k"), {"key": "/z"}, id="other"),
        pytest.param(Asked("/k"), {"key": "/k/a"}, id="below"),
        pytest.param(Asked("/a/k"), {"key": "/a"}, id="above"),
        pytest.param(Asked("/k"), {"key": "/kk"}, id="longer"),
        pytest.param(Asked("/k"), {"key": "k"}, id="relative"),
        pytest.param(Asked("/k"), {"key": "/k/"}, id="slash"),
        pytest.param(Asked("/k"), {"key": "/"}, id="root-slash"),
        pytest.param(Asked("/k"), {}, id="root"),
        pytest.param(Asked("/k"), {"key": 5}, id="number"),
        pytest.param(Asked("/k"), {"key": None}, id="null"),
        pytest.param(Asked("/"), {"key": "/k"}, id="no-root"),
        pytest.param(Asked("/d", inside=True), {"key": "/d"}, id="inside-itself"),
        pytest.param(Asked("/d", inside=True), {"key": "/d/"}, id="inside-slash"),
        pytest.param(Asked("/d", inside=True), {"key": "/d/a/b"}, id="inside-deep"),
        pytest.param(Asked("/d", inside=True), {"key": "/dd/a"}, id="inside-other"),
        pytest.param(Asked("/", inside=True), {"key": "/"}, id="inside-root"),
        pytest.param(Asked("/d", None), {"key": "/e"}, id="watch-other"),
        pytest.param(Asked("/d", None), {"key": "/dd"}, id="watch-longer"),
        pytest.param(Asked("/d", None), {"key": 5}, id="watch-number"),
    ],
)
def test_asked_is_not_shown_by_another_node(
    asked: Asked, shown: dict[str, Any]
) -> None:
    """Another's node, however much alike."""
    assert not is_shown_by(asked, shown)
