"""The gateway's environment and config file in `dev`; keys and pepper are kept from the last run."""

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from apps.platform_cli.dev.address import Address
from apps.platform_cli.dev.console import say, shown_path
from apps.platform_cli.dev.files import (
    SIMULATED_KEY_PREFIX,
    Catalog,
    first_model,
    new_simulated_key,
    read_env,
    real_openai_key,
    write_env,
)
from apps.platform_cli.dev.keys import ensure_dev_keys
from apps.platform_cli.dev.paths import DevPaths
from apps.platform_cli.embedded.private_file import replace_private
from platform_app.auth.pepper import parse_peppers
from platform_app.errors import SecretError

_PEPPER = "PLATFORM_API_KEY_PEPPER"


def own_config_file(paths: DevPaths, environ: Mapping[str, str]) -> Path | None:
    """Return the config file that the user chose, or None for the one that `dev` writes and a sourced dev.env names."""
    name = environ.get("PLATFORM_CONFIG_FILE")
    if not name or Path(name).resolve() == paths.config.resolve():
        return None
    return Path(name).absolute()


def write_environment(
    paths: DevPaths,
    address: Address,
    database_url: str,
    redis_url: str,
    catalog: Catalog,
    own_config: Path | None,
    prometheus_url: str | None = None,
) -> dict[str, str]:
    """Write dev.env and platform.yaml. Return the gateway's variables, secrets and keys included."""
    remembered = read_env(paths.env)
    chosen = os.environ.get("PLATFORM_DEFAULT_MODEL")
    if own_config is not None:
        default_model = chosen or first_model(own_config) or catalog.default_model
    else:
        default_model = chosen if chosen and chosen in catalog.models else catalog.default_model
        replace_private(paths.config, catalog.to_yaml())
    values = {
        "PLATFORM_BASE_URL": address.base_url,
        "PLATFORM_METRICS_URL": address.metrics_url,
        **({"PLATFORM_PROMETHEUS_URL": prometheus_url} if prometheus_url else {}),
        "PLATFORM_ENV": "dev",
        "PLATFORM_HOST": address.host,
        "PLATFORM_PORT": str(address.port),
        "PLATFORM_METRICS_PORT": str(address.metrics_port),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_REDIS_URL": redis_url,
        "PLATFORM_CONFIG_FILE": str(own_config or paths.config),
        "PLATFORM_DEFAULT_MODEL": default_model,
        # In the database's directory, because the records of a spool belong to one database.
        "PLATFORM_SPOOL_DIR": str((paths.root / "spool").absolute()),
        "PLATFORM_SECRET_PROVIDER": "env",
        _PEPPER: _pepper(remembered),
    }
    comments = [
        "Written by `flowbiz-platform dev` at every start and read by the next; without it new keys are created.",
        f"Use it: set -a; . {shlex.quote(str(paths.env))}; set +a",
    ]
    if real_openai_key(os.environ):
        comments.append("OPENAI_API_KEY is that of the shell that ran `dev`; it is not stored here.")
    else:
        old = remembered.get("OPENAI_API_KEY", "")
        values["OPENAI_API_KEY"] = old if old.startswith(SIMULATED_KEY_PREFIX) else new_simulated_key()
    values |= _keys(paths, values, remembered)
    write_env(paths.env, values, comments)
    return values


def _keys(paths: DevPaths, values: Mapping[str, str], remembered: Mapping[str, str]) -> dict[str, str]:
    """Return the two keys: those of the last run if the database still accepts them."""
    old = [remembered.get(name) or None for name in ("PLATFORM_ADMIN_KEY", "PLATFORM_CHAT_KEY")]
    new = ensure_dev_keys({**os.environ, **values}, *old)
    for what, before, now in zip(("admin", "chat"), old, new, strict=True):
        if before is not None and before != now:
            say(f"the {what} key in {shown_path(paths.env)} is not valid in this database; created a new one")
    return {"PLATFORM_ADMIN_KEY": new[0], "PLATFORM_CHAT_KEY": new[1]}


def _pepper(remembered: Mapping[str, str]) -> str:
    """Return the pepper of the last run if it is valid, else a new one."""
    text = remembered.get(_PEPPER, "")
    if text:
        try:
            parse_peppers(_PEPPER, text)
        except SecretError as error:
            say(f"{error}: created a new pepper")
        else:
            return text
    return f"1:{secrets.token_hex(32)}"
