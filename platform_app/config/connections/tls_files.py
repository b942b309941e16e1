"""Files with certificates for connections to providers: whether they can be used, said before one is needed."""

import ssl
from pathlib import Path

UNENCRYPTED = "expected a key without a passphrase, readable by this process alone"


def ca_problem(path: Path) -> str | None:
    """What is wrong with a file of CA certificates; None: it can be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificates in PEM form; expected those of the CAs to trust"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; check the path"
    return None


def certificate_problem(certificate: Path, key: Path | None) -> str | None:
    """What is wrong with the files of a client certificate and its key; None: they can be used."""
    for path in (certificate, key):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}; check the path"
    try:
        # Without a function for the passphrase OpenSSL would ask the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        where = f"{certificate} and {key}" if key else str(certificate)
        return f"{where} are no PEM certificate with its private key; {UNENCRYPTED}"
    return None
