"""Options that are none are refused where they are given, not after a request."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from etcdmap import EtcdMapping, Policy, connect, connecting
from etcdmap.codecs import CodecName, get_codec
from etcdmap.connecting import options as connect_options
from etcdmap.transport import WireTransport
from etcdmap.transport.pool import split_endpoint

#: What somebody may give by mistake, or on purpose.
VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "int": 7,
    "huge": 10**400,
    "float": 1.5,
    "inf": float("inf"),
    "nan": float("nan"),
    "empty": "",
    "text": "x",
    "surrogate": "\ud800",
    "bytes": b"x",
    "list": [],
    "dict": {},
    "object": object(),
}

SECONDS = {"int", "float"}
#: Which of them are right.
MAPPING: dict[str, set[str]] = {
    "endpoints": {"none"},
    "prefix": {"none", "empty", "text"},
    "client": {"none"},
    "codec": {"none"},
    "readonly": {"none", "true"},
    "escape_keys": {"none", "true"},
    "consistency": {"none"},
}
CONNECTION: dict[str, set[str]] = {
    "timeout": SECONDS,
    "connect_timeout": SECONDS,
    "username": {"none", "empty", "text"},
    "password": {"none", "empty", "text"},
    "verify": {"true"},
    "cert": {"none"},
    "session": {"none"},
    "shuffle": {"true"},
    "max_response": {"int", "huge"},
    "cache_ttl": {"none", *SECONDS},
    "cache_size": {"int", "huge"},
    "max_stale": SECONDS,
    "policy": {"none"},
    "fence": {"none", "true"},
    "auto_sync": {"none", *SECONDS},
}
POLICY: dict[str, set[str]] = {
    **{field.name: SECONDS for field in dataclasses.fields(Policy)},
    "hedge_share": {"zero"},
    "overtakes": {"int", "huge"},
}


def make_mapping(**options: Any) -> None:
    """Make a mapping and close it."""
    if "password" in options:
        options["username"] = "app"
    EtcdMapping(**options).close()


def make_client(**options: Any) -> None:
    """Make a client and close it."""
    if "password" in options:
        options["username"] = "app"
    connect(**options).close()


def use(**options: Any) -> None:
    """Make a view with other options."""
    with EtcdMapping() as mapping:
        mapping.using(**options)


def cases(
    make: Callable[..., object], right: dict[str, set[str]], name: str
) -> list[Any]:
    """Give each option with each value, and whether it is right."""
    return [
        pytest.param(make, option, value, id_ in fine, id=f"{name}-{option}-{id_}")
        for option, fine in right.items()
        for id_, value in VALUES.items()
    ]


@pytest.mark.parametrize(
    ("make", "option", "value", "is_right"),
    [
        *cases(make_mapping, MAPPING | CONNECTION, "mapping"),
        *cases(make_client, {"endpoints": {"none"}, **CONNECTION}, "connect"),
        *cases(
            use,
            {
                "consistency": {"none"},
                "timeout": {"none", *SECONDS},
                "codec": {"none"},
            },
            "using",
        ),
        *cases(Policy, POLICY, "policy"),
    ],
)
def test_option_that_is_none_is_refused_at_once(
    make: Callable[..., object], option: str, value: Any, is_right: bool
) -> None:
    """By type or by range; what is right is taken."""
    if is_right:
        make(**{option: value})
        return
    with pytest.raises((TypeError, ValueError)):
        make(**{option: value})


def test_options_are_all_looked_at() -> None:
    """A new one needs a line above."""
    own = inspect.signature(EtcdMapping).parameters.keys()
    assert own == MAPPING.keys() | CONNECTION.keys()
    others = inspect.signature(connect).parameters.keys()
    assert others == {"endpoints"} | CONNECTION.keys()


def test_options_are_spelt_out_alike() -> None:
    """Those of `connect` are a mapping's too: their types, their defaults, their order.

    And an editor that shows them shows values.
    """
    own = inspect.signature(EtcdMapping).parameters
    of_connect = inspect.signature(connect).parameters
    for name, parameter in of_connect.items():
        assert str(parameter) == str(own[name]), name
    assert [name for name in own if name in of_connect] == list(of_connect)
    assert "object at" not in f"{inspect.signature(EtcdMapping)}"
    assert str(own["timeout"]) == "timeout: 'float' = 5.0"


def test_options_for_type_checkers_are_those_there_are() -> None:
    """What `from_url` says that it takes is what it passes on."""
    own = inspect.signature(EtcdMapping).parameters
    told = {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for kind in ast.walk(ast.parse(inspect.getsource(connect_options)))
        if isinstance(kind, ast.ClassDef) and kind.name.endswith("Options")
        for node in kind.body
        if isinstance(node, ast.AnnAssign)
    }
    assert told == {n: p.annotation for n, p in own.items() if n != "client"}


def test_choices_for_type_checkers_are_those_there_are() -> None:
    """A name that can be given at run time is one that may be written."""
    for name in get_args(CodecName):
        assert repr(get_codec(name)) == repr(name)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (its text is what counts)
        get_codec("yaml")
    assert re.findall(r"'(\w+)'", str(caught.value))[1:] == list(get_args(CodecName))


#: What a URL may say of an option, in other words than the default.
IN_A_URL = {
    **dict.fromkeys(("timeout", "connect_timeout", "max_stale", "auto_sync"), "9"),
    **dict.fromkeys(("cache_ttl", "cache_size", "max_response"), "9"),
    **{"shuffle": "false", "fence": "true", "cert": __file__, "verify": __file__},
}


@pytest.mark.parametrize(("name", "text"), IN_A_URL.items())
def test_option_given_counts_more_than_the_url_even_if_it_is_the_default(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said on purpose is told from what nobody said."""
    usual = inspect.signature(connect).parameters[name].default.value
    made: list[Any] = []
    monkeypatch.setattr(connecting, "_connect", made.append)
    monkeypatch.setenv("ETCDMAP_URL", f"etcd://h/?{name}={text}")
    connect()
    connect(**{name: usual})
    from_url, given = made
    assert from_url[name] != usual
    assert given[name] == usual


