"""etcd's conditions, indexes and refusals, and how we spell and read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etcdmap import (
    CompareFailed,
    DirectoryNotEmpty,
    EtcdMapping,
    InvalidRequest,
    KeyExists,
    KeyNotFound,
    KeysAPI,
    NotADirectory,
    NotAFile,
    RootReadOnly,
    WatchExpired,
)
from etcdmap.local import LocalCluster
from etcdmap.v2.responses import payload_of

from support.raw_http import Raw, ask

Cost = Callable[[Callable[[], object]], list[str]]

SECRET = "s3cr3t-value"


# --- conditions ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("condition", ["prevValue=x", "prevIndex=1"])
@pytest.mark.parametrize("flag", ["", "&dir=true", "&recursive=true"])
def test_directory_takes_no_condition(
    raw: Raw, method: str, condition: str, flag: str
) -> None:
    """Whatever the flags, comparing with a directory is refused."""
    raw("PUT", "/d?dir=true")
    form = "value=y" if method == "PUT" else None
    assert raw(method, f"/d?{condition}{flag}", form).error == (403, 102)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda m: m.compare_and_swap("d", 1, 2), id="swap"),
        pytest.param(lambda m: m.compare_and_delete("d", 1), id="delete"),
        pytest.param(lambda m: m.compare_and_swap("d", "", 2), id="swap-empty"),
        pytest.param(lambda m: m.transform("d", lambda value: value), id="transform"),
    ],
)
def test_mapping_condition_on_a_directory_is_no_file(
    mapping: EtcdMapping, use: Callable[[EtcdMapping], object]
) -> None:
    """The conditional methods are for values, and say so."""
    mapping["d"] = {"k": 1}
    with pytest.raises(NotAFile):
        use(mapping)
    assert mapping.to_dict() == {"d": {"k": 1}}


def test_empty_previous_value_is_refused(raw: Raw) -> None:
    """etcd can't compare with an empty text by value."""
    raw("PUT", "/k", "value=")
    assert raw("PUT", "/k", "prevValue=&value=x").error == (400, 201)


def test_mapping_swaps_and_deletes_an_empty_text(mapping: EtcdMapping) -> None:
    """It compares by index then, so the empty text is no exception for users."""
    mapping["k"] = ""
    mapping.compare_and_swap("k", "", "x")
    with pytest.raises(CompareFailed):
        mapping.compare_and_swap("k", "", "y")
    mapping["k"] = ""
    mapping.compare_and_delete("k", "")
    assert not mapping


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_previous_index_zero_is_no_condition(raw: Raw, method: str) -> None:
    """etcd carries the write out, whatever is there."""
    raw("PUT", "/k", "value=before")
    form = "value=after" if method == "PUT" else None
    assert raw(method, "/k?prevIndex=0", form).status == 200


@pytest.mark.parametrize("index", [0, -1])
def test_keys_api_never_sends_index_zero(
    keys_api: KeysAPI, cost: Cost, prefix: str, index: int
) -> None:
    """A condition that is none is refused before any request."""

    def use() -> None:
        with pytest.raises(ValueError, match="prev_index"):
            keys_api.compare_and_swap(f"{prefix}/k", "x", prev_index=index)
        with pytest.raises(ValueError, match="prev_index"):
            keys_api.compare_and_delete(f"{prefix}/k", prev_index=index)

    assert cost(use) == []


def test_condition_in_the_body_of_a_delete_is_ignored(raw: Raw) -> None:
    """etcd deletes all the same."""
    raw("PUT", "/k", "value=right")
    assert raw("DELETE", "/k", "prevValue=wrong").status == 200


def test_compare_and_delete_of_another_value_deletes_nothing(
    mapping: EtcdMapping, keys_api: KeysAPI
) -> None:
    """Both interfaces send the condition where etcd reads it."""
    mapping["k"] = "right"
    with pytest.raises(CompareFailed):
        mapping.compare_and_delete("k", "wrong")
    with pytest.raises(CompareFailed):
        keys_api.compare_and_delete(f"{mapping.prefix}/k", prev_value="wrong")
    assert mapping["k"] == "right"


def test_of_query_and_body_of_a_put_the_body_wins(raw: Raw) -> None:
    """Both are read, so a condition may stand in either."""
    raw("PUT", "/k?value=query", "value=body")
    assert raw.node("/k")["value"] == "body"
    assert raw("PUT", "/k", "value=x&prevValue=wrong").error == (412, 101)
    assert raw("PUT", "/k?prevValue=wrong", "value=x").error == (412, 101)


def test_create_ignores_a_previous_value(raw: Raw) -> None:
    """With `prevExist=false` nothing else is compared."""
    assert raw("PUT", "/k?prevExist=false&prevValue=zzz", "value=x").status == 201


