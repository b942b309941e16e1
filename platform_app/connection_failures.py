"""Why a connection to a server failed: the cause and the next step, without an address, a name or a credential.

`db/failures.py`, `redis/failures.py` and `llm/http/transport/failures.py` know the errors of their servers. This module
knows what they share: names, routes, refused and lost connections, timeouts and TLS.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
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
_NO_TLS = "rejected SSL upgrade"
"""In asyncpg's message for a server that refuses to use TLS."""
_PLAIN_TEXT = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""OpenSSL's reasons for bytes that are not TLS."""
_BY_CLASS = (
    (ConnectionRefusedError, errno.ECONNREFUSED),
    (ConnectionResetError, errno.ECONNRESET),
    (BrokenPipeError, errno.EPIPE),
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
)
_ERRNO = re.compile(r"\[Errno (\d+)\]")


@dataclass(frozen=True, slots=True)
class Failure:
    """The cause of a failure, and what the operator does next."""

    cause: str
    remedy: str
    passes: bool = True
    """Whether the same attempt may succeed later without a change of the configuration."""

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what caused it, through the wrappers of SQLAlchemy and redis-py."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):  # one for each address of a name
            error = error.exceptions[0]
        else:
            error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def tls_failure(error: BaseException) -> str | None:
    """Return what is wrong with the server's TLS, or None if something else failed. Another attempt would fail too."""
    for each in error_chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return _VERIFICATION.get(each.verify_code, "its certificate is not accepted")
        if isinstance(each, ssl.SSLError):
            if each.reason in _PLAIN_TEXT:
                return f"it does not use TLS on this port ({each.reason})"
            return f"the TLS handshake failed ({each.reason or 'no reason given'})"
        if isinstance(each, ConnectionError) and _NO_TLS in str(each):
            return "it does not offer TLS"
    return None


def network_failure(error: BaseException, setting: str) -> Failure | None:
    """Return the cause if the network failed; None if the server sent an error. `setting` names the server."""
    for each in error_chain(error):
        if isinstance(each, socket.gaierror):
            return Failure("its host name is not found", f"check the host in {setting}, and DNS")
        if isinstance(each, TimeoutError):
            return Failure(
                "it did not respond in time", f"check the host and the port in {setting}, firewalls, and its load"
            )
        if isinstance(each, OSError) and (found := _by_number(_number(each), setting)) is not None:
            return found
    return None


def server_failure(error: BaseException, setting: str, ca_setting: str) -> Failure:
    """Return why there was no response from a server that speaks HTTP. `setting` holds its address, `ca_setting` the
    CAs that are trusted for it."""
    if (problem := tls_failure(error)) is not None:
        if "TLS" in problem:
            return Failure(problem, f"check the scheme and the port in {setting}", passes=False)
        return Failure(problem, f"name its CA with {ca_setting}, and its certificate's host in {setting}", passes=False)
    return network_failure(error, setting) or lost(setting)


def _number(error: OSError) -> int | None:
    """Return the error's number. If each of several addresses failed, asyncio gives only a text with all of them."""
    if error.errno is not None:
        return error.errno
    for kind, number in _BY_CLASS:
        if isinstance(error, kind):
            return number
    found = _ERRNO.search(str(error))
    return int(found.group(1)) if found else None


def _by_number(number: int | None, setting: str) -> Failure | None:
    match number:
        case errno.ECONNREFUSED:
            return Failure(
                "it refuses connections", f"check that it runs, and that {setting} names its host and its port"
            )
        case errno.ENOENT:
            return Failure("its Unix socket does not exist", f"check that it runs, and the path in {setting}")
        case errno.EACCES | errno.EPERM:
            return Failure("the connection is not permitted", f"check the rights of the Unix socket in {setting}")
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return Failure("no route leads to it", f"check the host in {setting}, and the network")
        case errno.ETIMEDOUT:
            return Failure("it did not respond in time", f"check the host and the port in {setting}, and firewalls")
        case errno.EMFILE | errno.ENFILE:
            return Failure("this process has no free file descriptors", "raise its limit (ulimit -n, LimitNOFILE)")
        case errno.ECONNRESET | errno.EPIPE | errno.ECONNABORTED:
            return lost(setting)
    return None


def lost(setting: str) -> Failure:
    """Return the failure of a connection that the server closed."""
    return Failure(
        "it closed the connection", f"check its log, and whether it uses TLS on the port that {setting} names"
    )
