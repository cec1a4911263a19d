"""Which keys may be sent to etcd, and how they are spelt in a URL."""

from __future__ import annotations

import enum
import pickle
from typing import Any
from urllib.parse import unquote

import pytest

from etcdmap.errors import InvalidKey, LimitExceeded, legible
from etcdmap.paths import (
    ESCAPED,
    MAX_DEPTH,
    MAX_TARGET,
    PLAIN,
    Naming,
    check_limits,
    clean_prefix,
    name_of,
    why_impossible,
    why_not_new,
)
from etcdmap.v2.spelling import check_path, url_path

readable, writable, name_path = PLAIN.readable, PLAIN.writable, PLAIN.name_path

POSSIBLE = [
    "a",
    "a/b/c",
    "a b",
    "a%2Fb",
    "a?b#c;d&e=f+g",
    "%",
    "...",
    ".hidden",
    "a_b",
    "a/b_",
    "é",
    "e\u0301",
    "日本/語",
    "\U0001f600",
    "\u200b",
    "\u2028",
    "\u00a0",
    "*",
    "~",
    "\\",
    "-",
    "0",
]

IMPOSSIBLE = [
    pytest.param("", id="empty"),
    pytest.param("/", id="slash"),
    pytest.param("/a", id="leading"),
    pytest.param("a/", id="trailing"),
    pytest.param("a//b", id="double"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="dotdot"),
    pytest.param("a/.", id="dot-last"),
    pytest.param("../b", id="dotdot-first"),
    pytest.param("a/../../b", id="dotdot-inside"),
    pytest.param("a/./b", id="dot-inside"),
    pytest.param("\ud800", id="surrogate"),
    pytest.param("a/\udcff", id="surrogate-escape"),
    pytest.param("\ufffd", id="replacement"),
]

HIDDEN = [
    pytest.param("_a", id="hidden"),
    pytest.param("a/_b", id="hidden-last"),
    pytest.param("_", id="underscore"),
    pytest.param("_a/b", id="hidden-directory"),
]

CONTROL = [
    pytest.param("a\0", id="nul"),
    pytest.param("\n", id="newline"),
    pytest.param("a/b\t", id="tab"),
    pytest.param("\x1f", id="us"),
    pytest.param("\x7f", id="del"),
    pytest.param("\x85", id="c1"),
]

NO_STR = [
    pytest.param(None, id="None"),
    pytest.param(5, id="int"),
    pytest.param(b"a", id="bytes"),
    pytest.param(("a",), id="tuple"),
    pytest.param(True, id="bool"),
]


# --- reads and writes -------------------------------------------------------


@pytest.mark.parametrize("key", POSSIBLE, ids=ascii)
def test_readable_possible_key_is_appended_as_it_is(key: str) -> None:
    """Ordinary names are neither changed nor refused."""
    assert readable("/app", key) == f"/app/{key}"
    assert readable("", key) == f"/{key}"


@pytest.mark.parametrize("key", POSSIBLE, ids=ascii)
def test_writable_possible_key_is_appended_as_it_is(key: str) -> None:
    """What can be read can be written."""
    assert writable("/app", key) == f"/app/{key}"


@pytest.mark.parametrize("key", [*IMPOSSIBLE, *HIDDEN, *NO_STR])
def test_readable_impossible_key_is_none(key: Any) -> None:
    """No node of a mapping can have this key: a read finds it absent."""
    assert readable("/app", key) is None


@pytest.mark.parametrize("key", [*IMPOSSIBLE, *HIDDEN, *CONTROL])
def test_writable_impossible_key_raises_invalid_key(key: str) -> None:
    """A write says which key and why, as a ValueError."""
    with pytest.raises(InvalidKey, match="can't be a key: ") as caught:
        writable("/app", key)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"{legible(f'/app/{key}')}: can't be a key: ")
    assert [path for path, _ in caught.value.refusals] == [f"/app/{key}"]


@pytest.mark.parametrize("key", NO_STR)
def test_writable_no_str_raises_type_error(key: Any) -> None:
    """A write takes str only, and says what it got."""
    with pytest.raises(TypeError, match=type(key).__name__):
        writable("/app", key)