def test_delete_ignores_whether_it_should_exist(raw: Raw) -> None:
    """`prevExist` is no condition of a DELETE."""
    raw("PUT", "/k", "value=x")
    assert raw("DELETE", "/k?prevExist=false").status == 200


@pytest.mark.parametrize("spelt", ["1", "t", "T", "true", "True", "TRUE"])
def test_boolean_in_a_spelling_of_go_is_taken(raw: Raw, spelt: str) -> None:
    """What Go's parser reads as true is true."""
    assert raw("PUT", f"/k?prevExist={spelt}", "value=x").error == (404, 100)


@pytest.mark.parametrize("spelt", ["yes", "on", "tRUE"])
def test_boolean_in_another_spelling_is_refused(raw: Raw, spelt: str) -> None:
    """Nothing is guessed."""
    assert raw("PUT", f"/k?prevExist={spelt}", "value=x").error == (400, 209)


# --- what a write answers -----------------------------------------------------


@pytest.mark.parametrize(
    ("query", "action"),
    [
        pytest.param("", "set", id="set"),
        pytest.param("&prevExist=true", "update", id="update"),
        pytest.param("&prevValue=0", "compareAndSwap", id="swap"),
    ],
)
def test_answer_without_values_still_tells_the_index(
    raw: Raw, query: str, action: str
) -> None:
    """With `noValueOnSuccess` the header is the index of this very write."""
    raw("PUT", "/k", "value=0")
    answer = raw("PUT", f"/k?noValueOnSuccess=true{query}", "value=1")
    assert answer.json == {"action": action}
    assert answer.index == raw.node("/k")["modifiedIndex"]


def test_answer_without_values_of_a_create_tells_the_index(raw: Raw) -> None:
    """The same for a key that is new."""
    query = "?prevExist=false&noValueOnSuccess=true"
    answer = raw("PUT", f"/k{query}", "value=1")
    assert answer.json == {"action": "create"}
    assert answer.index == raw.node("/k")["modifiedIndex"]


def test_answer_to_a_delete_has_its_values_all_the_same(raw: Raw) -> None:
    """etcd ignores the option there."""
    raw("PUT", "/k", "value=0")
    answer = raw("DELETE", "/k?noValueOnSuccess=true")
    assert answer.json["prevNode"]["value"] == "0"


def test_answer_without_values_to_a_post_loses_the_name(raw: Raw) -> None:
    """Only the index is left of it, in 20 digits; so `append` asks for the node."""
    answer = raw("POST", "/d?noValueOnSuccess=true", "value=x")
    assert answer.json == {"action": "create"}
    (node,) = raw.node("/d")["nodes"]
    assert node["key"] == f"{raw.prefix}/d/{answer.index:020}"


