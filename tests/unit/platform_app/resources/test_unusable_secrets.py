"""A pepper or a provider's credential that becomes unusable while the process runs."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from platform_app.config import load_settings
from platform_app.resources import _open_secrets

PEPPER, KEY = "PLATFORM_API_KEY_PEPPER", "OPENAI_API_KEY"
pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.mark.parametrize(
    ("name", "good", "unusable"),
    [
        (PEPPER, f"1:{'9f' * 16}", [f"1:{'9f' * 16},", "short", f'"{"9f" * 16}"', f"one:{'9f' * 16}"]),
        (KEY, "sk-canary", ["sk-canary\nsecond", '"sk-canary"', "\ufeffsk-canary"]),
    ],
)
async def test_last_good_secret_stays_in_use(tmp_path: Path, name: str, good: str, unusable: list[str]) -> None:
    settings = load_settings(
        database_url="postgresql://localhost/p", redis_url="redis://localhost",
        secret_provider="file", secret_file_dir=tmp_path,
    )  # fmt: skip
    path = tmp_path / name
    path.touch(0o600)
    path.write_text(good)
    for text in unusable:
        async with AsyncExitStack() as stack:
            secrets = _open_secrets(stack, settings)
            assert (await secrets.get(name)).value == good
            path.write_text(text)
            assert (await secrets.refresh(name, good)).value == good
            path.write_text(good)
