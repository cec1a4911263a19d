"""One etcd started just as told, for settings that `LocalCluster` never uses."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def raw_etcd(
    binary: Path, directory: Path, *flags: str, certificate: Path | None = None
) -> Iterator[str]:
    """Run one member on the loopback and give its endpoint; it ends with the block.

    Args:
        binary: the etcd to run.
        directory: for its data, log and peer socket.
        *flags: its settings.
        certificate: a PEM file with certificate and key, to speak TLS.
    """
    for attempt in range(5):
        home = directory / f"etcd-{attempt}"
        home.mkdir()
        process, endpoint = _start(binary, home, flags, certificate)
        try:
            if _wait_serving(process, endpoint, certificate):
                yield endpoint
                return
            log = (home / "log").read_text(errors="replace")
            assert "address already in use" in log, log[-2000:]
        finally:
            process.kill()
            process.wait(10)
    raise AssertionError("no free port in five attempts")


def _start(
    binary: Path, home: Path, flags: tuple[str, ...], certificate: Path | None
) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http{'s' if certificate else ''}://127.0.0.1:{port}"
    tls = [f"--cert-file={certificate}", f"--key-file={certificate}"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(binary), "--name=m0", f"--data-dir={home / 'data'}"),
                *("--listen-peer-urls=unix://m0:1", "--initial-cluster=m0=unix://m0:1"),
                "--initial-advertise-peer-urls=unix://m0:1",
                *("--heartbeat-interval=10", "--election-timeout=100"),
                *("--logger=zap", "--log-outputs=stderr", "--log-level=warn"),
                f"--listen-client-urls={endpoint}",
                f"--advertise-client-urls={endpoint}",
                *(tls if certificate else ()),
                *flags,
            ],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"GOMAXPROCS": "2"},
        )
    return process, endpoint


def _wait_serving(
    process: subprocess.Popen[bytes], endpoint: str, certificate: Path | None
) -> bool:
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    if context is not None and certificate is not None:
        context.load_cert_chain(certificate)  # it may ask for one
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            opener.open(f"{endpoint}/health", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        time.sleep(0.02)
    return False