@pytest.mark.parametrize(
    "cert", [(), ("a",), ("a", "b", "c"), ("a", None), (b"a", "b"), "a\0b"]
)
def test_cert_that_is_no_pair_is_refused(cert: Any) -> None:
    """It is a path or two."""
    with pytest.raises((TypeError, ValueError), match=r"^cert "):
        connect(cert=cert)


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    """They are made plain texts, as what the library pickles."""
    path = tmp_path / "ca.pem"
    path.touch()
    with connect(verify=path, cert=(path, path)) as client:  # type: ignore[arg-type]
        transport = client.transport
        assert isinstance(transport, WireTransport)
        settings = transport._settings
    assert settings.verify == str(path)
    assert settings.cert == (str(path), str(path))


@pytest.mark.parametrize("name", ["username", "password"])
def test_credentials_that_are_none_are_not_shown(name: str) -> None:
    """Not even a character of them."""
    secret = "hunter2\ud800"
    with pytest.raises(ValueError, match=f"^{name} holds a lone surrogate") as caught:
        make_client(**{name: secret})
    assert caught.value.__context__ is None
    assert "hunter2" not in str(caught.value)


class Odd(str):
    """A text whose methods tell something else."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("/")

    def __str__(self) -> str:
        return "/elsewhere"

    def removeprefix(self, prefix: str, /) -> str:
        """Give what is not there."""
        return "elsewhere"


def test_prefix_of_a_subclass_is_taken_as_its_plain_text() -> None:
    """What is checked and what is used are the same, and it is a prefix."""
    with EtcdMapping(prefix=Odd("/app")) as mapping:
        assert mapping.prefix == "/app"
        assert type(mapping._view.root) is str
        assert not mapping._view.whole_cluster


@pytest.mark.parametrize("length", [57, 58, 63])
def test_endpoint_may_have_labels_as_long_as_names_have(length: int) -> None:
    """63 characters, and the port does not count."""
    name = f"{'x' * length}.svc"
    assert split_endpoint(f"http://{name}:2379") == (
        "http",
        f"{name}:2379",
        name,
        2379,
    )
