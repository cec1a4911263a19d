"""What users see who gave the wrong URL, or have an etcd without its v2 API."""

from __future__ import annotations

import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from etcdmap import (
    ClusterUnavailable,
    EtcdMapError,
    EtcdMapping,
    InvalidResponse,
    V2NotEnabled,
)
from etcdmap.local import LocalCluster

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    STALL,
    FaultServer,
    Repeat,
    Stopwatch,
    refusing,
    response,
)
from support.raw_etcd import raw_etcd
from support.servers import binaries

TIMEOUT = 0.6

READS: list[Any] = [
    pytest.param(lambda m: m["k"], id="getitem"),
    pytest.param(lambda m: "k" in m, id="contains"),
    pytest.param(lambda m: m.get("k", "default"), id="get"),
    pytest.param(lambda m: len(m), id="len"),
    pytest.param(lambda m: m.to_dict(), id="to_dict"),
]

WRITES: list[Any] = [
    pytest.param(lambda m: m.__setitem__("k", "v"), id="setitem"),
    pytest.param(lambda m: m.__delitem__("k"), id="delitem"),
    pytest.param(lambda m: m.pop("k", "default"), id="pop"),
    pytest.param(lambda m: m.update(a=1, b=2), id="update"),
]

ALL = [*READS, *WRITES]

Operation = Callable[[EtcdMapping], Any]


def error_of(url: str, operation: Operation, **options: Any) -> EtcdMapError:
    """Give the error of an operation, after checking what holds for all of them."""
    with (
        EtcdMapping(url, "/app", timeout=TIMEOUT, **options) as mapping,
        Stopwatch() as watch,
        pytest.raises(EtcdMapError) as caught,
    ):
        operation(mapping)
    assert not isinstance(caught.value, LookupError)
    assert url in str(caught.value), "the endpoint is not named"
    # However many requests it needs, they have one deadline.
    assert watch.seconds < TIMEOUT + 0.2
    return caught.value


# --- the wrong server -------------------------------------------------------


