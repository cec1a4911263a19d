"""The TLS context: renewed with its files, never asking on a terminal, warned of."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from etcdmap import EtcdMapping, RenewalFailed, UnverifiedTLS, connect
from etcdmap.errors import ExchangeFailed
from etcdmap.transport import WireTransport
from etcdmap.transport import tls as tls_module
from etcdmap.transport.protocol import Settings
from etcdmap.transport.tls import Contexts

from support.certificates import make_certificate, put_in_place, run_openssl
from support.fault_server import FaultServer
from support.requests import Request
from support.transports import exchange

Make = Callable[..., WireTransport]
GET = Request[Any]("GET", "/v2/keys/k", lambda answer: answer)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the certificate that is there at first, with its key."""
    return make_certificate(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the one that it is renewed by."""
    return make_certificate(tmp_path_factory.mktemp("second"))


@pytest.fixture
def file(tmp_path: Path, first: Path) -> Path:
    """Give a file that holds the first certificate, and may be renewed."""
    path = tmp_path / "renewed.pem"
    put_in_place(first, path)
    return path


@pytest.fixture
def make() -> Iterator[Make]:
    """Give a function that makes transports, closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> WireTransport:
            transport = WireTransport(**settings)
            stack.callback(transport.close)
            return transport

        yield make


def works(transport: WireTransport, server: FaultServer) -> bool:
    """Tell whether a new connection does."""
    transport.distrust(server.url)
    before = server.connections
    refused: ExchangeFailed | None = None
    try:
        exchange(transport, server.url, GET, 5)
    except ExchangeFailed as error:
        refused = error
    assert server.connections == before + 1
    assert refused is None or "certificate" in str(refused)
    return refused is None


def asking(server: FaultServer, trusted: Path) -> FaultServer:
    """Have a server ask for a client certificate; with TLS 1.2, which tells at once."""
    assert server._tls is not None
    server._tls.verify_mode = ssl.CERT_REQUIRED
    server._tls.load_verify_locations(trusted)
    server._tls.maximum_version = ssl.TLSVersion.TLSv1_2
    return server


# --- files that are renewed


def test_renewed_bundle_is_what_the_next_connection_trusts(
    make: Make, file: Path, first: Path, second: Path
) -> None:
    """Whoever is no longer in it is refused; what is connected goes on."""
    transport = make(verify=str(file))
    with FaultServer(certificate=first) as old, FaultServer(certificate=second) as new:
        assert (works(transport, old), works(transport, new)) == (True, False)
        put_in_place(second, file)
        assert exchange(transport, old.url, GET, 5).status == 200
        assert (works(transport, new), works(transport, old)) == (True, False)
        assert not new.requests[0].connection == old.requests[0].connection == 1


def test_renewed_directory_of_authorities_counts(
    make: Make, tmp_path: Path, first: Path, second: Path
) -> None:
    """OpenSSL itself would go on with the file that it has read under that name."""
    name = run_openssl(
        "x509", "-subject_hash", "-noout", "-in", str(first), at=tmp_path
    )
    file = tmp_path / f"{name.strip()}.0"
    file.write_bytes(first.read_bytes())
    transport = make(verify=str(tmp_path))
    with FaultServer(certificate=first) as old, FaultServer(certificate=second) as new:
        assert (works(transport, old), works(transport, new)) == (True, False)
        file.write_bytes(second.read_bytes())  # in place: the directory stays as it is
        assert (works(transport, new), works(transport, old)) == (True, False)


@pytest.mark.parametrize("pair", [False, True])
def test_renewed_client_certificate_is_shown(
    make: Make, tmp_path: Path, first: Path, second: Path, pair: bool
) -> None:
    """In one file with its key, or in two."""
    names = ["certificate.pem", "key.pem"] if pair else ["both.pem"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        put_in_place(first.parent / path.name, path)
    cert: Any = tuple(map(str, paths)) if pair else str(*paths)
    transport = make(verify=str(first), cert=cert)
    with asking(FaultServer(certificate=first), second) as server:
        assert not works(transport, server)
        for path in paths:
            put_in_place(second.parent / path.name, path)
        assert works(transport, server)


def test_renewed_by_a_link_to_another_file_counts(
    make: Make, tmp_path: Path, first: Path, second: Path
) -> None:
    """As Kubernetes does it: the path stays, and leads elsewhere."""
    link = tmp_path / "ca.pem"
    link.symlink_to(first)
    transport = make(verify=str(link))
    with FaultServer(certificate=second) as server:
        assert not works(transport, server)
        link.unlink()
        link.symlink_to(second)
        assert works(transport, server)


def test_half_renewed_pair_goes_on_with_the_old_one_and_warns_once(
    make: Make, tmp_path: Path, first: Path, second: Path
) -> None:
    """A key that does not fit yet; once it does, no warning is left to give."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path in (certificate, key):
        put_in_place(first.parent / path.name, path)
    transport = make(verify=str(first), cert=(str(certificate), str(key)))
    with (
        asking(FaultServer(certificate=first), first) as old,
        asking(FaultServer(certificate=first), second) as new,
    ):
        assert works(transport, old)
        put_in_place(second.parent / "certificate.pem", certificate)
        with pytest.warns(RenewalFailed, match="whole files") as caught:
            assert works(transport, old)
        assert works(transport, old)  # warnings are errors
        (warning,) = caught
        assert f"{certificate} changed" in str(warning.message)
        assert f"{key} changed" not in str(warning.message)
        assert str(key) in str(warning.message)  # among what was to be loaded
        put_in_place(second.parent / "key.pem", key)
        assert (works(transport, new), works(transport, old)) == (True, False)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"----- rubbish"), id="rubbish"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:300]), id="cut-off"
        ),
    ],
)
def test_spoilt_bundle_goes_on_with_the_old_one_until_it_is_whole(
    make: Make, file: Path, first: Path, second: Path, spoil: Callable[[Path], object]
) -> None:
    """Each change is warned of once, and the next connection looks again."""
    transport = make(verify=str(file))
    with FaultServer(certificate=first) as old, FaultServer(certificate=second) as new:
        assert works(transport, old)
        spoil(file)
        with pytest.warns(RenewalFailed, match=str(file)):
            assert works(transport, old)
        assert works(transport, old)  # warnings are errors
        file.write_bytes(b"spoilt once more")
        with pytest.warns(RenewalFailed):
            assert works(transport, old)
        put_in_place(second, file)
        assert works(transport, new)
        # The same fault, once more after a time without.
        put_in_place(first, file)
        assert works(transport, old)
        spoil(file)
        with pytest.warns(RenewalFailed):
            assert works(transport, old)


def test_file_that_could_not_be_read_is_tried_by_each_new_connection(
    make: Make, file: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that is granted later changes nothing of the file."""
    transport = make(verify=str(file))
    with FaultServer(certificate=file) as old, FaultServer(certificate=second) as new:
        assert works(transport, old)
        put_in_place(second, file)
        with monkeypatch.context() as patch:
            refusal = ExchangeFailed("Permission denied", sent=False, lasting=True)
            patch.setattr(tls_module, "make_context", Mock(side_effect=refusal))
            with pytest.warns(RenewalFailed, match="Permission denied"):
                assert works(transport, old)
        assert works(transport, new)


def test_bundle_that_was_never_right_is_tried_again(
    make: Make, tmp_path: Path, first: Path
) -> None:
    """Without an earlier context it is an error, until the file is there."""
    path = tmp_path / "ca.pem"
    transport = make(verify=str(path))
    with FaultServer(certificate=first) as server:
        for _ in range(2):
            with pytest.raises(ExchangeFailed, match=r"verify='.*ca\.pem'") as caught:
                exchange(transport, server.url, GET, 5)
            assert (caught.value.sent, caught.value.lasting) == (False, True)
        put_in_place(first, path)
        assert works(transport, server)


def test_warning_made_an_exception_leaves_the_transport_usable(
    make: Make, file: Path, first: Path
) -> None:
    """With ``-W error`` the call that finds it fails, and the next one works."""
    transport = make(verify=str(file))
    with FaultServer(certificate=first) as server:
        assert works(transport, server)
        file.unlink()
        transport.distrust(server.url)
        with pytest.raises(RenewalFailed):
            exchange(transport, server.url, GET, 5)
        assert works(transport, server)


def test_files_are_looked_at_for_new_connections_only(
    make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept costs no call of the system more."""
    looks: list[str] = []
    real = tls_module._looks_of

    def counting(path: str) -> Iterator[Any]:
        looks.append(path)
        return real(path)

    monkeypatch.setattr(tls_module, "_looks_of", counting)
    transport = make(verify=str(file))
    with FaultServer(certificate=file) as server:
        for _ in range(3):
            exchange(transport, server.url, GET, 5)
        assert looks == [str(file)]
        assert works(transport, server)
    assert looks == 2 * [str(file)]


def test_relative_paths_stay_right_when_the_directory_is_changed(
    make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As daemons do, before or after their first request."""
    monkeypatch.chdir(file.parent)
    transport = make(verify=file.name, cert=file.name)
    monkeypatch.chdir("/")
    with FaultServer(certificate=file) as server:
        assert works(transport, server)


def test_empty_path_is_no_directory(
    make: Make, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a variable that is not set, say; the present directory is not meant."""
    with FaultServer(certificate=first) as server:
        for settings in ({"verify": ""}, {"verify": str(first), "cert": ""}):
            with pytest.raises(ExchangeFailed, match="TLS can't be set up"):
                exchange(make(**settings), server.url, GET, 5)
        assert server.received == 0


def test_threads_that_find_a_change_together_load_it_once(
    file: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them get the same new context."""
    made: list[ssl.SSLContext] = []
    real = tls_module.make_context

    def counting(*arguments: Any) -> ssl.SSLContext:
        assert contexts._lock.locked()  # else they would need luck
        made.append(real(*arguments))
        return made[-1]

    monkeypatch.setattr(tls_module, "make_context", counting)
    contexts = Contexts(Settings(verify=str(file)))
    contexts.current()
    put_in_place(second, file)
    barrier = threading.Barrier(8)

    def work(_: int) -> ssl.SSLContext:
        barrier.wait(10)
        return contexts.current()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(work, range(8)))
    assert found == {made[1]}
    assert len(made) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_a_thread_loads_leaves_the_child_free_to(
    file: Path, second: Path
) -> None:
    """The lock that the other thread holds is not the child's."""
    contexts = Contexts(Settings(verify=str(file)))
    before = contexts.current()
    put_in_place(second, file)
    with contexts._lock:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(10)
                code = 0 if contexts.current() is not before else 3
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- a key with a passphrase

ASK = """
import sys
from etcdmap import EtcdMapping
cert = sys.argv[2:] if len(sys.argv) > 3 else sys.argv[2]
with EtcdMapping(sys.argv[1], "/app", verify=sys.argv[2], cert=cert) as m:
    try:
        m["k"] = "v"
    except Exception as error:
        print(type(error).__name__, error)
print("left:", sys.stdin.read())
"""


@pytest.mark.parametrize("pair", [False, True])
def test_encrypted_key_is_an_error_and_no_question(
    tmp_path: Path, first: Path, pair: bool
) -> None:
    """OpenSSL would ask on the terminal, or else read what is piped in."""
    key, both = tmp_path / "key.pem", tmp_path / "both.pem"
    run_openssl(
        *("pkey", "-in", str(first), "-aes256", "-passout", "pass:hunter2"),
        *("-out", str(key)),
        at=tmp_path,
    )
    certificate = (first.parent / "certificate.pem").read_bytes()
    both.write_bytes(certificate + key.read_bytes())
    cert = [str(both), str(key)] if pair else [str(both)]
    with FaultServer(certificate=first) as server:
        done = subprocess.run(
            [sys.executable, "-c", ASK, server.url, *cert],
            input="hunter2\n",
            capture_output=True,
            text=True,
            timeout=30,
            start_new_session=True,  # so it has no terminal
        )
        assert server.connections == 0
    assert done.stderr == ""
    said, _, left = done.stdout.partition("left:")
    assert said.startswith("ClusterUnavailable")
    assert server.url in said
    assert cert[-1] in said
    assert "the key is encrypted: give one without a passphrase" in said
    assert "hunter2" not in said
    assert left.strip() == "hunter2"


def test_decrypted_as_the_message_says_it_works(
    make: Make, tmp_path: Path, first: Path
) -> None:
    """The command of the message makes a key of use."""
    for name, options in (("LOCKED", ["-aes256"]), ("NEW", [])):
        source = str(first) if options else "LOCKED"
        passphrase = ["-passout" if options else "-passin", "pass:hunter2"]
        arguments = ["pkey", "-in", source, "-out", name, *options, *passphrase]
        run_openssl(*arguments, at=tmp_path)
    transport = make(verify=str(first), cert=(str(first), str(tmp_path / "NEW")))
    with asking(FaultServer(certificate=first), first) as server:
        assert works(transport, server)


# --- names that end with a dot


def test_host_with_a_trailing_dot_is_the_name_in_the_certificate(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absolute name; HTTP gets it as it was given, TLS without the dot."""
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        # Some systems find no "localhost." in /etc/hosts.
        if host == "localhost." and not options.get("flags"):
            host = "127.0.0.1"
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    certificate = make_certificate(tmp_path, "localhost")
    transport = make(verify=str(certificate))
    asked: list[str | None] = []
    with FaultServer(certificate=certificate) as server:
        assert server._tls is not None
        server._tls.sni_callback = lambda _, name, __: asked.append(name)
        url = f"https://localhost.:{server.port}"
        assert exchange(transport, url, GET, 5).status == 200
    assert asked == ["localhost"]
    assert server.requests[0].headers["host"] == f"localhost.:{server.port}"


# --- verify=False


def make_mapping() -> EtcdMapping:
    """Make a mapping that verifies nothing."""
    return EtcdMapping("https://127.0.0.1:1", verify=False)


def make_from_url() -> EtcdMapping:
    """Make it from a URL."""
    return EtcdMapping.from_url("etcds://127.0.0.1:1/app?verify=false")


def make_client() -> Any:
    """Make a client only."""
    return connect("https://127.0.0.1:1", verify=False)


@pytest.mark.parametrize("make_it", [make_mapping, make_from_url, make_client])
def test_verify_false_warns_where_it_is_said(make_it: Callable[[], Any]) -> None:
    """Once for each client, at the line of the caller's, before anything is sent."""
    with pytest.warns(UnverifiedTLS, match="no TLS certificate is checked") as caught:
        make_it().close()
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.lineno == make_it.__code__.co_firstlineno + 2
    assert "verify='/path/to/ca.pem'" in str(warning.message)


def test_verify_false_warns_of_no_request(first: Path) -> None:
    """Nor of the connections; and the warning is a filter's to silence."""
    with pytest.warns(UnverifiedTLS):
        transport = WireTransport(verify=False)
    with FaultServer(certificate=first) as server:
        assert works(transport, server)
        assert works(transport, server)
        transport.close()


@pytest.mark.parametrize("verify", [True, "ca.pem"])
def test_verify_warns_of_nothing_else(verify: Any) -> None:
    """As warnings are errors in tests."""
    WireTransport(verify=verify).close()
