"""Settings that are secrets, read from files in `PLATFORM_SECRET_FILE_DIR`."""

from pathlib import Path

import pytest

from platform_app.config import load_settings
from platform_app.errors import ConfigurationError

DATABASE_URL = "postgresql://gateway:hidden-word@localhost/platform"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of secrets with both URLs, and no such variable in the environment."""
    monkeypatch.setenv("PLATFORM_SECRET_FILE_DIR", str(tmp_path))
    for name in ("PLATFORM_DATABASE_URL", "PLATFORM_REDIS_URL", "PLATFORM_EGRESS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path / "PLATFORM_DATABASE_URL", f"{DATABASE_URL}\n")
    write(tmp_path / "PLATFORM_REDIS_URL", "redis://localhost")
    return tmp_path


def write(path: Path, text: str, mode: int = 0o440) -> None:
    """Write a file with this mode."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def problems() -> list[str]:
    """Return the problems of the configuration."""
    with pytest.raises(ConfigurationError) as failure:
        load_settings()
    return failure.value.problems


def test_settings_are_read_from_files(directory: Path) -> None:
    write(directory / "PLATFORM_EGRESS_PROXY", "http://proxy.example:3128")
    settings = load_settings()
    assert settings.database.password == "hidden-word"
    assert settings.redis_url.get_secret_value() == "redis://localhost"
    assert settings.egress_proxy is not None


def test_file_through_links_of_kubernetes_is_read(directory: Path) -> None:
    """Kubernetes mounts each name as a link through `..data`, which it swaps."""
    (directory / "..2026").mkdir()
    (directory / "PLATFORM_DATABASE_URL").rename(directory / "..2026/PLATFORM_DATABASE_URL")
    (directory / "..data").symlink_to("..2026")
    (directory / "PLATFORM_DATABASE_URL").symlink_to("..data/PLATFORM_DATABASE_URL")
    assert load_settings().database.password == "hidden-word"


def test_variable_and_file_together_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_DATABASE_URL", DATABASE_URL)
    (line,) = problems()
    assert line.startswith("PLATFORM_DATABASE_URL: is set, and there is a file ")


def test_empty_variable_beside_a_file_is_ignored(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_DATABASE_URL", "")
    assert load_settings().database.password == "hidden-word"


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (DATABASE_URL, 0o444, "can be read or written by every user"),
        ("\n", 0o440, "is empty"),
        (DATABASE_URL.replace("localhost", "localhost:port"), 0o440, "PLATFORM_DATABASE_URL: "),
    ],
)
def test_unusable_file_is_one_problem(directory: Path, text: str, mode: int, expected: str) -> None:
    write(directory / "PLATFORM_DATABASE_URL", text, mode)
    (line,) = problems()
    assert line.startswith("PLATFORM_DATABASE_URL: ")
    assert expected in line
    assert "hidden-word" not in line


def test_link_out_of_the_directory_is_refused(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "url"
    write(outside, DATABASE_URL)
    (directory / "PLATFORM_DATABASE_URL").unlink()
    (directory / "PLATFORM_DATABASE_URL").symlink_to(outside)
    (line,) = problems()
    assert "is a link to a place outside" in line


def test_settings_that_are_no_secrets_are_not_read(directory: Path) -> None:
    write(directory / "PLATFORM_PORT", "9999")
    assert load_settings().port == 8100
