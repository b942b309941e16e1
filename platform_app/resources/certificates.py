"""When the certificate files of the settings and of the config file expire."""

import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from platform_app.config import PlatformConfig, Settings

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
_VERSION, _UTC_TIME, _SEQUENCE = 0xA0, 0x17, 0x30


def expiries(settings: Settings, config: PlatformConfig) -> Mapping[str, float]:
    """Return when each file expires, in seconds since 1970. A file that cannot be read is left out.

    A client certificate expires with the first certificate of its chain. A file of CAs expires with the last one, since
    operators add the next CA before the current one expires.
    """
    found: dict[str, float] = {}
    for path in _trusted(settings):
        if times := expiry_times(path):
            found[str(path)] = max(times)
    for path in _shown(settings, config):
        if times := expiry_times(path):
            found[str(path)] = min(times)
    return found


def _trusted(settings: Settings) -> Iterator[Path]:
    """Yield the files of CAs: those of settings, and those that a URL names."""
    named: list[Path | str | None] = [settings.database_ca_file, settings.redis_ca_file, settings.ca_bundle]
    named += [settings.vault_ca_file, settings.database.tls.root_file, *_in_redis_urls(settings, "ssl_ca_certs")]
    return (Path(path) for path in named if path is not None)


def _shown(settings: Settings, config: PlatformConfig) -> Iterator[Path]:
    """Yield the files of client certificates that the gateway shows to PostgreSQL, Redis and providers."""
    named: list[Path | str | None] = [settings.database.tls.certificate_file, *_in_redis_urls(settings, "ssl_certfile")]
    named += [provider.client_cert_file for provider in config.providers.values()]
    return (Path(path) for path in named if path is not None)


def _in_redis_urls(settings: Settings, option: str) -> Iterator[str]:
    for url in (settings.redis_client_url, settings.idempotency_client_url):
        yield from parse_qs(urlsplit(url).query).get(option, ())


def expiry_times(path: Path) -> list[float]:
    """Return when each certificate of a PEM file expires; none for a file that is not one."""
    try:
        blocks = _PEM.findall(path.read_bytes())
        return [_not_after(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))) for block in blocks]
    except (OSError, ValueError, IndexError):
        return []


def _not_after(certificate: bytes) -> float:
    """Return the end of validity of a DER certificate (RFC 5280, section 4.1). Python has no public reader of it."""
    _, certificate, _ = _element(certificate)
    _, fields, _ = _element(certificate)
    kind, _, after = _element(fields)
    if kind == _VERSION:  # optional
        kind, _, after = _element(after)
    for _ in range(2):  # the signature's algorithm, the issuer
        kind, _, after = _element(after)
    kind, validity, _ = _element(after)
    if kind != _SEQUENCE:
        raise ValueError("not a certificate")
    _, _, after = _element(validity)
    kind, text, _ = _element(after)
    # %y is 1969 to 2068, RFC 5280 has 1950 to 2049; no certificate in use is that old.
    layout = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), layout).replace(tzinfo=UTC).timestamp()


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first DER element, and the bytes after it."""
    length, start = data[1], 2
    if length >= 0x80:  # the low bits say how many bytes the length has
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + length], data[start + length :]
