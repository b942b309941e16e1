"""The passwords and tokens of the settings, as known secrets. Apart from known_secrets.py, which the parent of `serve`
imports without pydantic."""

from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

from pydantic import SecretStr

from platform_app.config import Settings
from platform_app.config.reading.values import may_be_secret
from platform_app.observability.logs.known_secrets import hide_secret


def hide_secrets_of(settings: Settings) -> None:
    """Mask the passwords and tokens that the settings contain."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            for secret in _secrets_of(value.get_secret_value()):
                hide_secret(secret)
    if settings.database.password is not None:
        hide_secret(settings.database.password)


def _secrets_of(value: str) -> Iterator[str]:
    """Yield the value, or of a URL the passwords in it, as written and decoded. The whole URL is not masked: a message
    about an address without its password helps."""
    _, separator, rest = value.partition("://")
    if not separator:
        # The URL of a proxy may lack the scheme.
        yield from (value, *_both_forms(_password_before_host(value)))
        return
    # Found without a parser: each parser refuses or accepts other characters in a password.
    place, _, query = rest.partition("?")
    yield from _both_forms(_password_before_host(place))
    for part in query.split("&"):
        name, _, written = part.partition("=")
        if may_be_secret(unquote(name)):
            yield from (*_both_forms(written), *(text for _, text in parse_qsl(part)))


def _password_before_host(place: str) -> str:
    return place.rpartition("@")[0].partition(":")[2]


def _both_forms(written: str) -> tuple[str, str]:
    return written, unquote(written)
