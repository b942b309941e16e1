"""Vault's credentials: text that cannot be sent in a header is refused with a sentence, before a connection."""

import ssl
from pathlib import Path

import pytest

from platform_app.config import load_settings
from platform_app.errors import ConfigurationError, SecretStoreUnavailable
from platform_app.secret_store.configured import configured_store
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import AppRoleLogin, Credential, KubernetesLogin, TokenLogin

UNUSABLE = [
    ("\ufeffhvs.canary", "starts with a byte order mark"),
    ("\u201chvs.canary\u201d", "has a character that is not ASCII (number 1)"),
    ('"hvs.canary"', "is in quotes"),
    ("hvs.canary\nsecond", "has 2 lines"),
    ("Token hvs.canary", "has a space in it"),
    ("hvs.canary\x00", "has a control character"),
]


async def problem_of(login: TokenLogin | AppRoleLogin | KubernetesLogin) -> str:
    http = VaultHttp("http://127.0.0.1:9", None, ssl.create_default_context())
    with pytest.raises(SecretStoreUnavailable) as caught:
        await login.log_in(http)
    await http.aclose()
    assert "canary" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("text", "words"), UNUSABLE)
async def test_unusable_token_is_described(tmp_path: Path, text: str, words: str) -> None:
    (path := tmp_path / "token").write_text(text)
    variable = await problem_of(TokenLogin(Credential("PLATFORM_VAULT_TOKEN", text)))
    assert variable.startswith(f"PLATFORM_VAULT_TOKEN {words}")
    credential = Credential("PLATFORM_VAULT_TOKEN_FILE", file=path)
    assert f"PLATFORM_VAULT_TOKEN_FILE ({path}) {words}" in await problem_of(TokenLogin(credential))
    assert words in await problem_of(KubernetesLogin("kubernetes", "role", credential))


async def test_secret_id_in_quotes_is_described() -> None:
    """Other characters are Vault's to judge: a secret id of the operator's own travels in a body."""
    problem = await problem_of(AppRoleLogin("approle", "role", Credential("PLATFORM_VAULT_SECRET_ID", "'canary'")))
    assert problem.startswith("PLATFORM_VAULT_SECRET_ID is in quotes")


@pytest.mark.usefixtures("bare_environment")
def test_address_that_the_client_does_not_accept_is_named() -> None:
    settings = load_settings(
        database_url="postgresql://localhost/p", redis_url="redis://localhost",
        vault_addr="https://\u2603.example", vault_token="x", secret_provider="vault",
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="PLATFORM_VAULT_ADDR"):
        configured_store(settings, {})