@pytest.fixture(scope="module")
def v2_off(
    etcd_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give a real etcd as it comes since 3.4: without the v2 API."""
    home = tmp_path_factory.mktemp("v2-off")
    with raw_etcd(binaries()[etcd_version], home, "--enable-v2=false") as url:
        yield url


@pytest.mark.parametrize("operation", ALL)
def test_v2_off_any_operation_tells_to_enable_it(
    v2_off: str, operation: Operation
) -> None:
    """The error names the flag, whatever was asked."""
    error = error_of(v2_off, operation)
    assert isinstance(error, V2NotEnabled)
    assert "--enable-v2" in str(error)
    assert error.status == 404


@pytest.mark.parametrize("operation", ALL)
def test_v2_off_on_one_of_two_members_does_no_harm(
    v2_off: str, etcd: LocalCluster, prefix: str, operation: Operation
) -> None:
    """One endpoint that is right is enough; only a missing key is a KeyError."""
    urls = [v2_off, *etcd.endpoints]
    with EtcdMapping(list(etcd.endpoints), prefix) as writer:
        writer["k"] = "v"
    with EtcdMapping(urls, prefix, timeout=5, shuffle=False) as mapping:
        operation(mapping)
        assert mapping.client.pinned == etcd.endpoints[0]


class _Website(SimpleHTTPRequestHandler):
    """A web server with nothing under /v2/keys."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    """Give Python's own web server: HTML with 404, 501 for other methods."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Website) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("operation", ALL)
def test_website_any_operation_tells_that_it_is_no_etcd(
    website: str, operation: Operation
) -> None:
    """A 404 or 501 of a web server is neither "absent" nor an outage."""
    error = error_of(website, operation)
    assert isinstance(error, InvalidResponse)
    assert re.search("check that the URL is etcd's|is it an etcd", str(error))


@pytest.fixture
def friendly() -> Iterator[str]:
    """Give a server that says 200 and HTML to everything."""
    page = response("<html>Welcome</html>", index=None)
    with FaultServer([Repeat(READ, page)]) as server:
        yield server.url


@pytest.mark.parametrize("operation", ALL)
def test_html_for_everything_any_operation_tells_what_came(
    friendly: str, operation: Operation
) -> None:
    """A 200 that is not JSON is told as such; a write is not said to be lost."""
    error = error_of(friendly, operation)
    assert "something that is not JSON" in str(error) or "X-Etcd-Index" in str(error)
    assert "is it an etcd" in str(error)


@pytest.fixture
def closing() -> Iterator[str]:
    """Give a server that hangs up on every request."""
    with FaultServer([READ, CLOSE]) as server:
        yield server.url


@pytest.mark.parametrize("operation", ALL)
def test_hang_up_any_operation_tells_that_no_answer_came(
    closing: str, operation: Operation
) -> None:
    """A connection that ends without an answer is told in plain words."""
    error = error_of(closing, operation)
    assert "before an answer came" in str(error)


@pytest.fixture
def silent() -> Iterator[str]:
    """Give a server that takes requests and never answers."""
    with FaultServer([STALL]) as server:
        yield server.url


@pytest.mark.parametrize("operation", [READS[0], READS[1], WRITES[0]])
def test_silence_any_operation_ends_at_its_deadline(
    silent: str, operation: Operation
) -> None:
    """Nobody waits for ever, and the message says for how long."""
    assert "no answer within" in str(error_of(silent, operation))


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_completion_without_an_answer_is_empty_and_quick(
    silent: str, flat: bool
) -> None:
    """Whoever presses Tab is not kept waiting, and gets no traceback."""
    with refusing() as refused:
        for url in (silent, refused, "http://127.0.0.1:1"):
            with EtcdMapping(url, "/app") as mapping, Stopwatch() as watch:
                shown = (mapping.flat if flat else mapping)._ipython_key_completions_()
            assert shown == []
            assert watch.seconds < 0.3 + 0.2  # for a machine that is busy
            assert mapping._ipython_key_completions_() == []  # closed


# --- the wrong URL ----------------------------------------------------------


@pytest.mark.parametrize("operation", ALL)
def test_nothing_listens_any_operation_tells_so(operation: Operation) -> None:
    """A refused connection is told with what to check."""
    with refusing() as url:
        error = error_of(url, operation)
    assert isinstance(error, ClusterUnavailable)
    assert "connection refused: nothing listens there" in str(error)
    assert "check that etcd runs" in str(error)
    assert "in touch with the others" not in str(error)
    # One endpoint is one line (of `update`, one for the call, and one for the key).
    _, *lines = str(error).splitlines()
    assert sum(f"{url}:" in line for line in lines) == len(lines) == 1


@pytest.mark.parametrize("operation", [READS[0], WRITES[0]])
def test_unknown_host_any_operation_tells_so(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that no DNS knows is told as such."""

    def unknown(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # How long a real name server takes to say so is nobody's to promise.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = error_of("http://nowhere.invalid:2379", operation)
    assert isinstance(error, ClusterUnavailable)
    assert "no such host" in str(error)
    assert len(str(error).splitlines()) == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for the loopback that nobody signed."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls(
    etcd_version: str, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give a real etcd that speaks TLS only, with the v2 API."""
    home = tmp_path_factory.mktemp("tls-etcd")
    binary = binaries()[etcd_version]
    with raw_etcd(binary, home, "--enable-v2", certificate=certificate) as url:
        yield url


def test_tls_with_its_ca_works(tls: str, certificate: Path, prefix: str) -> None:
    """With verify= the right bundle, a mapping works over TLS."""
    with EtcdMapping(tls, prefix, verify=str(certificate)) as mapping:
        mapping["k"] = "v"
        assert mapping.to_dict() == {"k": "v"}


@pytest.mark.parametrize("operation", ALL)
def test_untrusted_certificate_any_operation_tells_so_at_once(
    tls: str, operation: Operation
) -> None:
    """A certificate that nobody signed is refused without waiting for better."""
    with Stopwatch() as watch:
        error = error_of(tls, operation)
    assert isinstance(error, ClusterUnavailable)
    assert "certificate refused" in str(error)
    assert watch.seconds < TIMEOUT


@pytest.mark.parametrize("operation", ALL)
def test_http_to_a_tls_port_any_operation_tells_so(
    tls: str, operation: Operation
) -> None:
    """etcd hangs up on a plain request to its TLS port; the scheme is a suspect."""
    error = error_of(tls.replace("https:", "http:"), operation)
    assert "before an answer came" in str(error)
    assert "https" in str(error)


@pytest.mark.parametrize("operation", ALL)
def test_https_to_a_plain_port_any_operation_tells_so(
    etcd: LocalCluster, operation: Operation
) -> None:
    """A port without TLS can't be greeted: nothing was sent, writes included."""
    error = error_of(etcd.endpoints[0].replace("http:", "https:"), operation)
    assert isinstance(error, ClusterUnavailable)
    assert "is it http://?" in str(error)
    assert "check that etcd runs" not in str(error)
    assert not any(attempt.sent for attempt in error.attempts)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"verify": "/nowhere/ca.pem"}, id="verify"),
        pytest.param({"cert": "/nowhere/client.pem"}, id="cert"),
        pytest.param({"cert": ("/nowhere/a.pem", "/nowhere/b.pem")}, id="pair"),
    ],
)
def test_tls_file_that_is_missing_is_refused_when_the_client_is_made(
    options: dict[str, Any],
) -> None:
    """Not at the first request, as if etcd were down; by its option and its path."""
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} .*'/nowhere/.* No such file"):
        EtcdMapping("https://127.0.0.1", **options)


