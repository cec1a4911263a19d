"""The TLS context of new connections, made from files that are renewed on disk.

Certificates live for months or hours, and programs for longer.  So the files are looked
at before each new connection, and the context is made anew when they have changed.
Connections that are open go on as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from etcdmap import forking
from etcdmap.errors import ExchangeFailed
from etcdmap.transport.protocol import Settings

#: What a file looked like, by its path; compared only.
Looks = dict[str, list[Any]]


class UnverifiedTLS(UserWarning):
    """A client was made with ``verify=False``, so that it trusts every server."""


class RenewalFailed(UserWarning):
    """A TLS file has changed and can't be loaded; its old content stays in use."""


class Contexts:
    """The context of some TLS settings, as their files are now; threads share it."""

    def __init__(self, settings: Settings) -> None:
        verify, cert = settings.verify, settings.cert
        self._verify = verify if isinstance(verify, bool) else _absolute(verify)
        given = (cert,) if isinstance(cert, str) else cert or ()
        self._cert = tuple(map(_absolute, given))
        self._made: tuple[ssl.SSLContext, Looks] | None = None
        #: What the files looked like when `RenewalFailed` was said last.
        self._told: Looks = {}
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Replace the lock: a thread that did not survive the fork may hold it."""
        self._lock = threading.Lock()

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection; it costs a look at each file.

        Raises:
            ExchangeFailed: the files can't be used, and no earlier ones were loaded.
        """
        failure = ""
        with self._lock:
            # Before they are read: what is written meanwhile is a change to come.
            looks = self._look()
            if self._made is None:
                self._made = make_context(self._verify, self._cert), looks
            elif looks != self._made[1]:
                failure = self._renew(looks, self._made[1])
            context = self._made[0]
        if failure:  # said without the lock: a filter may make it an exception
            warnings.warn(failure, RenewalFailed, stacklevel=1)
        return context

    def _look(self) -> Looks:
        authorities = _authorities(self._verify)
        paths = (*([authorities] if authorities else []), *self._cert)
        return {path: list(_looks_of(path)) for path in paths}

    def _renew(self, looks: Looks, before: Looks) -> str:
        """Load what has changed; return what to warn of, which is said once."""
        try:
            self._made = make_context(self._verify, self._cert), looks
            self._told = {}
        except ExchangeFailed as error:
            if looks == self._told or not error.lasting:
                return ""
            self._told = looks
            changed = [path for path in looks if looks[path] != before.get(path)]
            # The time, as Python shows no text twice.
            return (
                f"{', '.join(changed)} changed and can't be used ({time.ctime()}): "
                f"{error}.  New connections go on with the certificates and keys that "
                "were loaded before, until these expire.  Put whole files there that "
                "fit together; the next new connection tries to use them"
            )
        return ""


def make_context(verify: bool | str, cert: tuple[str, ...]) -> ssl.SSLContext:
    """Return the context of the TLS settings; some 20 ms to make with a system's CAs.

    Raises:
        ExchangeFailed: a file is missing or is not what it should be.
    """
    # Verifies names and IP addresses; TLS 1.2 at least.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # as browsers and urllib3 do
    # Without it, a server may choose HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    with _telling("verify", verify):
        _load_authorities(context, _authorities(verify))
    if cert:
        with _telling("cert", cert[0] if len(cert) == 1 else cert):
            # OpenSSL would ask for a passphrase on the terminal, and wait.
            context.load_cert_chain(cert[0], cert[-1], password=_refuse_passphrase)
    return context


def _absolute(path: str) -> str:
    """Return a path that is still right when the process changes its directory."""
    if not path or os.path.isabs(path):  # an empty one is an error, and no directory
        return path
    return os.path.join(os.getcwd(), path)


@contextlib.contextmanager
def _telling(option: str, value: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"TLS can't be set up from {option}={value!r}: {error}"
        # Too many open files may be fewer soon.
        lasting = error.errno not in (errno.EMFILE, errno.ENFILE)
        raise ExchangeFailed(message, sent=False, lasting=lasting) from error


def _refuse_passphrase() -> NoReturn:
    raise OSError(
        "the key is encrypted: give one without a passphrase, such as "
        "`openssl pkey -in KEY -out NEW` writes"
    )


def _authorities(verify: bool | str) -> str | None:
    """Return the path of what is trusted; None if everything is."""
    if verify is False:
        return None
    if verify is not True:
        return verify
    # requests' own constant, which distributions patch; imported for https only.
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return DEFAULT_CA_BUNDLE_PATH


def _load_authorities(context: ssl.SSLContext, path: str | None) -> None:
    if path is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return
    place = "capath" if os.path.isdir(path) else "cafile"
    context.load_verify_locations(**{place: path})


def _looks_of(path: str) -> Iterator[Any]:
    """Yield what changes with a file, or with one in a directory."""
    yield _look_of(path)
    if os.path.isdir(path):
        # OpenSSL reads a file there when it needs it, and then keeps it.
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(path)):
                yield name, _look_of(os.path.join(path, name))


def _look_of(path: str) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def warn_unverified() -> None:
    """Warn of ``verify=False``, at the line outside of this package that said it."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("etcdmap."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        "verify=False: no TLS certificate is checked, so anybody on the way to the "
        "server can read and change everything, including passwords.  Give the CA "
        "that signed the servers' certificates instead: verify='/path/to/ca.pem'",
        UnverifiedTLS,
        stacklevel=level,
    )
