"""TLS to PostgreSQL: libpq's modes. The default is verify-full for a server on another machine."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
MODES: tuple[str, ...] = get_args(SslMode)
SYSTEM = "system"
"""The value of sslrootcert that names the system's CAs."""
_OPTIONAL = ("disable", "allow", "prefer")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_VERSIONS = MappingProxyType({"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3})
_ALPN = ["postgresql"]  # servers refuse direct TLS without it


@dataclass(frozen=True, slots=True)
class DatabaseTls:
    """How a connection is encrypted and the server verified. Unix sockets use no TLS."""

    mode: SslMode
    root_file: str | None = None
    """The CAs to trust; None: the system's, where the mode verifies."""
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    revocation_file: str | None = None
    minimum: str = "TLSv1.2"
    maximum: str | None = None
    direct: bool = False
    """Start with the TLS handshake, without an SSLRequest first (PostgreSQL 17 and newer)."""

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate must come from a trusted CA. As with libpq, `require` with a CA file
        does so too."""
        return self.mode in ("verify-ca", "verify-full") or (self.mode == "require" and self.root_file is not None)


def tls_from(parameters: Mapping[str, str], local: bool, ca_file: Path | None) -> tuple[DatabaseTls, tuple[str, ...]]:
    """Return the TLS settings of a URL's parameters, and one line for each problem."""
    root = parameters.get("sslrootcert") or (str(ca_file) if ca_file else None)
    asks_for_tls = root is not None or "sslcert" in parameters or "sslnegotiation" in parameters
    mode = parameters.get("sslmode") or ("prefer" if local and not asks_for_tls else "verify-full")
    tls = DatabaseTls(
        mode=cast("SslMode", mode),
        root_file=None if root == SYSTEM else root,
        certificate_file=parameters.get("sslcert"),
        key_file=parameters.get("sslkey"),
        key_password=parameters.get("sslpassword"),
        revocation_file=parameters.get("sslcrl"),
        minimum=parameters.get("ssl_min_protocol_version", "TLSv1.2"),
        maximum=parameters.get("ssl_max_protocol_version"),
        direct=parameters.get("sslnegotiation") == "direct",
    )
    problems = [*_wrong_values(tls, parameters), *_contradictions(tls, parameters)]
    return tls, tuple(problems or _unusable_files(tls))


def make_ssl_context(tls: DatabaseTls) -> ssl.SSLContext:
    """Return the context for a mode from `require` on, and read its files.

    Raises:
        OSError: a file cannot be read, or does not hold what it should (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.minimum]
    if tls.maximum is not None:
        context.maximum_version = _VERSIONS[tls.maximum]
    context.check_hostname = tls.mode == "verify-full"
    if not tls.verifies:
        context.verify_mode = ssl.CERT_NONE
    elif tls.root_file is not None:
        context.load_verify_locations(cafile=tls.root_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.revocation_file is not None:
        context.load_verify_locations(cafile=tls.revocation_file)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    if tls.certificate_file is not None:
        # Without a password here, OpenSSL would prompt for one on the terminal.
        context.load_cert_chain(tls.certificate_file, tls.key_file, password=lambda: tls.key_password or "")
    context.set_alpn_protocols(_ALPN)
    return context


def _wrong_values(tls: DatabaseTls, parameters: Mapping[str, str]) -> list[str]:
    problems = []
    if tls.mode not in MODES:
        problems.append(f"sslmode must be one of {', '.join(MODES)}")
    if parameters.get("sslnegotiation", "postgres") not in ("postgres", "direct"):
        problems.append("sslnegotiation must be postgres or direct")
    for name, version in (("ssl_min_protocol_version", tls.minimum), ("ssl_max_protocol_version", tls.maximum)):
        if version is not None and version not in _VERSIONS:
            problems.append(f"{name} must be one of {', '.join(_VERSIONS)}")
    if tls.maximum == "TLSv1.2" and tls.minimum == "TLSv1.3":
        problems.append("ssl_min_protocol_version is above ssl_max_protocol_version")
    return problems


def _contradictions(tls: DatabaseTls, parameters: Mapping[str, str]) -> list[str]:
    problems = []
    if tls.mode in _OPTIONAL:
        problems += [
            f"{name} has no effect with this sslmode; write sslmode=verify-full, or remove {name}"
            for name in _FILES
            if name in parameters
        ]
        if tls.direct:
            problems.append("sslnegotiation=direct needs sslmode=require or stronger")
    if parameters.get("sslrootcert") == SYSTEM and tls.mode != "verify-full":
        problems.append(
            "sslrootcert=system needs sslmode=verify-full: every server can have a certificate of a public CA"
        )
    elif tls.mode == "verify-ca" and tls.root_file is None:
        problems.append(
            "sslmode=verify-ca needs sslrootcert or PLATFORM_DATABASE_CA_FILE: every server can have a "
            "certificate of a public CA"
        )
    if tls.certificate_file is None and (tls.key_file is not None or tls.key_password is not None):
        problems.append("sslkey and sslpassword need sslcert")
    return problems


def _unusable_files(tls: DatabaseTls) -> list[str]:
    """Return one line for each file that cannot be read or has the wrong content."""
    named = {
        "sslrootcert (or PLATFORM_DATABASE_CA_FILE)": tls.root_file if tls.verifies else None,
        "sslcert": tls.certificate_file,
        "sslkey": tls.key_file,
        "sslcrl": tls.revocation_file,
    }
    files = {name: path for name, path in named.items() if path is not None}
    problems = [f"{name}: the file cannot be read" for name, path in files.items() if not _readable(path)]
    if files and not problems:
        try:
            make_ssl_context(tls)
        except OSError as error:
            # The message may contain a path; the reason is a constant of OpenSSL.
            reason = getattr(error, "reason", None) or type(error).__name__
            problems.append(f"{', '.join(files)}: OpenSSL does not accept the files ({reason})")
    return problems


def _readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except (OSError, ValueError):
        return False