@pytest.mark.parametrize("key", CONTROL)
def test_readable_control_character_is_allowed(key: str) -> None:
    """Such nodes exist, made by others; they can be read."""
    assert readable("/app", key) == f"/app/{key}"


@pytest.mark.parametrize("key", [*IMPOSSIBLE, *HIDDEN])
def test_why_impossible_gives_the_same_reason_twice(key: str) -> None:
    """The remembered reason is the reason."""
    reason = why_impossible(key)
    assert reason
    assert why_impossible(key) == reason
    assert why_not_new(key) == reason


@pytest.mark.parametrize("key", CONTROL)
def test_why_not_new_names_control_characters(key: str) -> None:
    """Only a new key may hold none."""
    assert why_impossible(key) is None
    assert "control character" in str(why_not_new(key))


def test_why_impossible_hidden_key_tells_the_way() -> None:
    """The reason names the interface that reaches such nodes."""
    assert "keys_api" in str(why_impossible("_x"))


@pytest.mark.parametrize("tail", ["..", "_x", "", "\ud800"], ids=ascii)
def test_why_impossible_long_key_is_checked_to_its_end(tail: str) -> None:
    """Keys beyond the cache's length get the same test."""
    assert why_impossible("a" * 600) is None
    assert why_impossible("a" * 600 + "/" + tail)


class Name(str, enum.Enum):
    """A str whose format is not its text (from Python 3.11 on)."""

    DB = "db"


