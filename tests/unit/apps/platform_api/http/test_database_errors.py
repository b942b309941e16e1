"""A database that is unavailable, as a client of a management route sees it."""

import pytest

from apps.platform_api.http.errors import database_errors
from platform_app.errors import AuthUnavailable


@pytest.mark.parametrize(("arguments", "named"), [((), "key store"), (("usage database",), "usage database")])
async def test_outage_names_what_cannot_be_read(arguments: tuple[str, ...], named: str) -> None:
    """A usage read does not blame the key store."""
    with pytest.raises(AuthUnavailable) as caught:
        async with database_errors(*arguments):
            raise ConnectionRefusedError
    assert caught.value.message == f"The {named} is unavailable. Try again shortly."
