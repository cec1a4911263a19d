"""What can't work is refused when it is given, by a text that says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from etcdmap import Client, EtcdMapping, connect
from etcdmap.connecting import PASSWORD, URL, USERNAME
from etcdmap.transport import WireTransport


class Config(EtcdMapping):
    """A subclass; messages name it."""


class Tagged(EtcdMapping):
    """A subclass that takes more."""

    def __init__(self, *args: Any, tag: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.tag = tag


def shared(**options: Any) -> EtcdMapping:
    """Make a mapping on a client that is there."""
    with connect() as client:
        return EtcdMapping(client=client, **options)


def over_session(make: Callable[..., Any], **options: Any) -> Any:
    """Make something on a session."""
    with requests.Session() as session:
        return make("http://h", session=session, **options)


LIST = "pass several endpoints as a list"
MAKERS: list[Callable[..., Any]] = [EtcdMapping, connect]

#: What somebody does, and what the error tells them, which is where to go on.
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    # names
    "mapping": (
        lambda: EtcdMapping(cache_tll=5),  # type: ignore[call-arg]
        "EtcdMapping() has no option 'cache_tll'; did you mean cache_ttl?",
    ),
    "connect": (
        lambda: connect(tiemout=5),  # type: ignore[call-arg]
        "connect() has no option 'tiemout'; did you mean timeout?",
    ),
    "from_url": (
        lambda: EtcdMapping.from_url("etcd://h", read_only=True),  # type: ignore[call-arg]
        "EtcdMapping.from_url() has no option 'read_only'; did you mean readonly?",
    ),
    "url": (
        lambda: EtcdMapping.from_url("etcd://h?cache_tll=5"),
        "the URL gives an option that does not exist; did you mean cache_ttl?",
    ),
    "subclass": (
        lambda: Config(consistancy="any"),  # type: ignore[call-arg]
        "Config() has no option 'consistancy'; did you mean consistency?",
    ),
    "subclass-from_url": (
        lambda: Config.from_url("etcd://h", codek="text"),  # type: ignore[call-arg]
        "Config.from_url() has no option 'codek'; did you mean codec?",
    ),
    "subclass-of-its-own": (
        lambda: Tagged(tag="x", prefx="/app"),
        "Tagged() has no option 'prefx'; did you mean prefix?",
    ),
    "no-idea": (
        lambda: EtcdMapping(zzz=1),  # type: ignore[call-arg]
        "EtcdMapping() has no option 'zzz'",
    ),
    # places
    "two-urls": (lambda: EtcdMapping("http://a", "http://b"), LIST),
    "three-urls": (
        lambda: EtcdMapping("http://a", "http://b", "http://c"),  # type: ignore[arg-type,call-arg]
        f"EtcdMapping() takes only endpoints and prefix without a name; {LIST}",
    ),
    "two-urls-connect": (
        lambda: connect("http://a", "http://b"),  # type: ignore[arg-type,call-arg]
        f"connect() takes only endpoints without a name; {LIST}",
    ),
    "comma": (lambda: EtcdMapping("http://a,http://b"), "pass several as a list"),
    "prefix": (lambda: EtcdMapping("/app"), "did you mean prefix=?"),
    "etcd-url": (lambda: EtcdMapping("etcd://h/app"), "use from_url"),
    "etcd-url-connect": (lambda: connect("etcds://h"), "use from_url"),
    "etcd-url-in-a-list": (lambda: connect(["http://a", "etcd://h"]), "use from_url"),
    "a-dict": (lambda: EtcdMapping({"a": 1}), "a list of URLs, not dict"),
    "bytes": (
        lambda: EtcdMapping(b"http://a"),  # type: ignore[arg-type]
        "a list of URLs, not bytes",
    ),
    "int": (lambda: connect(2379), "a list of URLs, not int"),  # type: ignore[arg-type]
    "url-bytes": (
        lambda: EtcdMapping.from_url(b"etcd://h"),  # type: ignore[arg-type]
        "the URL is a str, not bytes",
    ),
    "client-and-option": (
        lambda: shared(cache_ttl=5),
        "with client=, cache_ttl belongs to connect()",
    ),
    "client-and-default": (
        lambda: shared(timeout=5.0),
        "with client=, timeout belongs to connect()",
    ),
    "client-and-endpoints": (
        lambda: shared(endpoints="http://a", fence=None),
        "with client=, endpoints, fence belong to connect()",
    ),
    "client-text": (
        lambda: EtcdMapping(client="http://a"),  # type: ignore[arg-type]
        "client is what connect() returns, not str",
    ),
    # values
    "label-empty": (lambda: EtcdMapping("http://a..b"), "1 to 63 characters between"),
    "label-long": (lambda: connect(f"http://{'x' * 64}"), "1 to 63 characters between"),
    "label-empty-url": (
        lambda: EtcdMapping.from_url("etcd://h,a..b"),
        "host 2 of 2 is no host and port",
    ),
    "host-empty-url": (
        lambda: EtcdMapping.from_url("etcd://h, ,g"),
        "host 2 of 3 is no host and port",
    ),
    "session": (
        lambda: EtcdMapping(session=5),
        "session is a requests.Session, not int",
    ),
    "policy": (
        lambda: connect(policy=5),  # type: ignore[arg-type]
        "policy is a Policy, not int",
    ),
    "session-verify": (
        lambda: over_session(EtcdMapping, verify=True),
        "with session=, verify belongs to the session: set session.verify",
    ),
    "session-cert": (
        lambda: over_session(connect, cert="c.pem"),
        "with session=, cert belongs to the session: set session.cert",
    ),
    "session-verify-url": (
        lambda: over_session(
            lambda _, **options: EtcdMapping.from_url(
                "etcds://h?verify=false", **options
            )
        ),
        "set session.verify",
    ),
    "cert-of-three": (
        lambda: EtcdMapping(cert=("a", "b", "c")),  # type: ignore[arg-type]
        "cert is a path, or a pair (certificate, key)",
    ),
    "password-alone": (
        lambda: connect(password="p"),
        "a password goes with a username",
    ),
    "username-colon": (lambda: EtcdMapping(username="a:b"), "username can't hold ':'"),
    "username-bytes": (
        lambda: connect(username=b"a", password="p"),  # type: ignore[arg-type]
        "username is a str, not bytes",
    ),
}


@pytest.mark.parametrize(("make", "text"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_refused_by_its_name(make: Callable[[], Any], text: str) -> None:
    """Nothing was sent; the text ends with what to do, or with what was meant."""
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        make()


def test_subclass_takes_from_url_what_its_constructor_does() -> None:
    """Options of its own are no mistake."""
    url: Any = "etcd://h"
    with Tagged.from_url(url, tag="x") as mapping:  # type: ignore[call-arg]
        assert mapping.tag == "x"


# --- the environment

#: What stands in ETCDMAP_URL, and what was meant.
MEANT = {
    "http://10.0.0.1:2379/app": "etcd://10.0.0.1:2379/app",
    "https://10.0.0.1,https://10.0.0.2:1": "etcds://10.0.0.1,10.0.0.2:1",
    "http://localhost": "etcd://localhost",
    "localhost:2379": "etcd://localhost:2379",
    "10.0.0.1:2379,10.0.0.2:2379": "etcd://10.0.0.1:2379,10.0.0.2:2379",
    "http://[::1]:2379/app": "etcd://[::1]:2379/app",
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("url", "meant"), MEANT.items())
def test_variable_that_is_wrong_is_named_and_the_right_text_proposed(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], url: str, meant: str
) -> None:
    """It can be pasted, and then it is right."""
    monkeypatch.setenv(URL, url)
    with pytest.raises(ValueError, match=rf"^{URL}: .*did you mean") as caught:
        make()
    assert f"did you mean '{meant}'?" in str(caught.value)
    assert caught.value.__context__ is None
    monkeypatch.setenv(URL, meant)
    make().close()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("etcd://h?tiemout=3", "did you mean timeout?"),
        ("etcd://h?timeout=soon", "timeout must be a number of seconds"),
        ("http://root:hunter2@h:1", "must start with etcd:// or etcds://"),
        ("etcd://root:hunter2", "host 1 of 1 is no host and port"),
    ],
)
def test_variable_is_named_whatever_is_wrong_in_it(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], url: str, text: str
) -> None:
    """And no credentials are shown."""
    monkeypatch.setenv(URL, url)
    with pytest.raises(ValueError, match=f"^{URL}: .*{re.escape(text)}") as caught:
        make()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({PASSWORD: "hunter2"}, f"{PASSWORD} goes with a username: set {USERNAME} too"),
        ({USERNAME: "hunter2:x"}, f"{USERNAME} can't hold ':'"),
        ({USERNAME: "u", PASSWORD: "hunter2\udce9"}, f"{PASSWORD} holds a lone surr"),
    ],
)
def test_credentials_of_the_environment_are_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], Any],
    variables: dict[str, str],
    text: str,
) -> None:
    """Not by that of an argument that nobody gave."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        make()
    assert "hunter2" not in str(caught.value)