class Shouting(str):
    """A str that shows itself as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../../other"

    def __format__(self, spec: str) -> str:
        return "../../other"


@pytest.mark.parametrize(
    ("key", "text"),
    [pytest.param(Name.DB, "db", id="enum"), pytest.param(Shouting("x"), "x", id="x")],
)
def test_str_subclass_counts_as_its_text(key: str, text: str) -> None:
    """The text that was checked is the text that is sent, as a dict sees it."""
    assert {key: 1} == {text: 1}
    assert readable("/app", key) == f"/app/{text}"
    assert writable("/app", key) == f"/app/{text}"
    assert name_path("/app", key) == f"/app/{text}"


# --- names inside a mapping value -------------------------------------------


def test_writable_name_one_segment_is_a_path() -> None:
    """A plain name is taken."""
    assert name_path("/a/b", "c") == "/a/b/c"


def test_writable_name_with_slash_raises_invalid_key() -> None:
    """Inside a mapping value a slash is refused, with the full path."""
    with pytest.raises(InvalidKey, match=r"^/a/text/html: .*nest a mapping"):
        name_path("/a", "text/html")


@pytest.mark.parametrize("key", [*IMPOSSIBLE, *HIDDEN, *CONTROL])
def test_writable_name_impossible_name_raises_invalid_key(key: str) -> None:
    """What can't be a key can't be a name."""
    with pytest.raises(InvalidKey):
        name_path("/a", key)


# --- limits -----------------------------------------------------------------


def deep(levels: int) -> str:
    """Make a key of so many levels."""
    return "/".join(["ab"] * levels)


def test_limits_depth_at_the_limit_is_fine() -> None:
    """200 levels, prefix included, can be written and read."""
    assert writable("", deep(MAX_DEPTH)) == "/" + deep(MAX_DEPTH)
    assert readable("/p", deep(MAX_DEPTH - 1)) == "/p/" + deep(MAX_DEPTH - 1)
    check_path("/" + deep(MAX_DEPTH))


def test_limits_depth_beyond_is_refused_by_name() -> None:
    """The message names both depths; a read finds the key absent."""
    with pytest.raises(LimitExceeded, match=f"201 levels.*limit is {MAX_DEPTH}"):
        writable("", deep(MAX_DEPTH + 1))
    with pytest.raises(LimitExceeded, match="201 levels"):
        writable("/p", deep(MAX_DEPTH))
    with pytest.raises(LimitExceeded, match="201 levels"):
        check_path("/" + deep(MAX_DEPTH + 1))
    assert readable("", deep(MAX_DEPTH + 1)) is None


@pytest.mark.parametrize(
    ("char", "size"),
    [pytest.param("a", 1, id="ascii"), pytest.param("é", 6, id="percent-encoded")],
)
def test_limits_length_counts_as_in_the_url(char: str, size: int) -> None:
    """A key is measured in percent-encoding."""
    fits = char * ((MAX_TARGET - 1) // size)
    assert writable("", fits) == "/" + fits
    with pytest.raises(LimitExceeded, match=f"limit is {MAX_TARGET}"):
        writable("", fits + char)
    assert readable("", fits) == "/" + fits
    assert readable("", fits + char) is None


def test_limits_message_cuts_a_long_key() -> None:
    """Nobody wants a megabyte of key in a traceback."""
    with pytest.raises(LimitExceeded) as caught:
        check_limits("/" + "a" * 2_000_000)
    assert len(str(caught.value)) < 400
    with pytest.raises(InvalidKey) as invalid:
        writable("", "a" * 2_000_000 + "/")
    assert len(str(invalid.value)) < 400


# --- prefixes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("/", "", id="root"),
        pytest.param("app", "/app", id="bare"),
        pytest.param("/app", "/app", id="absolute"),
        pytest.param("/app/", "/app", id="both"),
        pytest.param("app/db/", "/app/db", id="deep"),
        pytest.param("/_hidden/x", "/_hidden/x", id="hidden"),
        pytest.param("/a b%2Fé", "/a b%2Fé", id="odd"),
    ],
)
def test_clean_prefix_gives_the_path_of_the_directory(prefix: str, path: str) -> None:
    """Slashes at the ends do not matter; giving it again changes nothing."""
    assert clean_prefix(prefix) == path
    assert clean_prefix(path) == path


@pytest.mark.parametrize(
    "prefix",
    ["//", "//a", "a//", "a//b", "/.", "/..", "/a/../b", "/\ud800", "a\n", "/\0"],
    ids=ascii,
)
def test_clean_prefix_impossible_raises_invalid_key(prefix: str) -> None:
    """A prefix that no directory can have is refused at once."""
    with pytest.raises(InvalidKey, match="can't be a prefix"):
        clean_prefix(prefix)


@pytest.mark.parametrize("prefix", NO_STR)
def test_clean_prefix_no_str_raises_type_error(prefix: Any) -> None:
    """A prefix is a str."""
    with pytest.raises(TypeError, match="prefix"):
        clean_prefix(prefix)


def test_clean_prefix_too_deep_raises_limit_exceeded() -> None:
    """A prefix counts in the depth."""
    with pytest.raises(LimitExceeded):
        clean_prefix(deep(MAX_DEPTH + 1))


# --- absolute paths, for the keys interface ---------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/a/", "/_x", "/a/_x/b", "/a b", "/a\n", "/...", "/é%2F"],
    ids=ascii,
)
def test_check_path_possible_path_passes(path: str) -> None:
    """Hidden names, control characters and one trailing slash are fine here."""
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "a/b",
        "//",
        "/a//",
        "//a",
        "/.",
        "/..",
        "/a/..",
        "/a/../b",
        "/./",
        "/\ud800",
    ],
    ids=ascii,
)
def test_check_path_impossible_path_raises_invalid_key(path: str) -> None:
    """What a server or an HTTP stack would turn into another path is refused."""
    with pytest.raises(InvalidKey, match="can't be a key"):
        check_path(path)


@pytest.mark.parametrize("path", NO_STR)
def test_check_path_no_str_raises_type_error(path: Any) -> None:
    """A path is a str."""
    with pytest.raises(TypeError):
        check_path(path)


# --- spelling ---------------------------------------------------------------


@pytest.mark.parametrize("key", POSSIBLE, ids=ascii)
def test_url_path_gives_one_unambiguous_spelling(key: str) -> None:
    """The URL names the same segments, and nothing in it has another meaning."""
    quoted = url_path(f"/{key}").removeprefix("/v2/keys")
    assert unquote(quoted, errors="strict") == f"/{key}"
    assert quoted.count("/") == key.count("/") + 1
    assert quoted.isascii()
    assert not set(quoted) & set(' ?#;&+\\"<>\n\t')


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/", "/"),
        ("/a/", "/a/"),
        ("/a%2Fb", "/a%252Fb"),
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/\n", "/%0A"),
    ],
)
def test_url_path_spells_as_etcd_reads(path: str, quoted: str) -> None:
    """UTF-8, percent-encoded but for slashes."""
    assert url_path(path) == f"/v2/keys{quoted}"


def test_url_path_long_path_is_spelt_alike() -> None:
    """A path beyond the cache's length is quoted the same way."""
    assert url_path("/é" + "a" * 600) == "/v2/keys/%C3%A9" + "a" * 600


