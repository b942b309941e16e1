"""Values of secrets that this process has read are masked, whatever their form."""

import logging
from urllib.parse import quote

import pytest

from platform_app.config import load_settings
from platform_app.observability.logging import get_logger
from platform_app.observability.logs import known_secrets
from platform_app.observability.logs.known_secrets import MAX_VALUES, hide_secret, mask_known_secrets
from platform_app.observability.logs.secret_settings import hide_secrets_of
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.env import EnvSecretStore
from tests.support.fakes.log_lines import Lines

PEPPER = "c0ffee5d8c2f6ab1904e37"


@pytest.fixture(autouse=True)
def none_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_secrets, "_values", {})
    monkeypatch.setattr(known_secrets, "_pattern", None)


def test_known_secret_is_masked_in_every_field(lines: Lines) -> None:
    hide_secret(PEPPER)
    get_logger("auth").info(f"event {PEPPER}", **{f"x{PEPPER}": [PEPPER]})
    logging.getLogger("library").warning("it said %s", PEPPER)
    assert lines.raw[0].count(b"[masked]") == 3
    assert lines.all[1]["event"] == "it said [masked]"


@pytest.mark.parametrize("value", ['qu"ote\\back/slash', "umlaut-ü-secret", "space and more", "per%cent@secret"])
def test_known_secret_is_masked_in_its_written_forms(lines: Lines, value: str) -> None:
    hide_secret(value)
    get_logger("auth").info("event", plain=value, quoted=quote(value, safe=""))
    assert lines.last["plain"] == lines.last["quoted"] == "[masked]"


def test_each_pepper_of_a_list_is_masked() -> None:
    hide_secret(f"1:{PEPPER},2:{PEPPER[::-1]}")
    assert mask_known_secrets(f"{PEPPER} {PEPPER[::-1]}".encode()) == b"[masked] [masked]"


def test_short_value_is_not_masked() -> None:
    """It may be a word of other lines."""
    hide_secret("postgres")
    assert mask_known_secrets(b"postgres") == b"postgres"


def test_known_secrets_are_bounded() -> None:
    for number in range(MAX_VALUES * 2):
        hide_secret(f"secret-value-{number}")
    assert len(known_secrets._values) <= MAX_VALUES
    assert mask_known_secrets(f"secret-value-{MAX_VALUES * 2 - 1}".encode()) == b"[masked]"


def test_password_of_a_store_is_masked_and_its_address_is_not() -> None:
    settings = load_settings(
        database_url="postgresql://gateway:p%40ssw0rd-of-db@db.example/platform?sslmode=disable",
        redis_url="rediss://:redis-password@redis.example/0",
    )
    hide_secrets_of(settings)
    line = b"gateway p@ssw0rd-of-db p%40ssw0rd-of-db redis-password db.example"
    assert mask_known_secrets(line) == b"gateway [masked] [masked] [masked] db.example"


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"database_url": "postgresql://gw:raw[pass]word@localhost/p"}, ["raw[pass]word"]),
        ({"database_url": "postgresql://gw:raw%5Bpass]word@localhost/p"}, ["raw[pass]word", "raw%5Bpass]word"]),
        ({"database_url": "postgresql://gw@localhost/p?password=query%40password"}, ["query@password"]),
        ({"database_url": "postgresql://localhost/p?host=localhost&password=query+password"}, ["query+password"]),
        ({"redis_url": "redis://localhost?password=query%20password"}, ["query password", "query%20password"]),
        ({"redis_url": "redis://localhost?db=1&password=query+password"}, ["query password", "query+password"]),
        ({"idempotency_redis_url": "redis://localhost?password=query-password"}, ["query-password"]),
        ({"egress_proxy": "gw:proxy-password@proxy.example:3128"}, ["proxy-password"]),
    ],
)
def test_password_is_masked_wherever_its_url_has_it(fields: dict[str, str], written: list[str]) -> None:
    urls = {"database_url": "postgresql://localhost/p", "redis_url": "redis://localhost", **fields}
    hide_secrets_of(load_settings(**urls))
    for text in written:
        assert mask_known_secrets(f"before {text} localhost proxy.example".encode()) == (
            b"before [masked] localhost proxy.example"
        )


async def test_value_of_the_secret_store_is_masked() -> None:
    store = CachedSecretStore(EnvSecretStore({"AZURE_KEY": PEPPER}), ttl_seconds=60)
    await store.get("AZURE_KEY")
    await store.aclose()
    assert mask_known_secrets(PEPPER.encode()) == b"[masked]"
