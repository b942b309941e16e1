"""The passwords and tokens of the settings, as known secrets. Apart from known_secrets.py, which the parent of `serve`
imports without pydantic."""

from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from platform_app.config import Settings
from platform_app.observability.logs.known_secrets import hide_secret


def hide_secrets_of(settings: Settings) -> None:
    """Mask the passwords and tokens that the settings contain."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            _hide_setting(value.get_secret_value())


def _hide_setting(value: str) -> None:
    if "://" not in value:
        hide_secret(value)
        return
    # The whole URL is not masked: a message about an address without its password helps.
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password is not None:
        hide_secret(password)
        hide_secret(unquote(password))
