"""How etcd stores and shows values, and what our forms and codecs make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etcdmap import EtcdMapping, KeysAPI, LimitExceeded
from etcdmap.codecs import CodecName
from etcdmap.transport import Answer, Exchange
from etcdmap.v2.spelling import MAX_BODY

from support.raw_http import Raw
from support.transports import CountingTransport

Cost = Callable[[Callable[[], object]], list[str]]

JSON = {"Content-Type": "application/json"}


class Noted:
    """An exchange whose answer is noted."""

    def __init__(self, inner: Exchange, answers: list[Answer]) -> None:
        self._inner = inner
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def result(self) -> Answer:
        """See `Exchange.result`."""
        self._answers.append(self._inner.result())
        return self._answers[-1]


def answers_of(transport: CountingTransport) -> list[Answer]:
    """Collect the answers that come over a transport from now on."""
    answers: list[Answer] = []
    begin = transport.inner.begin

    def noting(*arguments: Any) -> Any:
        return Noted(begin(*arguments), answers)

    transport.inner.begin = noting
    return answers


# --- the size of a form -------------------------------------------------------


def test_form_above_ten_mebibytes_is_refused(raw: Raw) -> None:
    """The limit counts bytes as sent; `--max-request-bytes` (1.5 MiB) does not."""
    form = "value=" + "a" * (MAX_BODY - len("value="))
    assert raw("PUT", "/k", form).status == 201
    too_large = raw("PUT", "/k", form + "a")
    assert too_large.error == (400, 210)
    assert "too large" in too_large.json["cause"]


def test_form_is_counted_after_percent_encoding(raw: Raw) -> None:
    """Letters outside ASCII are too many long before their UTF-8 is."""
    letters = MAX_BODY // len("%C3%A9") + 1
    assert letters * len("é".encode()) < MAX_BODY / 2
    assert raw("PUT", "/k", "value=" + "%C3%A9" * letters).error == (400, 210)


def test_mapping_stores_the_longest_form_and_refuses_one_more(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """The limit is checked before anything is sent, as it is spelt in the form."""
    longest = "é" * ((MAX_BODY - len("value=")) // len("%C3%A9"))
    mapping["k"] = longest
    assert mapping["k"] == longest

    def store_more() -> None:
        with pytest.raises(LimitExceeded):
            mapping["k"] = longest + "é"

    assert cost(store_more) == []


def test_answer_to_a_put_repeats_both_values(raw: Raw) -> None:
    """Replacing a large value by a large one brings both of them back."""
    raw("PUT", "/k", "value=" + "a" * 100_000)
    assert len(raw("PUT", "/k", "value=" + "b" * 100_000).body) > 200_000


def test_mapping_write_brings_no_value_back(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """The mapping asks etcd to leave the values out of the answer."""
    mapping["k"] = "a" * 100_000
    answers = answers_of(transport)
    mapping["k"] = "b" * 100_000
    assert [len(answer.body) < 1000 for answer in answers] == [True]


# --- what a form must say -----------------------------------------------------


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        pytest.param(None, None, id="no-body"),
        pytest.param("", None, id="empty-form"),
        pytest.param('{"value":"x"}', JSON, id="json"),
        pytest.param("ttl=60", None, id="no-value"),
    ],
)
def test_put_without_a_value_stores_an_empty_text(
    raw: Raw, form: str | None, headers: dict[str, str] | None
) -> None:
    """etcd takes a missing value for an empty one, and says it was a success."""
    raw("PUT", "/k", "value=before")
    assert raw("PUT", "/k", form, headers).status == 200
    assert raw.node("/k")["value"] == ""


@pytest.mark.parametrize("value", ["", "x", "a&b=c", "+ %", "é\n"])
def test_every_write_of_a_value_is_a_form_that_names_it(
    mapping: EtcdMapping, transport: CountingTransport, raw: Raw, value: str
) -> None:
    """Empty values too, so that none is lost on the way."""
    mapping["k"] = value
    body = transport.requests[-1].body
    assert body is not None
    assert body.startswith(b"value=")
    assert raw.node("/k")["value"] == value


def test_of_a_repeated_value_etcd_keeps_the_first(raw: Raw) -> None:
    """A list that HTTP libraries spell as repeated fields would be cut."""
    raw("PUT", "/k", "value=a&value=b")
    assert raw.node("/k")["value"] == "a"


@pytest.mark.parametrize(
    "value", [None, True, 1, b"x", b"\xff", ["a", "b"], {"a": 1}], ids=repr
)
def test_keys_api_takes_no_value_but_text(
    keys_api: KeysAPI, cost: Cost, prefix: str, value: Any
) -> None:
    """Nothing is spelt as text by accident: not None, not True, not a list."""

    def store() -> None:
        with pytest.raises(TypeError):
            keys_api.set(f"{prefix}/k", value)

    assert cost(store) == []


@pytest.mark.parametrize("codec", ["auto", "json", "text"])
def test_lone_surrogate_is_refused_before_any_request(
    mapping: EtcdMapping, cost: Cost, codec: CodecName
) -> None:
    """It has no UTF-8 form; the error says so instead of a half-sent form."""

    def store() -> None:
        with pytest.raises(ValueError, match="surrogate"):
            mapping.using(codec=codec)["k"] = "a\ud800"

    assert cost(store) == []


def test_list_and_true_keep_their_type(mapping: EtcdMapping, raw: Raw) -> None:
    """Through a mapping they are JSON, and come back as they were."""
    mapping.update({"list": ["a", "b"], "true": True, "none": None})
    assert raw.node("/list")["value"] == '["a","b"]'
    assert raw.node("/true")["value"] == "true"
    assert raw.node("/none")["value"] == "null"
    assert mapping.to_dict() == {"list": ["a", "b"], "none": None, "true": True}


# --- bytes, and nothing -------------------------------------------------------


def test_value_that_is_no_utf8_reads_back_as_replacement_characters(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """etcd keeps the bytes, compares with them, and never shows them."""
    raw("PUT", "/k", "value=%ff%fe")
    assert raw.node("/k")["value"] == "\ufffd\ufffd"
    assert mapping["k"] == "\ufffd\ufffd"
    assert raw("PUT", "/k", "prevValue=%ff%fe&value=x").status == 200


def test_mapping_refuses_bytes_and_names_base64(mapping: EtcdMapping) -> None:
    """Bytes would not come back, so the error says what to use."""
    with pytest.raises(TypeError, match="base64"):
        mapping["k"] = b"\xff"


def test_empty_value_is_a_value(mapping: EtcdMapping, raw: Raw) -> None:
    """It is stored, shown and found, and is not the same as absent."""
    mapping["k"] = ""
    assert raw.node("/k")["value"] == ""
    assert "k" in mapping
    assert mapping.get("k", "default") == ""
    assert mapping.setdefault("k", "other") == ""


def test_empty_directory_looks_like_one_that_was_not_listed(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """Both show `dir` and no `nodes`; the mapping asks for each by itself."""
    raw("PUT", "/empty?dir=true")
    raw("PUT", "/full/k", "value=1")
    listed = {node["key"]: node for node in raw.node("/")["nodes"]}
    full, empty = listed[f"{raw.prefix}/full"], listed[f"{raw.prefix}/empty"]
    assert sorted(full) == sorted(empty)
    assert "nodes" not in empty
    assert mapping["full"] == {"k": 1}
    assert mapping["empty"] == {}


def test_what_is_false_or_zero_is_left_out(raw: Raw) -> None:
    """A file shows no `dir`, and one without a time to live no `ttl`."""
    raw("PUT", "/k", "value=1")
    names = sorted(raw.node("/k"))
    assert names == ["createdIndex", "key", "modifiedIndex", "value"]


# --- how answers are spelt ----------------------------------------------------


def test_answers_escape_what_html_would_read(mapping: EtcdMapping, raw: Raw) -> None:
    """`<`, `>` and `&` come as escapes, which JSON undoes."""
    mapping["k"] = "<a&b>"
    assert rb"\u003ca\u0026b\u003e" in raw("GET", "/k").body
    assert mapping["k"] == "<a&b>"


def test_answers_are_never_compressed(raw: Raw) -> None:
    """Not even for a client that asks for it."""
    raw("PUT", "/k", "value=" + "a" * 10_000)
    answer = raw("GET", "/k", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.json["node"]["value"] == "a" * 10_000


def test_large_answer_has_no_length_and_is_read_whole(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """It comes in chunks, and every reader of it ends at the last one."""
    mapping["k"] = "a" * 100_000
    answer = raw("GET", "/k")
    assert "content-length" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"
    assert mapping["k"] == "a" * 100_000
    assert mapping.to_dict() == {"k": "a" * 100_000}
