"""Check certificate files for connections to providers at start, before the first connection needs them."""

import ssl
from pathlib import Path

UNENCRYPTED = "expected a key without a passphrase, readable by this process alone"


def ca_problem(path: Path) -> str | None:
    """Return what is wrong with a file of CA certificates, or None."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificates in PEM form; expected those of the CAs to trust"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; check the path"
    return None


def certificate_problem(certificate: Path, key: Path | None) -> str | None:
    """Return what is wrong with the files of a client certificate and its key, or None."""
    for path in (certificate, key):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}; check the path"
    try:
        # Without a passphrase callback OpenSSL would prompt on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        where = f"{certificate} and {key}" if key else str(certificate)
        return f"{where} are not a PEM certificate with its private key; {UNENCRYPTED}"
    return None
