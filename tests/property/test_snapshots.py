"""A subtree read by cutting files out of the text is what reading its JSON gives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdmap.errors import DecodeError, InvalidResponse, NotADirectory
from etcdmap.transport import Answer
from etcdmap.v2.listing import snapshot_of
from etcdmap.v2.responses import guarded

from support.requests import Asked

NAMES = st.text("abcé*\u2028%.~ ", min_size=1, max_size=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["null", '","modifiedIndex":1', '{"key":"/x","value":"y"}', "\\", '"', "*", "<&>"]
)
TREES: Any = st.recursive(
    st.dictionaries(NAMES, TEXTS, max_size=6),
    lambda inner: st.dictionaries(NAMES, TEXTS | inner, max_size=5),
    max_leaves=30,
)


def spelt(value: Any) -> str:
    """Write JSON as Go's encoder does."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029\x7f"[:5]:
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def node_text(path: str, value: Any, chance: random.Random) -> str:
    """Write a node: its fields in etcd's order, its children in none."""
    fields = [f'"key":{spelt(path)}'] if path else []
    if isinstance(value, str):
        fields.append(f'"value":{spelt(value)}')
        if chance.random() < 0.2:
            fields.append('"expiration":"2026-01-01T00:00:00.5Z","ttl":5')
    else:
        fields.append('"dir":true')
        children = list(value.items())
        chance.shuffle(children)
        if children:
            nodes = (node_text(f"{path}/{k}", v, chance) for k, v in children)
            fields.append(f'"nodes":[{",".join(nodes)}]')
    if path:
        fields.append(f'"modifiedIndex":{chance.randrange(1, 10**6)},"createdIndex":1')
    return "{" + ",".join(fields) + "}"


def body_of(path: str, tree: Any, seed: int) -> str:
    """Write the answer to a recursive GET."""
    text = node_text(path, tree, random.Random(seed))
    return f'{{"action":"get","node":{text}}}\n'


def read(body: str, path: str = "/k") -> dict[str, Any]:
    """Read an answer as a mapping does."""
    answer = Answer(200, {"x-etcd-index": "7"}, body.encode(), "http://a:1")

    def snapshot(asked: Any, answer: Answer) -> dict[str, Any]:
        return snapshot_of(str, None, asked, answer).value

    return guarded(snapshot, Asked(path), answer)


def ordered(tree: Any) -> Any:
    """Give a tree as lists of pairs, which compare by order as well."""
    if isinstance(tree, str):
        return tree
    return [(key, ordered(value)) for key, value in tree.items()]


def in_order(tree: Any) -> Any:
    """Sort a tree by key."""
    if isinstance(tree, str):
        return tree
    return {key: in_order(tree[key]) for key in sorted(tree)}


@given(tree=TREES, seed=st.integers(0, 1000), path=st.sampled_from(["", "/k", "/é/k"]))
def test_every_tree_is_read_in_order(tree: Any, seed: int, path: str) -> None:
    """Whatever is cut out, and whatever stays, comes back in its place."""
    assert ordered(read(body_of(path, tree, seed), path)) == ordered(in_order(tree))


def by_json(path: str, raw: dict[str, Any]) -> Any:
    """Read a node the slow way."""
    if raw.get("dir") is not True:
        return raw["value"]
    children = raw.get("nodes", [])
    return {
        child["key"][len(path) + 1 :]: by_json(child["key"], child)
        for child in children
    }


@given(
    tree=TREES,
    seed=st.integers(0, 1000),
    at=st.integers(0, 10**6),
    cut=st.integers(0, 40),
    patch=st.text('{}[],:"\\0null/k', max_size=4),
)
def test_damaged_answer_is_refused_or_read_as_json_reads_it(
    tree: Any, seed: int, at: int, cut: int, patch: str
) -> None:
    """No damage that JSON would show is passed over."""
    body = body_of("/k", tree, seed)
    at %= len(body)
    damaged = body[:at] + patch + body[at + cut :]
    try:
        content = read(damaged)
    except (InvalidResponse, NotADirectory):
        return
    assert content == by_json("/k", json.loads(damaged)["node"])


FILE = '{"key":"/k/f","value":"v","modifiedIndex":3,"createdIndex":3}'