@pytest.fixture(params=[lambda **o: EtcdMapping(**o).client, connect])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Give both ways to make a client, which are closed at the end."""
    clients: list[Client] = []

    def made(**options: Any) -> Client:
        clients.append(request.param(**options))
        return clients[-1]

    yield made
    for client in clients:
        client.close()


def credentials_of(client: Client) -> tuple[str | None, str | None]:
    """Give what it sends."""
    transport = client.transport
    assert isinstance(transport, WireTransport)
    return transport._settings.username, transport._settings.password


@pytest.mark.parametrize(
    ("url", "variables", "options", "expected"),
    [
        ("etcd://h", ("u", "p"), {}, ("u", "p")),
        ("", ("u", "p"), {}, ("u", "p")),
        ("etcd://a:b@h", (), {}, ("a", "b")),
        ("etcd://a:b@h", ("u", "p"), {}, ("u", "p")),
        ("etcd://a:b@h", ("u", ""), {}, ("u", None)),
        ("etcd://a@h", ("", "p"), {}, ("a", "p")),
        ("etcd://a:b@h", ("u", "p"), {"password": "q"}, ("u", "q")),
        ("etcd://h", ("", "p"), {"username": "v"}, ("v", "p")),
        ("etcd://a:b@h", ("u", "p"), {"endpoints": "http://h"}, (None, None)),
    ],
)
def test_environment_gives_mappings_and_clients_the_same_credentials(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., Client],
    url: str,
    variables: tuple[str, ...],
    options: dict[str, str],
    expected: tuple[str | None, str | None],
) -> None:
    """Arguments count more than the two variables, and these more than the URL.

    Whoever names endpoints has none sent there that were meant for others.
    """
    monkeypatch.setenv(URL, url)
    for name, value in zip((USERNAME, PASSWORD), variables, strict=False):
        monkeypatch.setenv(name, value)
    assert credentials_of(make(**options)) == expected


def test_environment_gives_mappings_and_clients_the_same_options(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Client]
) -> None:
    """What is for a mapping only, a client passes over."""
    url = "etcd://h,g:1/app?codec=text&timeout=9&shuffle=no"
    monkeypatch.setenv(URL, url)
    client = make()
    assert client.endpoints == ("http://h:2379", "http://g:1")
    assert client.timeout == 9
    assert make(timeout=5.0).timeout == 5
