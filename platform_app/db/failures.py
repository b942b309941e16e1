"""Why TLS to a store failed, in words that hold no address and no credential."""

import ssl
from collections.abc import Iterator
from types import MappingProxyType

# X509_V_ERR_…, https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_VERIFICATION = MappingProxyType(
    {
        3: "the revocation list of its CA is missing",
        9: "its certificate is not valid yet",
        10: "its certificate has expired",
        12: "the revocation list of its CA has expired",
        18: "its certificate is self-signed and not among the trusted CAs",
        19: "its certificate comes from a CA that is not trusted",
        20: "its certificate comes from a CA that is not trusted",
        21: "its certificate comes from a CA that is not trusted",
        23: "its certificate is revoked",
        62: "its certificate is for another host name",
        64: "its certificate is for another address",
    }
)
_NO_TLS = "rejected SSL upgrade"  # asyncpg's words


def tls_failure(error: BaseException) -> str | None:
    """What is wrong with the server's TLS, or None if something else failed. Another attempt would fail too."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return _VERIFICATION.get(each.verify_code, "its certificate is not accepted")
        if isinstance(each, ssl.SSLError):
            return f"the TLS handshake failed ({each.reason or 'no reason given'})"
        if isinstance(each, ConnectionError) and _NO_TLS in str(each):
            return "it does not offer TLS"
    return None


def failure_kind(error: BaseException) -> str:
    """The failure in a few words: that of TLS, or the exception's class."""
    return tls_failure(error) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, SQLAlchemy's and redis-py's wrappers included."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
