"""The secrets of a rotated key, and the versions of the pepper."""

import asyncio
import hmac
from dataclasses import replace
from datetime import timedelta

import pytest

from platform_app.auth.authenticator import SecretPeppers
from platform_app.auth.keys.records import StoredSecret
from platform_app.auth.pepper import parse_peppers
from platform_app.auth.tokens import generate_token
from platform_app.errors import InvalidApiKey
from tests.support.auth.authenticator import ONE, TWO, CountingPeppers, World
from tests.support.fakes.core import FakeSecrets


async def test_both_secrets_of_rotated_key_are_accepted(world: World) -> None:
    old = world.add()
    new = generate_token("test", old.key_id)
    digest = world.peppers.peppers.digest(new.text)
    assert digest is not None
    stored = world.keys.stored[old.key_id]
    world.keys.stored[old.key_id] = replace(stored, secrets=(*stored.secrets, StoredSecret(digest, 1, None)))
    assert (await world.auth.authenticate(old.text)).key_id == old.key_id
    assert (await world.auth.authenticate(new.text)).key_id == old.key_id


async def test_rotated_secret_ends_with_its_grace_period(world: World) -> None:
    token = world.add(
        lambda record: replace(record, expires_at=world.today + timedelta(days=1)),
        not_after=world.today + timedelta(seconds=3),
    )
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=3)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_keys_of_all_live_peppers_are_accepted(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    for version in (1, 2):
        token = world.add(version=version)
        assert (await world.auth.authenticate(token.text)).key_id == token.key_id


async def test_digest_matches_only_under_its_pepper_version(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    token = world.add(version=1)
    stored = world.keys.stored[token.key_id]
    world.keys.stored[token.key_id] = replace(stored, secrets=(replace(stored.secrets[0], pepper_version=2),))
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_removed_pepper_refuses_its_keys(world: World) -> None:
    token = world.add(version=1)
    world.peppers.peppers = parse_peppers("PEPPER", f"2:{TWO}")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_unknown_and_known_keys_compute_equal_digests(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    known, revoked = world.add(version=1), world.add(version=2)
    world.revoke(revoked)
    forged = generate_token("test", known.key_id)
    counting = CountingPeppers(world.peppers.peppers.by_version, 2)
    world.peppers.peppers = counting
    costs = []
    for token in (known, revoked, forged, generate_token("test")):
        CountingPeppers.digests = 0
        await asyncio.gather(world.auth.authenticate(token.text), return_exceptions=True)
        costs.append(CountingPeppers.digests)
    assert costs == [3] * 4  # the cache's key, and one for each live pepper


async def test_unknown_and_known_keys_compare_equal_digests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time of a refusal would reveal whether a key with this id exists."""
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    known, revoked = world.add(version=1), world.add(version=2)
    world.revoke(revoked)
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for token in (known, revoked, generate_token("test", known.key_id), generate_token("test")):
        compared.clear()
        await asyncio.gather(world.auth.authenticate(token.text), return_exceptions=True)
        assert compared == [(32, 32)] * 2  # one for each live pepper


async def test_peppers_are_parsed_again_after_a_change() -> None:
    secrets = FakeSecrets({"PEPPER": ONE})
    peppers = SecretPeppers(secrets, "PEPPER")
    first = await peppers.current()
    assert await peppers.current() is first
    secrets.values["PEPPER"] = f"2:{TWO},1:{ONE}"
    assert (await peppers.current()).current == 2
    assert secrets.asked == ["PEPPER"] * 3


@pytest.mark.parametrize(("stored", "current"), [(1, 2), (2, 1)], ids=["new pepper", "rolled back pepper"])
async def test_key_of_another_pepper_is_stored_under_current(world: World, stored: int, current: int) -> None:
    """Also when the operator rolls a pepper back: otherwise the newer version could never be removed."""
    texts = {1: f"1:{ONE}", 2: f"2:{TWO}"}
    world.peppers.peppers = parse_peppers("PEPPER", f"{texts[current]},{texts[stored]}")
    token = world.add(version=stored)
    old = world.keys.stored[token.key_id].secrets[0].digest
    await world.auth.authenticate(token.text)
    assert world.keys.rehashed == [(old, world.peppers.peppers.digest(token.text), current)]


async def test_key_of_current_pepper_is_not_stored_again(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"2:{TWO},1:{ONE}")
    await world.auth.authenticate(world.add(version=2).text)
    assert world.keys.rehashed == []
