"""When certificate files expire, compared with what the library that made them says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from platform_app.config import PlatformConfig, ProviderConfig, load_settings
from platform_app.resources.certificates import expiries, expiry_times

NOW = datetime(2026, 1, 1, tzinfo=UTC)


KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)  # fmt: skip


def certificate(expires: datetime, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), NOW, expires)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("days", [1, 365, 365 * 30], ids=["soon", "a year", "after 2050, in the other form of time"])
def test_expiry_is_that_of_the_certificate(tmp_path: Path, days: int) -> None:
    path, expires = tmp_path / "client.pem", NOW + timedelta(days=days)
    path.write_bytes(certificate(expires))
    assert expiry_times(path) == [expires.timestamp()]


def test_every_certificate_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    path.write_bytes(b"leaf\n" + certificate(NOW + timedelta(days=2)) + certificate(NOW + timedelta(days=1)))
    assert expiry_times(path) == [(NOW + timedelta(days=days)).timestamp() for days in (2, 1)]


@pytest.mark.parametrize(
    "content",
    [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "an empty sequence"],
)
def test_file_without_certificates_has_no_expiry(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pem"
    path.write_bytes(content)
    assert expiry_times(path) == []


def test_missing_file_has_no_expiry(tmp_path: Path) -> None:
    assert expiry_times(tmp_path / "gone.pem") == []


@pytest.mark.usefixtures("bare_environment")
def test_every_certificate_file_in_use_is_found(tmp_path: Path) -> None:
    """A file of CAs counts until its last certificate expires, a client certificate until its first one does."""
    names = ("database-ca", "database", "redis-ca", "redis", "idempotency-ca", "vault-ca", "bundle", "provider")
    paths = {name: tmp_path / f"{name}.pem" for name in names}
    for path in paths.values():
        path.write_bytes(KEY_PEM + certificate(NOW + timedelta(days=2)) + certificate(NOW + timedelta(days=1)))
    used = load_settings(
        database_url=f"postgresql://a:b@db/x?sslmode=verify-full&sslrootcert={paths['database-ca']}"
        f"&sslcert={paths['database']}&sslkey={paths['database']}",
        redis_url=f"rediss://r/0?ssl_ca_certs={paths['redis-ca']}&ssl_certfile={paths['redis']}",
        idempotency_redis_url=f"rediss://i/0?ssl_ca_certs={paths['idempotency-ca']}",
        vault_ca_file=paths["vault-ca"], ca_bundle=paths["bundle"],
    )  # fmt: skip
    provider = ProviderConfig.model_construct(base_url="https://p", client_cert_file=paths["provider"])
    config = PlatformConfig.model_construct(providers={"p": provider}, models={})
    found = expiries(used, config)
    shown = {"database", "redis", "provider"}
    assert found == {
        str(path): (NOW + timedelta(days=1 if name in shown else 2)).timestamp() for name, path in paths.items()
    }
