"""Certificates for servers that tests start."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A CA of a test's own."""

    name: str = "a test's CA"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def certificate(self) -> x509.Certificate:
        """Its own certificate."""
        name = _named(self.name)
        return (
            _builder(name, name, self.key.public_key(), 5)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)  # Python 3.13 asks for it
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def write(self, path: Path) -> Path:
        """Write its certificate; the path."""
        path.write_bytes(self.certificate().public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, directory: Path, *names: str, minutes: int = 5, client: str = "a server") -> tuple[Path, Path]:
        """Files of a certificate for these host names or addresses, and of its key. It is valid from ten minutes ago
        until in so many minutes; negative ones make an expired certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            _builder(_named(client), _named(self.name), key.public_key(), minutes)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        number = x509.random_serial_number()
        files = directory / f"leaf-{number}.pem", directory / f"leaf-{number}.key"
        files[0].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        files[1].touch(mode=0o600)
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def self_made(directory: Path) -> tuple[Path, Path, Path]:
    """Files of a certificate for 127.0.0.1, its key, and the CA that signed it; all for five minutes."""
    authority = Authority()
    return (*authority.issue(directory, "127.0.0.1"), authority.write(directory / "ca.pem"))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, minutes: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + timedelta(minutes=minutes))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
