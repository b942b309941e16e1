"""Certificate files: what is wrong is said at start and at a reload, with the file's name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from platform_app.config import ProviderConfig, load_settings
from platform_app.config.connections.tls_files import ca_problem, certificate_problem
from platform_app.errors import ConfigurationError
from tests.support.servers.network.tls.certificates import Authority

URLS = {"database_url": "postgresql://fb:x@db/platform", "redis_url": "rediss://:x@redis:6379/0"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A certificate, its key, and the CA's certificate."""
    authority = Authority()
    return (*authority.issue(tmp_path, "client"), authority.write(tmp_path / "ca.pem"))


def test_good_files_have_no_problem(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    certificate, key, ca = files
    assert ca_problem(ca) is None
    assert certificate_problem(certificate, key) is None
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert certificate_problem(both, None) is None


def test_files_that_cannot_be_used_are_named(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    certificate, key, ca = files
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    other = Authority().issue(tmp_path, "other")[1]
    for problem, named in (
        (ca_problem(missing), missing),
        (ca_problem(text), text),
        (ca_problem(tmp_path), tmp_path),
        (certificate_problem(missing, key), missing),
        (certificate_problem(certificate, missing), missing),
        (certificate_problem(certificate, None), certificate),
        (certificate_problem(certificate, other), other),
        (certificate_problem(text, key), text),
    ):
        assert problem is not None
        assert str(named) in problem
    assert ca_problem(ca) is None


def test_provider_says_what_is_wrong_with_its_certificate(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    certificate, key, _ = files
    good = {"base_url": "https://x/v1", "client_cert_file": str(certificate), "client_key_file": str(key)}
    assert ProviderConfig.model_validate(good).client_cert_file == certificate
    for wrong, words in (
        ({"base_url": "http://x/v1"}, "client_cert_file: needs a base_url with https://"),
        ({"client_cert_file": None}, "client_key_file: is the key of client_cert_file, which is missing"),
        ({"client_cert_file": str(tmp_path / "gone.pem")}, "gone.pem cannot be read"),
        ({"client_key_file": None}, "are not a PEM certificate with its private key"),
    ):
        with pytest.raises(ValidationError, match=words):
            ProviderConfig.model_validate({**good, **wrong})


def test_ca_bundle_is_checked_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**URLS, ca_bundle=str(tmp_path / "gone.pem"))
    [problem] = caught.value.problems
    assert problem.startswith("PLATFORM_CA_BUNDLE: ")
    assert "gone.pem cannot be read" in problem