def test_mapping_set_gives_the_index_of_its_own_write(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """Not that of a later one."""
    first = mapping.set("a", 1)
    second = mapping.set("a", 2)
    mapping["b"] = 3
    assert second == raw.node("/a")["modifiedIndex"]
    assert first is not None
    assert second is not None
    assert second > first


def test_append_gives_the_name_of_the_new_node(mapping: EtcdMapping, raw: Raw) -> None:
    """It is the index of the write in 20 digits, so names sort by age."""
    names = [mapping.append(value) for value in ("x", "y")]
    assert [mapping[name] for name in names] == ["x", "y"]
    assert sorted(names) == names
    assert int(names[0]) == raw.node(f"/{names[0]}")["createdIndex"]


def test_replacing_a_file_makes_it_new_and_updating_does_not(raw: Raw) -> None:
    """A set gives a new createdIndex; an update and a swap keep it."""
    created = raw("PUT", "/k", "value=0").json["node"]["createdIndex"]
    for query in ("?prevExist=true", "?prevValue=0"):
        node = raw("PUT", f"/k{query}", "value=0").json["node"]
        assert node["createdIndex"] == created
    again = raw("PUT", "/k", "value=0").json["node"]
    assert again["createdIndex"] == again["modifiedIndex"] > created


def test_writing_the_same_value_is_a_change(mapping: EtcdMapping) -> None:
    """Each write has an index of its own, though nothing looks different."""
    first, second = mapping.set("k", 1), mapping.set("k", 1)
    assert first is not None
    assert second == first + 1


# --- refusals -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_cause_of_a_failed_comparison_shows_the_value(raw: Raw, method: str) -> None:
    """etcd quotes what was expected and what is there."""
    raw("PUT", "/k", f"value={SECRET}")
    form = "value=x" if method == "PUT" else None
    answer = raw(method, "/k?prevValue=wrong", form)
    assert answer.json["cause"] == f"[wrong != {SECRET}]"


def test_cause_of_an_existing_key_shows_no_value(raw: Raw) -> None:
    """So whoever lost a race has to read it."""
    raw("PUT", "/k", f"value={SECRET}")
    answer = raw("PUT", "/k?prevExist=false", "value=x")
    assert answer.error == (412, 105)
    assert SECRET not in answer.body.decode()


def test_message_of_a_failed_comparison_shows_no_value(mapping: EtcdMapping) -> None:
    """The cause is kept for who asks, and stays out of text and logs."""
    mapping["k"] = SECRET
    with pytest.raises(CompareFailed) as caught:
        mapping.compare_and_swap("k", "wrong", "x")
    assert SECRET in caught.value.cause
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_refusal_tells_the_index_of_the_store(raw: Raw, keys_api: KeysAPI) -> None:
    """In the header and in the body, but without the numbers of raft."""
    answer = raw("GET", "/no")
    assert answer.index == answer.json["index"]
    assert "x-raft-index" not in answer.headers
    assert "x-raft-index" in raw("PUT", "/k", "value=x").headers
    with pytest.raises(KeyNotFound) as caught:
        keys_api.get(f"{raw.prefix}/no")
    assert caught.value.etcd_index is not None
    assert caught.value.etcd_index >= answer.index


def test_refused_form_tells_no_index(raw: Raw) -> None:
    """etcd has not looked at the store then; its index reads 0."""
    answer = raw("PUT", "/k?prevIndex=x", "value=x")
    assert answer.error == (400, 203)
    assert int(answer.headers.get("x-etcd-index", "0")) == answer.json["index"] == 0


def test_snapshot_of_an_absent_directory_has_an_index(mapping: EtcdMapping) -> None:
    """A 404 tells where to watch from."""
    snapshot = mapping.snapshot()
    assert snapshot.value == {}
    assert 0 < snapshot.index <= mapping.index()


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "code", "error"),
    [
        pytest.param("GET", "/no", None, 404, 100, KeyNotFound, id="100"),
        pytest.param(
            "PUT", "/f?prevValue=x", "value=y", 412, 101, CompareFailed, id="101"
        ),
        pytest.param("PUT", "/d", "value=y", 403, 102, NotAFile, id="102"),
        pytest.param("PUT", "/f/x", "value=y", 400, 104, NotADirectory, id="104"),
        pytest.param(
            "PUT", "/f?prevExist=false", "value=y", 412, 105, KeyExists, id="105"
        ),
        pytest.param(
            "DELETE", "/d?dir=true", None, 403, 108, DirectoryNotEmpty, id="108"
        ),
        pytest.param("PUT", "/f?prevValue=", "value=y", 400, 201, InvalidRequest),
        pytest.param("PUT", "/f", "value=y&ttl=x", 400, 202, InvalidRequest),
        pytest.param("PUT", "/f?prevIndex=x", "value=y", 400, 203, InvalidRequest),
        pytest.param("GET", "/f?wait=true&waitIndex=x", None, 400, 203, InvalidRequest),
        pytest.param("GET", "/f?recursive=yes", None, 400, 209, InvalidRequest),
        pytest.param(
            "PUT",
            "/f",
            "refresh=true&value=y&ttl=5&prevExist=true",
            400,
            211,
            InvalidRequest,
        ),
        pytest.param(
            "PUT", "/f", "refresh=true&prevExist=true", 400, 212, InvalidRequest
        ),
    ],
)
def test_code_has_its_status_and_its_exception(
    raw: Raw,
    keys_api: KeysAPI,
    method: str,
    path: str,
    form: str | None,
    status: int,
    code: int,
    error: type[Exception],
) -> None:
    """The codes decide, not the status: 400 stands for many of them."""
    raw("PUT", "/f", "value=v")
    raw("PUT", "/d/k", "value=v")
    assert raw(method, path, form).error == (status, code)
    key, mark, query = path.partition("?")
    path, deadline = raw.prefix + key, keys_api.client.deadline()
    with pytest.raises(error) as caught:
        keys_api.store(method, path, "get", mark + query, form, payload_of, deadline)
    assert vars(caught.value)["code"] == code


def test_root_is_read_only_by_code_107(keys_api: KeysAPI) -> None:
    """Also where a value is put in its place."""
    with pytest.raises(RootReadOnly):
        keys_api.set("/", "x")


def test_history_that_is_gone_is_code_401(raw: Raw, keys_api: KeysAPI) -> None:
    """etcd keeps the last 1,000 events; it is a 400 over HTTP."""
    for n in range(1001):
        keys_api.set(f"{raw.prefix}/k", str(n), no_value_on_success=True)
    assert raw("GET", "/k?wait=true&waitIndex=1").error == (400, 401)
    with pytest.raises(WatchExpired):
        keys_api.watch(f"{raw.prefix}/k", after_index=0)


def test_other_interfaces_say_a_message_without_a_code(etcd: LocalCluster) -> None:
    """So a code can't be expected of every answer of etcd."""
    answer = ask(etcd.endpoints[0], "DELETE", "/v2/members/abc")
    assert answer.status >= 400
    assert "errorCode" not in answer.json
    assert answer.json["message"]
