"""Members with bad certificates get nothing, and renewed ones need no restart."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdmap import ClusterUnavailable, EtcdMapping
from etcdmap.errors import ExchangeFailed

from support.certificates import make_certificate, put_in_place
from support.fault_server import FaultServer, Stopwatch
from support.raw_etcd import raw_etcd
from support.servers import binaries
from support.tcp_proxy import TcpProxy
from support.waiting import soon

HERE = "subjectAltName = IP:127.0.0.1"

#: Arguments of `make_certificate`, the cause, and a word of what to do.
BAD: list[Any] = [
    pytest.param(
        {"valid": ("20200101000000Z", "20210101000000Z")},
        "certificate has expired",
        "renew it",
        id="expired",
    ),
    pytest.param(
        {"valid": ("20980101000000Z", "20990101000000Z")},
        "certificate is not yet valid",
        "clocks",
        id="not-yet-valid",
    ),
    pytest.param(
        {"extensions": f"{HERE}\nextendedKeyUsage = clientAuth"},
        "(unsuitable|unsupported) certificate purpose",
        "serverAuth",
        id="for-clients-only",
    ),
    pytest.param(
        {"extensions": "subjectKeyIdentifier = hash", "host": "localhost"},
        "not valid for 'localhost'",
        "subjectAltName",
        id="common-name-only",
    ),
    pytest.param(
        {"host": "other.test"},
        r"not valid for '127\.0\.0\.1'",
        "subjectAltName",
        id="another-name",
    ),
]

CALLS: list[Any] = [
    pytest.param(lambda m: m.get("k"), id="read"),
    pytest.param(lambda m: m.update(k="v"), id="write"),
    pytest.param(lambda m: m.append("v"), id="once-only"),
]

Call = Callable[[EtcdMapping], Any]


def error_of(url: str, ca: Path, call: Call = lambda m: m["k"]) -> ClusterUnavailable:
    """Give the error of a call, which must come at once and send nothing."""
    with (
        EtcdMapping(url, "/app", verify=str(ca), timeout=20) as mapping,
        Stopwatch() as watch,
        pytest.raises(ClusterUnavailable) as caught,
    ):
        call(mapping)
    assert watch.seconds < 5
    assert not any(attempt.sent for attempt in caught.value.attempts)
    assert url in str(caught.value)
    return caught.value


# --- a bad certificate


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("made", "cause", "advice"), BAD)
def test_bad_certificate_gets_nothing_and_is_told_with_a_remedy(
    tmp_path: Path, made: dict[str, Any], cause: str, advice: str, call: Call
) -> None:
    """Though its CA is trusted, and whatever is asked for."""
    certificate = make_certificate(tmp_path, **made)
    host = "localhost" if made.get("host") == "localhost" else "127.0.0.1"
    with FaultServer(certificate=certificate) as server:
        error = error_of(f"https://{host}:{server.port}", certificate, call)
        server.wait_for(lambda server: len(server.ended) == server.connections > 0)
        assert server.received == 0
    assert re.search(f"TLS certificate refused: .*{cause}.*; .*{advice}", str(error))


def test_certificate_of_an_unknown_ca_gets_nothing_and_is_told_with_a_remedy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """As that of somebody in between would be."""
    ours, theirs = (make_certificate(tmp_path_factory.mktemp(n)) for n in ("a", "b"))
    with FaultServer(certificate=theirs) as server:
        error = error_of(server.url, ours)
        assert server.received == 0
    assert "give the CA that signed it as verify" in str(error)


def offer_old_tls(server: FaultServer) -> None:
    """Have a server speak TLS 1.1 at most; skip if this OpenSSL can't."""
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    assert server._tls is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for context in (lax, server._tls):
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
        server._tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        try:
            lax.wrap_socket(sock).close()
        except ssl.SSLError as error:
            pytest.skip(f"this OpenSSL speaks no TLS 1.1: {error}")


def test_old_tls_gets_nothing_and_is_told_with_a_remedy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """TLS 1.1 and below are broken; it is no use to try again."""
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    with FaultServer(certificate=certificate) as server:
        offer_old_tls(server)
        error = error_of(server.url, certificate)
        assert server.received == 0
    assert "TLS is too old: let it speak TLS 1.2 or 1.3" in str(error)


# --- beside good ones


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the certificate of the member that works."""
    return make_certificate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module", params=["expired", "unknown-ca"])
def other(
    request: pytest.FixtureRequest,
    good: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[FaultServer, Path]]:
    """Give a server with a bad certificate, and a bundle to check it and the good."""
    home = tmp_path_factory.mktemp("bad")
    bundle = home / "bundle.pem"
    if request.param == "expired":
        bad = make_certificate(home, valid=("20200101000000Z", "20210101000000Z"))
        bundle.write_bytes(good.read_bytes() + bad.read_bytes())
    else:
        bad = make_certificate(home)
        bundle.write_bytes(good.read_bytes())
    with FaultServer(certificate=bad) as server:
        yield server, bundle


@pytest.fixture(scope="module")
def member(
    other: tuple[FaultServer, Path],
    good: Path,
    etcd_version: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Give a real etcd that tells clients the address of the other one as its own."""
    flags = ("--enable-v2", f"--advertise-client-urls={other[0].url}")
    home, binary = tmp_path_factory.mktemp("member"), binaries()[etcd_version]
    with raw_etcd(binary, home, *flags, certificate=good) as url:
        yield url