@pytest.mark.parametrize(
    "node",
    [
        pytest.param("null", id="null"),
        pytest.param("{}", id="empty"),
        pytest.param('{"key":"/k","dir":true,"nodes":[null]}', id="null-child"),
        pytest.param(
            f'{{"key":"/k","dir":true,"nodes":[{FILE},null]}}', id="file-and-null"
        ),
        pytest.param(
            f'{{"key":"/k","dir":true,"nodes":[null],"more":{FILE}}}', id="elsewhere"
        ),
        pytest.param(f'{{"key":"/k","dir":true,"more":{FILE}}}', id="in-no-directory"),
        pytest.param(f'{{"key":"/kk","dir":true,"nodes":[{FILE}]}}', id="not-below"),
    ],
)
def test_file_out_of_place_is_refused(node: str) -> None:
    """A file counts where a listing has it, and nowhere else."""
    with pytest.raises(InvalidResponse):
        read(f'{{"action":"get","node":{node}}}')


@pytest.mark.parametrize("spelt", ["false", "null"])
def test_file_that_says_that_it_is_no_directory_is_a_file(spelt: str) -> None:
    """etcd leaves it out; others may not."""
    file = f'{{"key":"/k/f","dir":{spelt},"value":"v","modifiedIndex":3}}'
    node = f'{{"key":"/k","dir":true,"nodes":[{file}]}}'
    assert read(f'{{"action":"get","node":{node}}}') == {"f": "v"}


def test_slash_at_the_end_of_the_directory_changes_no_name() -> None:
    """Some servers give the root's key, which ends in a slash."""
    file = '{"key":"/foo","value":"v","modifiedIndex":3,"createdIndex":3}'
    node = f'{{"key":"/","dir":true,"nodes":[{file}]}}'
    assert read(f'{{"action":"get","node":{node}}}', "/") == {"foo": "v"}


@pytest.mark.parametrize("nodes", ["null", "0", '""', "{}", f'{{"a":{FILE}}}'])
def test_children_that_are_no_list_are_refused(nodes: str) -> None:
    """Nonsense is not an empty directory."""
    with pytest.raises(InvalidResponse):
        read(f'{{"action":"get","node":{{"key":"/k","dir":true,"nodes":{nodes}}}}}')


@pytest.mark.filterwarnings("ignore::etcdmap.UnreadableName")
@given(tree=TREES, seed=st.integers(0, 1000))
def test_what_is_left_out_is_not_decoded(tree: Any, seed: int) -> None:
    """No key leads there, so nobody could mend it."""

    def key_of(name: str) -> str | None:
        return None if "c" in name else name

    def decode(text: str) -> str:
        if text == "bad":
            raise ValueError
        return text

    def spoilt(tree: Any, hidden: bool) -> Any:
        if isinstance(tree, str):
            return "bad" if hidden else tree
        return {k: spoilt(v, hidden or "c" in k) for k, v in tree.items()}

    def seen(tree: Any) -> Any:
        if isinstance(tree, str):
            return tree
        return {k: seen(v) for k, v in tree.items() if "c" not in k}

    body = body_of("/k", spoilt(tree, False), seed).encode()
    answer = Answer(200, {"x-etcd-index": "7"}, body, "http://a:1")
    assert snapshot_of(decode, key_of, Asked("/k"), answer).value == seen(tree)


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyError])
@pytest.mark.parametrize("more", ["", ',{"key":"/k/d","dir":true}'])
def test_codec_that_fails_names_the_key(error: type[Exception], more: str) -> None:
    """Whatever it raises, and whatever stands beside the file."""

    def decode(text: str) -> str:
        raise error

    node = f'{{"key":"/k","dir":true,"nodes":[{FILE}{more}]}}'
    body = f'{{"action":"get","node":{node}}}'.encode()
    answer = Answer(200, {"x-etcd-index": "7"}, body, "http://a:1")
    with pytest.raises(DecodeError) as caught:
        snapshot_of(decode, None, Asked("/k"), answer)
    assert caught.value.key == "/k/f"


def test_file_asked_for_as_a_directory_says_so() -> None:
    """The node asked for may be a file, which is cut out like others."""
    with pytest.raises(NotADirectory):
        read(f'{{"action":"get","node":{FILE}}}', "/k/f")


def test_file_of_another_key_is_not_taken_for_the_directory() -> None:
    """One that is cut out has a key all the same."""
    with pytest.raises(InvalidResponse):
        read(f'{{"action":"get","node":{FILE}}}', "/k")


def test_large_answer_leaves_an_excerpt_only() -> None:
    """The body is not kept beside what was read from it."""
    tree = {f"k{n}": "v" * 50 for n in range(2000)}
    data = body_of("/k", tree, 1).encode()
    answer = Answer(200, {"x-etcd-index": "7"}, data, "http://a:1")
    assert snapshot_of(str, None, Asked("/k"), answer).value == in_order(tree)
    assert data.startswith(answer.body)
    assert len(answer.body) < 1000
