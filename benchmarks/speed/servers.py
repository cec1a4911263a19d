"""One etcd that speaks http and https, from the same data."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from etcdmap.local.binary import find_binary


class TwoWays(NamedTuple):
    """Where it is reached, and what its certificate is checked by."""

    http: str
    https: str
    ca: str


@contextlib.contextmanager
def http_and_https() -> Iterator[TwoWays | None]:
    """Run it; None where there is no ``openssl`` to make a certificate."""
    if shutil.which("openssl") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="etcdmap-tls-") as temporary:
        home = Path(temporary)
        certificate, key = _make_certificate(home)
        plain, secure = _free_ports()
        ways = TwoWays(
            f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}", certificate
        )
        process = _start(home, ways, key)
        try:
            _wait(process, ways)
            yield ways
        finally:
            process.kill()
            process.wait(10)


def _make_certificate(home: Path) -> tuple[str, str]:
    certificate, key = str(home / "certificate.pem"), str(home / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=benchmark"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _start(home: Path, ways: TwoWays, key: str) -> subprocess.Popen[bytes]:
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *(str(find_binary()), "--name=m0", f"--data-dir={home / 'data'}"),
                *("--listen-peer-urls=unix://m0:1", "--initial-cluster=m0=unix://m0:1"),
                *("--initial-advertise-peer-urls=unix://m0:1", "--enable-v2=true"),
                *("--heartbeat-interval=10", "--election-timeout=100"),
                *("--logger=zap", "--log-outputs=stderr", "--log-level=warn"),
                f"--listen-client-urls={ways.http},{ways.https}",
                f"--advertise-client-urls={ways.http}",
                *(f"--cert-file={ways.ca}", f"--key-file={key}"),
            ],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _wait(process: subprocess.Popen[bytes], ways: TwoWays) -> None:
    https = urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=ways.ca)
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            opener.open(f"{ways.https}/health", timeout=2),
        ):
            return
        time.sleep(0.02)
    raise RuntimeError("etcd with TLS did not start")
