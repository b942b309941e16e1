"""The secret store that the settings select: the settings that it requires, and that it shows no secret."""

from pathlib import Path
from typing import Any

import pytest

from platform_app.config import Settings, load_settings
from platform_app.errors import ConfigurationError
from platform_app.secret_store.configured import LOCAL_REFRESH_SECONDS, configured_store, refresh_seconds

pytestmark = pytest.mark.usefixtures("bare_environment")

VAULT: dict[str, Any] = {"secret_provider": "vault", "vault_addr": "https://vault.example:8200"}
COMPLETE: dict[str, dict[str, Any]] = {
    "env": {},
    "file": {"secret_file_dir": "/run/secrets"},
    "vault": {**VAULT, "vault_token": "canary"},
    "vault approle": {**VAULT, "vault_auth": "approle", "vault_role_id": "canary", "vault_secret_id": "canary"},
    "vault kubernetes": {**VAULT, "vault_auth": "kubernetes", "vault_role": "platform"},
    "aws": {"aws_region": "eu-central-1"},
}


def settings(**fields: Any) -> Settings:
    return load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost", **fields)


@pytest.mark.parametrize("kind", sorted(COMPLETE))
async def test_configured_store_contains_no_secret_in_its_repr(kind: str) -> None:
    chosen = settings(**{"secret_provider": kind.split()[0], **COMPLETE[kind]})
    store = configured_store(chosen, {})
    assert store.scheme == kind.split()[0]
    shown = f"{chosen!r} {chosen.model_dump()} {store!r} {vars(store)}"
    if kind.startswith("vault"):
        shown += repr(vars(vars(store)["_token"]))
    assert "canary" not in shown
    await store.aclose()


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"secret_provider": "file"}, ["PLATFORM_SECRET_FILE_DIR"]),
        ({"secret_provider": "aws"}, ["PLATFORM_AWS_REGION"]),
        (
            {"secret_provider": "vault"},
            ["PLATFORM_VAULT_ADDR", "PLATFORM_VAULT_TOKEN or PLATFORM_VAULT_TOKEN_FILE"],
        ),
        (
            {"secret_provider": "vault", "vault_auth": "approle"},
            [
                "PLATFORM_VAULT_ADDR",
                "PLATFORM_VAULT_ROLE_ID",
                "PLATFORM_VAULT_SECRET_ID or PLATFORM_VAULT_SECRET_ID_FILE",
            ],
        ),
        ({**VAULT, "vault_auth": "kubernetes"}, ["PLATFORM_VAULT_ROLE"]),
    ],
)
def test_settings_name_all_missing_store_settings(fields: dict[str, Any], lacking: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(**fields)
    (problem,) = caught.value.problems
    assert problem == (
        f"PLATFORM_SECRET_PROVIDER: the store '{fields['secret_provider']}' also needs {', '.join(lacking)}; "
        "see docs/configuration.md"
    )


def test_settings_report_store_problems_with_all_others() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(secret_provider="vault", vault_addr="vault.example", vault_mount="../sys", port=0)
    assert sorted(problem.partition(":")[0] for problem in caught.value.problems) == [
        "PLATFORM_DATABASE_URL",
        "PLATFORM_PORT",
        "PLATFORM_REDIS_URL",
        "PLATFORM_SECRET_PROVIDER",
        "PLATFORM_VAULT_ADDR",
        "PLATFORM_VAULT_MOUNT",
    ]
    (needs,) = [problem for problem in caught.value.problems if problem.startswith("PLATFORM_SECRET_PROVIDER")]
    assert "PLATFORM_VAULT_ADDR" not in needs, "it is set, and wrong"


def test_settings_refuse_an_unknown_store() -> None:
    with pytest.raises(ConfigurationError, match="PLATFORM_SECRET_PROVIDER"):
        settings(secret_provider="gcp")


@pytest.mark.parametrize("kind", ["env", "file"])
def test_local_store_is_refreshed_every_second(kind: str) -> None:
    assert refresh_seconds(settings(secret_provider=kind, **COMPLETE[kind])) == LOCAL_REFRESH_SECONDS


def test_remote_store_is_refreshed_by_the_cache_ttl(tmp_path: Path) -> None:
    assert refresh_seconds(settings(**COMPLETE["vault"])) is None
