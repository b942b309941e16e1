"""Settings of the secret stores: which one is used, and what each of them needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from platform_app.config.fields import FilePath, HttpUrl

_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PathPart = Annotated[str, StringConstraints(pattern=rf"^{_PART}(/{_PART})*/?$", max_length=200)]


class SecretStoreSettings(BaseSettings):
    """A part of `Settings`: each field stands for a variable with the prefix `PLATFORM_`."""

    secret_file_dir: FilePath | None = None

    vault_addr: HttpUrl | None = None
    vault_mount: _PathPart = "secret"
    vault_path_prefix: _PathPart | None = None
    vault_namespace: _PathPart | None = None
    vault_ca_file: FilePath | None = None
    vault_auth: Literal["token", "approle", "kubernetes"] = "token"
    vault_auth_mount: _PathPart | None = None
    vault_token: SecretStr | None = None
    vault_token_file: FilePath | None = None
    vault_role_id: SecretStr | None = None
    vault_secret_id: SecretStr | None = None
    vault_secret_id_file: FilePath | None = None
    vault_role: str | None = None
    vault_kubernetes_token_file: FilePath = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

    aws_region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$", max_length=50)] | None = None
    aws_endpoint_url: HttpUrl | None = None
    aws_secret_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_+=.@-]*$", max_length=200)] = ""

    # After the fields that the stores need: a validator sees only the fields before its own.
    secret_provider: Literal["env", "file", "vault", "aws"] = "env"  # noqa: S105 - the name of a store
    secret_ttl_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0

    @field_validator("secret_provider")
    @classmethod
    def _has_what_it_needs(cls, value: str, info: ValidationInfo) -> str:
        if lacking := _lacking(value, info.data):
            raise ValueError(f"the store '{value}' also needs {', '.join(lacking)}; see docs/configuration.md")
        return value


def _lacking(store: str, given: Mapping[str, Any]) -> list[str]:
    """Return the variables that this store needs and that are not set. A wrong value is reported separately."""

    def missing(*names: str) -> bool:
        return all(name in given and given[name] is None for name in names)

    needed: list[tuple[str, ...]] = []
    match store, given.get("vault_auth"):
        case "file", _:
            needed = [("secret_file_dir",)]
        case "aws", _:
            needed = [("aws_region",)]
        case "vault", auth:
            needed = [("vault_addr",), *_VAULT_LOGIN_NEEDS.get(str(auth), [])]
    return [" or ".join(f"PLATFORM_{name.upper()}" for name in names) for names in needed if missing(*names)]


_VAULT_LOGIN_NEEDS: Mapping[str, list[tuple[str, ...]]] = {
    "token": [("vault_token", "vault_token_file")],
    "approle": [("vault_role_id",), ("vault_secret_id", "vault_secret_id_file")],
    "kubernetes": [("vault_role",)],
}
