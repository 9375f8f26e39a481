"""TLS settings of an endpoint, made into contexts.

Verification is always on and nothing here can switch it off: the chain, the host name, TLS 1.2 at least. A `ca_file` replaces the
system's authorities for that endpoint; it is not added to them. Only HTTP/1.1 is offered. No variable can make it log secrets.
"""

import ssl

from gateway.core.policy import Tls


class Contexts:
    """Contexts by settings. Making one reads the system's authorities, some 10 ms, so each is made once."""

    def __init__(self) -> None:
        self._made: dict[Tls, ssl.SSLContext] = {}

    def get(self, tls: Tls) -> ssl.SSLContext:
        """The context for `tls`. Raises OSError (ssl.SSLError is one) if a file can't be read or used; tried again next time."""
        context = self._made.get(tls)
        if context is None:
            context = self._made[tls] = _context(tls)
        return context

    def forget(self) -> None:
        """Read the files again next time: on reload, since a certificate may have been renewed under its old name."""
        self._made.clear()


def _context(tls: Tls) -> ssl.SSLContext:
    # not ssl.create_default_context: it writes session keys to a file if SSLKEYLOGFILE says so
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.ca_file is not None:
        context.load_verify_locations(cafile=tls.ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        bundle = ssl.get_default_verify_paths().cafile
        if bundle is not None and not context.cert_store_stats()["x509"]:
            context.load_verify_locations(bundle)  # where it could not be opened nobody has said so, nor would anybody be trusted
    if tls.client_cert_file is not None:
        # without the callback, OpenSSL would ask for an encrypted key's passphrase on the terminal, and wait
        context.load_cert_chain(tls.client_cert_file, tls.client_key_file, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    raise ssl.SSLError("the client key is encrypted; give one that is not, readable by the gateway alone")
