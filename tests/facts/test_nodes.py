"""What etcd's files and directories do to each other, and what a dict makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from etcdmap import Client, EtcdMapping, KeysAPI

from support.raw_http import Raw

# --- files in place of directories, and the other way ---------------------------


@pytest.mark.parametrize(
    ("method", "form"), [("GET", None), ("PUT", "value=x"), ("DELETE", None)]
)
def test_below_a_file_is_not_a_directory(
    raw: Raw, method: str, form: str | None
) -> None:
    """etcd says 400 and 104, not 404."""
    raw("PUT", "/f", "value=x")
    answer = raw(method, "/f/below", form)
    assert answer.error == (400, 104)
    assert answer.json["cause"] == f"{raw.prefix}/f"


def test_below_a_file_is_absent_for_a_dict(mapping: EtcdMapping) -> None:
    """Reads find nothing there; a write says which file is in the way."""
    mapping["f"] = "x"
    assert "f/below" not in mapping
    assert mapping.get("f/below") is None
    with pytest.raises(KeyError):
        mapping["f/below"]
    with pytest.raises(KeyError):
        del mapping["f/below"]


def test_value_in_place_of_a_directory_is_no_file(raw: Raw) -> None:
    """etcd refuses it, so a dict's way takes a delete first."""
    raw("PUT", "/d?dir=true")
    assert raw("PUT", "/d", "value=x").error == (403, 102)


def test_mapping_puts_a_value_in_place_of_a_directory(mapping: EtcdMapping) -> None:
    """As a dict would, whatever the directory holds."""
    mapping["d"] = {"a": {"b": 1}}
    mapping["d"] = 5
    assert mapping.to_dict() == {"d": 5}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", (403, 102), id="plain"),
        pytest.param("?dir=true", (403, 108), id="dir-not-empty"),
    ],
)
def test_delete_of_a_full_directory_needs_recursive(
    raw: Raw, query: str, expected: tuple[int, int]
) -> None:
    """Without the flag nothing is deleted."""
    raw("PUT", "/d/k", "value=x")
    assert raw("DELETE", f"/d{query}").error == expected
    assert raw.node("/d/k")["value"] == "x"


def test_recursive_delete_needs_no_other_flag(mapping: EtcdMapping, raw: Raw) -> None:
    """`recursive` implies `dir`; it is what `del` of a mapping sends."""
    raw("PUT", "/d/k", "value=x")
    assert raw("DELETE", "/d?recursive=true").status == 200
    mapping["e"] = {"k": 1}
    del mapping["e"]
    assert not mapping


@pytest.mark.parametrize("flag", ["dir", "recursive"])
def test_flags_for_directories_delete_files_too(raw: Raw, flag: str) -> None:
    """There is no delete that takes directories only."""
    raw("PUT", "/f", "value=x")
    assert raw("DELETE", f"/f?{flag}=true").status == 200


def test_flat_never_deletes_a_directory(mapping: EtcdMapping) -> None:
    """A view of files sends no flag, so a directory is safe from it."""
    mapping["d"] = {"k": 1}
    with pytest.raises(KeyError):
        del mapping.flat["d"]
    assert mapping.to_dict() == {"d": {"k": 1}}


def test_directory_put_on_a_file_drops_its_value(raw: Raw) -> None:
    """`dir=true` alone replaces a file; only the answer still shows it."""
    raw("PUT", "/k", "value=lost")
    answer = raw("PUT", "/k?dir=true")
    assert answer.status == 200
    assert answer.json["prevNode"]["value"] == "lost"
    assert raw.node("/k")["dir"] is True


def test_directory_put_on_a_directory_is_no_file(raw: Raw) -> None:
    """The same request on a directory is refused, oddly named."""
    raw("PUT", "/d?dir=true")
    assert raw("PUT", "/d?dir=true").error == (403, 102)


@pytest.mark.parametrize("before", [{"k": "v"}, "v"], ids=["directory", "file"])
def test_mkdir_never_replaces_anything(mapping: EtcdMapping, before: Any) -> None:
    """It names the state it expects, so a file keeps its value."""
    mapping["k"] = before
    with pytest.raises(Exception, match="exists"):
        mapping.mkdir("k")
    assert mapping.to_dict() == {"k": before}


def test_directory_update_of_a_file_blanks_it(
    raw: Raw, client: Client, mapping: EtcdMapping
) -> None:
    """`dir` with `prevExist=true` makes no directory; only `keys_api` can send it."""
    raw("PUT", "/k", "value=lost")
    answer = raw("PUT", "/k?dir=true&prevExist=true")
    assert (answer.status, answer.json["action"]) == (200, "update")
    assert raw.node("/k")["value"] == ""
    mapping["k"] = "v"
    result = KeysAPI(client).set(f"{mapping.prefix}/k", dir=True, prev_exist=True)
    assert result.node is not None
    assert (result.node.dir, result.node.value) == (False, "")


def test_deleted_directory_shows_no_children(mapping: EtcdMapping, raw: Raw) -> None:
    """So `pop` reads the subtree before it deletes, and gives all of it."""
    raw("PUT", "/d/k", "value=x")
    previous = raw("DELETE", "/d?recursive=true").json["prevNode"]
    assert previous["dir"] is True
    assert "nodes" not in previous
    mapping["d"] = {"k": 1, "e": {"f": 2}}
    assert mapping.pop("d") == {"k": 1, "e": {"f": 2}}


# --- directories nobody made, and names nobody sees -----------------------------


def test_directories_on_the_way_are_made_without_an_event(raw: Raw) -> None:
    """One write, one step of the index, one event: that of the file."""
    before = raw("GET", "/").index
    written = raw("PUT", "/a/b/c", "value=x")
    assert written.index == before + 1
    event = raw("GET", f"/?wait=true&recursive=true&waitIndex={before + 1}")
    assert event.json["node"]["key"] == f"{raw.prefix}/a/b/c"


def test_directory_stays_when_its_last_key_goes(mapping: EtcdMapping) -> None:
    """As the inner dict of a dict would: empty, and counted."""
    mapping["a/b/c"] = 1
    del mapping["a"]["b"]["c"]
    assert mapping.to_dict() == {"a": {"b": {}}}
    assert len(mapping) == 1


def test_hidden_names_are_left_out_of_listings_only(raw: Raw) -> None:
    """They can be read and deleted, and a hidden directory lists its children."""
    raw("PUT", "/_d/k", "value=x")
    assert "nodes" not in raw.node("/?recursive=true")
    assert raw.node("/_d")["nodes"][0]["key"] == f"{raw.prefix}/_d/k"
    assert raw("DELETE", "/_d?recursive=true").status == 200


def test_directory_of_hidden_names_only_is_not_empty(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """It lists as empty, yet only a recursive delete, as `del` sends it, works."""
    raw("PUT", "/d/_h", "value=x")
    assert mapping["d"] == {}
    assert raw("DELETE", "/d?dir=true").error == (403, 108)
    del mapping["d"]
    assert raw("GET", "/d/_h").error == (404, 100)


def test_mapping_refuses_hidden_names_and_keys_api_reaches_them(
    mapping: EtcdMapping, keys_api: KeysAPI
) -> None:
    """Iteration would lose them, so a mapping neither writes nor reads one."""
    with pytest.raises(ValueError, match="keys_api"):
        mapping["_h"] = 1
    keys_api.set(f"{mapping.prefix}/_h", "x")
    assert "_h" not in mapping
    assert mapping.to_dict() == {}
    assert keys_api.exists(f"{mapping.prefix}/_h")
