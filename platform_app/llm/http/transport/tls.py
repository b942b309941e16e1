"""TLS to providers: the trusted CAs and the client certificates."""

import ssl
from pathlib import Path
from typing import NamedTuple

from platform_app.config.reading.file_stamp import FileStamp, file_stamp
from platform_app.observability.logging import get_logger

_log = get_logger("provider")


class ClientCertificate(NamedTuple):
    """The files of a client certificate, in PEM form. It is part of an address: a connection is reused only with the
    same certificate."""

    certificate: str
    key: str | None = None
    """None if the certificate's file has the key too."""


class TlsContexts:
    """The TLS contexts: one for each client certificate, and one without. The files of client certificates are read
    again when they change, since short-lived certificates are renewed in place. CAs are read once."""

    def __init__(self, ca_bundle: Path | None = None, plain: ssl.SSLContext | None = None) -> None:
        """`ca_bundle`: CAs to trust in addition to OpenSSL's default store, which SSL_CERT_FILE and SSL_CERT_DIR
        choose. `plain`: the context for connections without a client certificate, for tests."""
        self._ca_bundle = ca_bundle
        self._plain = plain or self._make()
        self._known: dict[ClientCertificate, tuple[tuple[FileStamp, ...], ssl.SSLContext]] = {}

    def context(self, client: ClientCertificate | None) -> ssl.SSLContext:
        """Return the context for a new connection.

        Raises:
            OSError: the certificate cannot be used, and no previous one was loaded.
        """
        if client is None:
            return self._plain
        known = self._known.get(client)
        try:
            changed = tuple(map(file_stamp, client))
            if known is None or known[0] != changed:
                made = self._make()
                made.load_cert_chain(client.certificate, client.key, password=lambda: "")
                known = self._known[client] = (changed, made)
        except (OSError, ValueError) as error:  # possibly in the middle of a renewal: keep the previous one
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
