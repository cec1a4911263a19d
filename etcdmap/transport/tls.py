"""The TLS settings, spelt as requests spells them, as one context."""

from __future__ import annotations

import os
import ssl

from etcdmap.errors import ExchangeFailed

#: True for the CAs that requests brings along, the path of a bundle or of a directory
#: of CAs, or False to verify nothing.
Verify = bool | str
#: Path of a client certificate, or a pair (certificate, key).
Cert = str | tuple[str, str] | None


def make_context(verify: Verify, cert: Cert) -> ssl.SSLContext:
    """Return a context, which takes some 20 ms to make with a system's CAs.

    Raises:
        ExchangeFailed: a file is missing or is not what it should be.
    """
    # Verifies names and IP addresses; TLS 1.2 at least.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # as browsers and urllib3 do
    # Without it, a server may choose HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_authorities(context, verify)
        if cert is not None:
            context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    except OSError as error:
        message = f"TLS can't be set up from verify={verify!r}, cert={cert!r}: {error}"
        raise ExchangeFailed(message, sent=False, lasting=True) from error
    return context


def _load_authorities(context: ssl.SSLContext, verify: Verify) -> None:
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return
    if verify is True:
        # requests' own constant, which distributions patch; imported for https only.
        from requests.utils import DEFAULT_CA_BUNDLE_PATH as path
    else:
        path = os.fspath(verify)
    place = "capath" if os.path.isdir(path) else "cafile"
    context.load_verify_locations(**{place: path})