ANY: dict[str, Operation] = {
    "get": lambda m: m["k"],
    "in": lambda m: "k" in m,
    "len": len,
    "loop": list,
    "flat": lambda m: m.flat["k"],
    "to_dict": lambda m: m.to_dict(),
    "setitem": lambda m: m.__setitem__("k", 1),
    "set": lambda m: m.set("k", 1),
    "set-mapping": lambda m: m.set("k", {"a": 1}),
    "del": lambda m: m.__delitem__("k"),
    "update": lambda m: m.update(a=1, b=2),
    "assign": lambda m: m.assign({"a": 1}),
    "pop": lambda m: m.pop("k"),
    "setdefault": lambda m: m.setdefault("k", 1),
    "transform": lambda m: m.transform("k", str),
    "append": lambda m: m.append(1),
    "watch": lambda m: m.watch(),
    "live": lambda m: m.live(),
}


@pytest.mark.parametrize("operation", [pytest.param(ANY[o], id=o) for o in ANY])
@pytest.mark.parametrize("fence", [False, True])
def test_outage_is_one_short_traceback(operation: Operation, fence: bool) -> None:
    """With one exception, and no frames of what is below the call."""
    with refusing() as url:
        error = error_of(url, operation, fence=fence)
    shown = traceback.format_exception(type(error), error, error.__traceback__)
    assert sum(text.startswith("Traceback") for text in shown) == 1
    assert "ClusterUnavailable" in shown[-1]
    assert url in shown[-1]
    # One of the library, below that of `error_of` and maybe of a lambda; for speed two
    # where ``m[k] = v`` calls `set`.
    frames = traceback.extract_tb(error.__traceback__)
    below = [frame for frame in frames if frame.filename != __file__]
    assert len(below) == 1 + (operation is ANY["setitem"])
    assert frames[-1] == below[-1]


def test_error_of_a_function_of_the_caller_shows_where_in_it(
    etcd: LocalCluster, prefix: str
) -> None:
    """What `transform` calls has no frame of ours, and the fault may be in it."""
    with refusing() as url, EtcdMapping(etcd.endpoints, prefix) as mapping:

        def look_elsewhere(value: object) -> object:
            with EtcdMapping(url, timeout=TIMEOUT) as other:
                return other["k"]

        with pytest.raises(ClusterUnavailable) as caught:
            mapping.transform("k", look_elsewhere, default=1)
    assert "look_elsewhere" in [frame.name for frame in traceback.extract_tb(caught.tb)]
