"""Certificates made on the spot, by the command line of OpenSSL."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

#: What `openssl ca` must be told: only it sets both dates of a certificate.
_CONFIGURATION = """
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
default_md = sha256
rand_serial = yes
policy = policy
[policy]
commonName = supplied
[extensions]
"""
#: Instead of two dates: always valid.
_ALWAYS = ("20000101000000Z", "20991231000000Z")


def make_certificate(
    directory: Path,
    host: str = "127.0.0.1",
    *,
    extensions: str | None = None,
    valid: tuple[str, str] = _ALWAYS,
) -> Path:
    """Make a self-signed certificate for an address; skip where OpenSSL is missing.

    The file holds the certificate and its key; it is a CA bundle as well.

    Args:
        directory: for its files, of which one by one is of use as well.
        host: the name or address it is for; its common name, too.
        extensions: lines of OpenSSL's configuration, instead of the host.
        valid: from when to when, as ``20010203040506Z``.
    """
    kind = "IP" if host[0].isdigit() else "DNS"
    lines = f"subjectAltName = {kind}:{host}" if extensions is None else extensions
    (directory / "configuration").write_text(f"{_CONFIGURATION}{lines}\n")
    (directory / "index").write_text("")
    run_openssl(
        *("req", "-new", "-newkey", "ec", "-nodes", "-subj", f"/CN={host}"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-keyout", "key.pem", "-out", "request.pem"),
        at=directory,
    )
    run_openssl(
        *("ca", "-batch", "-notext", "-selfsign", "-config", "configuration"),
        *("-extensions", "extensions", "-startdate", valid[0], "-enddate", valid[1]),
        *("-in", "request.pem", "-keyfile", "key.pem", "-out", "certificate.pem"),
        at=directory,
    )
    both = directory / "both.pem"
    parts = [directory / "certificate.pem", directory / "key.pem"]
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    return both


def run_openssl(*arguments: str, at: Path) -> str:
    """Run OpenSSL in a directory and return its output; skip where it is missing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    done = subprocess.run(
        [openssl, *arguments],
        cwd=at,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def put_in_place(source: Path, target: Path) -> None:
    """Renew a file as it should be done: at once, by a rename."""
    new = target.with_name(f"{target.name}.new")
    new.write_bytes(source.read_bytes())
    os.replace(new, target)
