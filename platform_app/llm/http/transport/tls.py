"""TLS to providers: whom we trust, and as whom we come."""

import ssl
from pathlib import Path
from typing import NamedTuple

from platform_app.observability.logging import get_logger

_log = get_logger("provider")


class ClientCertificate(NamedTuple):
    """Files in PEM form. Part of an address: connections of different certificates are different connections."""

    certificate: str
    key: str | None = None
    """None: the certificate's file holds it too."""


class TlsContexts:
    """One context for each client certificate, and one for none. Certificates' files are read again when they changed,
    as certificates that live for days are renewed in place; CAs are read once."""

    def __init__(self, ca_bundle: Path | None = None, plain: ssl.SSLContext | None = None) -> None:
        """`ca_bundle`: CAs to trust beside OpenSSL's default store, which SSL_CERT_FILE and SSL_CERT_DIR choose.
        `plain`: the context for connections without a certificate, for tests."""
        self._ca_bundle = ca_bundle
        self._plain = plain or self._make()
        self._known: dict[ClientCertificate, tuple[tuple[float, ...], ssl.SSLContext]] = {}

    def context(self, client: ClientCertificate | None) -> ssl.SSLContext:
        """For a new connection.

        Raises:
            OSError: the certificate cannot be used, and there is no former one.
        """
        if client is None:
            return self._plain
        known = self._known.get(client)
        try:
            changed = tuple(Path(path).stat().st_mtime for path in client if path is not None)
            if known is None or known[0] != changed:
                made = self._make()
                made.load_cert_chain(client.certificate, client.key, password=lambda: "")
                known = self._known[client] = (changed, made)
        except (OSError, ValueError) as error:  # half of a renewal, perhaps: the former one serves
            if known is None:
                raise OSError("the client certificate cannot be used") from error
            _log.warning("provider_client_certificate_stale", file=client.certificate, error=type(error).__name__)
        return known[1]

    def _make(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_bundle is not None:
            context.load_verify_locations(cafile=self._ca_bundle)
        context.set_alpn_protocols(["http/1.1"])
        return context
