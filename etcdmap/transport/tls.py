"""TLS settings, as requests spells them, in one context."""

from __future__ import annotations

import os
import ssl

from etcdmap.errors import ExchangeFailed

Verify = bool | str
Cert = str | tuple[str, str] | None


def make_context(verify: Verify, cert: Cert) -> ssl.SSLContext:
    """Make a context; dear (20 ms for the CAs of a system), so once per client.

    Args:
        verify: True for the CAs that requests brings along, the path of a
            bundle or of a directory of CAs, or False to verify nothing.
        cert: path of a client certificate, or a pair (certificate, key).

    Raises:
        ExchangeFailed: a file is missing or is not what it should be.
    """
    # Verifies names and IP addresses; TLS 1.2 at least.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # as browsers and urllib3 do
    # Go's server would speak HTTP/2 to whoever lets it choose.
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
        # requests' way to say it, which distributions patch; loaded only for https.
        from requests.utils import DEFAULT_CA_BUNDLE_PATH as path
    else:
        path = os.fspath(verify)
    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(cafile=path)
