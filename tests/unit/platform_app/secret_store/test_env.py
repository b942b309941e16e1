"""Secrets from the environment."""

import pytest

from platform_app.errors import SecretNotFound
from platform_app.secret_store.base import Secret
from platform_app.secret_store.env import EnvSecretStore


async def test_env_store_strips_white_space() -> None:
    secret = await EnvSecretStore({"KEY": " sk-1 2 \n"}).get("KEY")
    assert secret == Secret("KEY", "sk-1 2")


async def test_env_store_returns_a_changed_variable() -> None:
    environment = {"KEY": "old"}
    store = EnvSecretStore(environment)
    environment["KEY"] = "new"
    assert (await store.get("KEY")).value == "new"


@pytest.mark.parametrize("environment", [{}, {"KEY": ""}, {"KEY": " \t\n"}, {"key": "sk-other-case"}])
async def test_env_store_names_missing_variable_and_remedy(environment: dict[str, str]) -> None:
    with pytest.raises(SecretNotFound, match=r"^the environment variable KEY is not set or empty; set it"):
        await EnvSecretStore(environment).get("KEY")


def test_secret_repr_shows_only_its_name() -> None:
    assert repr(Secret("KEY", "sk-123")) == "Secret(name='KEY')"
    assert "sk-123" not in f"{Secret('KEY', 'sk-123')}"