@pytest.mark.parametrize("call", CALLS)
def test_member_with_a_bad_certificate_is_passed_over(
    member: str, other: tuple[FaultServer, Path], prefix: str, call: Call
) -> None:
    """What is asked of it goes to the good one, writes that may go once included."""
    server, bundle = other
    before = server.connections
    endpoints = [server.url, member]
    with EtcdMapping(endpoints, prefix, verify=str(bundle), shuffle=False) as mapping:
        call(mapping)
        assert server.connections > before, "it was not asked at all"
        assert server.received == 0
        assert mapping.client.pinned == member


def test_member_learnt_with_a_bad_certificate_is_never_used(
    member: str, other: tuple[FaultServer, Path], prefix: str
) -> None:
    """What the cluster announces has to prove itself like what the user gave."""
    server, bundle = other
    with EtcdMapping(member, prefix, verify=str(bundle)) as mapping:
        mapping["k"] = "v"
        assert set(mapping.client.sync()) == {member, server.url}
        before = server.connections
        for number in range(3):
            mapping.client.pin(server.url)
            mapping["k"] = number
            assert mapping["k"] == number
            assert mapping.client.pinned == member
        assert server.connections > before, "it was not asked at all"
        assert server.received == 0


# --- renewal


def test_renewed_certificates_of_a_running_etcd_need_no_restart(
    etcd_version: str, tmp_path_factory: pytest.TempPathFactory, prefix: str
) -> None:
    """etcd reads its files for each connection, and so do we."""
    first, second = (make_certificate(tmp_path_factory.mktemp(n)) for n in "ab")
    home = tmp_path_factory.mktemp("etcd")
    file = home / "renewed.pem"
    put_in_place(first, file)
    with (
        raw_etcd(
            binaries()[etcd_version], home, "--enable-v2", certificate=file
        ) as url,
        EtcdMapping(url, prefix, verify=str(file)) as mapping,
    ):
        mapping["k"] = 1
        put_in_place(second, file)
        assert mapping["k"] == 1  # on the connection that is there
        mapping.client.transport.distrust(url)
        mapping["k"] = 2
        assert mapping["k"] == 2
        assert "certificate refused" in str(error_of(url, first))


# --- following


@pytest.mark.parametrize("whose", ["server", "client"])
def test_live_whose_certificate_expires_is_told_and_goes_on_with_a_new_one(
    etcd_version: str,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    whose: str,
) -> None:
    """Once a new connection is needed; the last state stays."""
    home = tmp_path_factory.mktemp("etcd")
    good = make_certificate(tmp_path_factory.mktemp("good"))
    expired = make_certificate(
        tmp_path_factory.mktemp("expired"),
        host="expired.test",  # another name, or OpenSSL takes it for the good one
        extensions=HERE,
        valid=("20200101000000Z", "20210101000000Z"),
    )
    files = {name: home / f"{name}.pem" for name in ("server", "client", "all")}
    for file in files.values():
        put_in_place(good, file)
    both = [file.with_name("certificate.pem").read_bytes() for file in (good, expired)]
    files["all"].write_bytes(b"".join(both))
    flags = (
        "--enable-v2",
        "--client-cert-auth",
        f"--trusted-ca-file={files['all']}",
    )
    binary = binaries()[etcd_version]
    options: Any = {"verify": str(files["all"])}
    with (
        raw_etcd(binary, home, *flags, certificate=files["server"]) as url,
        TcpProxy(url) as proxy,
        EtcdMapping(url, "/app", cert=str(good), **options) as writer,
        EtcdMapping(
            proxy.endpoint.replace("http:", "https:"),
            "/app",
            cert=str(files["client"]),
            **options,
        ) as mapping,
        mapping.live() as live,
        caplog.at_level(logging.INFO, "etcdmap"),
    ):
        states: list[str] = []
        live.subscribe_state(states.append)
        assert live.wait(writer.set("k", 1), 10)
        put_in_place(expired, files[whose])
        proxy.drop()
        assert soon(lambda: live.state == "failed"), (live.state, live.error)
        assert isinstance(live.error, ExchangeFailed)
        assert "certificate" in str(live.error)
        assert live["k"] == 1
        writer["k"] = 2
        put_in_place(good, files[whose])
        assert soon(lambda: live["k"] == 2)
        assert soon(lambda: states[-2:] == ["failed", "following"]), states
        assert live.error is None
        assert "live replica of /app: failed: " in caplog.text