@pytest.mark.parametrize(
    ("path", "name"), [("/a", "a"), ("/a/b", "b"), ("/a/b c", "b c"), ("", "")]
)
def test_name_of_gives_the_last_segment(path: str, name: str) -> None:
    """The name of a node is the end of its path."""
    assert name_of(path) == name


# --- keys that are one segment, whatever is in them --------------------------

ANY_TEXT = [
    *POSSIBLE,
    *("", "/", "//", "/a", "a/", ".", "..", "...", "./a", "_", "_a", "a_", "__"),
    *("%", "%%", "%2F", "%25", "%5F", "a%", "text/html", "\0", "\n", "\x7f", "\x85"),
    *("\ufffd", "a\ufffdb", "é/_é", "%2E", "%2E%2E", "_%", "/_"),
]


@pytest.mark.parametrize("key", ANY_TEXT, ids=ascii)
def test_escaped_any_key_is_one_segment_and_comes_back(key: str) -> None:
    """Every text has a name of its own, below the directory, and is read back."""
    path = ESCAPED.writable("/app", key)
    assert path.startswith("/app/")
    name = path.removeprefix("/app/")
    assert why_not_new(name) is None
    assert "/" not in name
    assert ESCAPED.key(name) == key
    assert ESCAPED.readable("/app", key) == path
    assert ESCAPED.name_path("/app", key) == path


def test_escaped_different_keys_have_different_names() -> None:
    """No two keys meet in one node."""
    keys = set(ANY_TEXT)
    assert len({ESCAPED.writable("", key) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", ["a", "a b", "é", "...", "a_b", "x.y-z~"], ids=ascii)
def test_escaped_ordinary_key_is_stored_as_it_is(key: str) -> None:
    """What needs no escape is not changed."""
    assert ESCAPED.writable("/app", key) == f"/app/{key}"


@pytest.mark.parametrize("name", ["50%", "%2f", "%zz", "%41", "a%2", "%ff"])
def test_escaped_name_that_others_stored_has_no_key(name: str) -> None:
    """A name that is no key's spelling can't be addressed: it has no key."""
    assert ESCAPED.key(name) is None


@pytest.mark.parametrize("key", ["\ud800", "a\udcff"], ids=ascii)
def test_escaped_surrogate_stays_impossible(key: str) -> None:
    """UTF-8 can't express it, escaped or not."""
    assert ESCAPED.readable("/app", key) is None
    with pytest.raises(InvalidKey):
        ESCAPED.writable("/app", key)


@pytest.mark.parametrize("key", NO_STR)
def test_escaped_no_str_is_refused_as_ever(key: Any) -> None:
    """Escaping does not make a key of anything else."""
    assert ESCAPED.readable("/app", key) is None
    with pytest.raises(TypeError):
        ESCAPED.writable("/app", key)


@pytest.mark.parametrize(
    ("name", "key"), [("a", "a"), ("%2F", "%2F"), ("a\ufffd", None), ("_x", "_x")]
)
def test_plain_name_is_the_key_unless_it_is_unreadable(
    name: str, key: str | None
) -> None:
    """Names of bytes that are not UTF-8 lead nowhere."""
    assert PLAIN.key(name) == key


@pytest.mark.parametrize("naming", [PLAIN, ESCAPED])
def test_pickled_naming_is_the_same_object(naming: Naming) -> None:
    """Else an unpickled mapping would miss the quick ways, which look for it."""
    assert pickle.loads(pickle.dumps(naming)) is naming  # noqa: S301
