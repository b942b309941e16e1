"""The settings that a render gives to the gateway."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from platform_app.config import Settings, load_settings
from tests.support.deploy.manifests import Manifest, secret_keys, settings_of

VALUES = {
    "PLATFORM_DATABASE_URL": "postgresql://runtime:password@postgres.example/platform",
    "PLATFORM_REDIS_URL": "rediss://gateway:password@redis.example:6379/0",
}

LoadsSettings = Callable[[Sequence[Manifest]], Settings]


@pytest.fixture
def load_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadsSettings:
    """Load the settings as the gateway's container would: ConfigMaps as environment, the Secret as files."""
    for name in [name for name in os.environ if name.startswith("PLATFORM_")]:
        monkeypatch.delenv(name)
    for name in secret_keys()["flowbiz-platform"]:
        (tmp_path / name).write_text(VALUES.get(name, "a value"))
        (tmp_path / name).chmod(0o440)

    def load(manifests: Sequence[Manifest]) -> Settings:
        for name, value in settings_of(manifests).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PLATFORM_SECRET_FILE_DIR", str(tmp_path))
        return load_settings()

    return load
