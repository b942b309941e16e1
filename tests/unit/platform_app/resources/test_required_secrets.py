"""Which secrets a configuration needs, and what is said of those that cannot be had."""

import asyncio

import pytest

from platform_app.config import PlatformConfig, load_settings
from platform_app.errors import SecretStoreUnavailable
from platform_app.resources.required_secrets import look_up_required
from platform_app.secret_store.base import Secret
from platform_app.secret_store.usable import credential_problem
from tests.support.fakes.core import FakeSecrets

CONFIG = PlatformConfig.model_validate(
    {
        "providers": {
            "openai": {"base_url": "https://a.example/v1", "api_key_secret": "OPENAI_API_KEY"},
            "in-house": {"base_url": "https://b.example/v1", "api_key_secret": "team/IN_HOUSE#key"},
        },
        "models": {"m": {"routes": [{"provider": "openai", "model": "m"}]}},
    }
)
PEPPER = "1:" + "9f" * 32


async def problems(store: FakeSecrets) -> list[str]:
    settings = load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost")
    return [str(need) for need in await look_up_required(settings, CONFIG, store) if need.problem]


@pytest.mark.usefixtures("bare_environment")
class TestRequired:
    async def test_nothing_is_missing(self) -> None:
        store = FakeSecrets({"PLATFORM_API_KEY_PEPPER": PEPPER, "OPENAI_API_KEY": "a", "team/IN_HOUSE#key": "b"})
        assert await problems(store) == []
        assert sorted(store.asked) == ["OPENAI_API_KEY", "PLATFORM_API_KEY_PEPPER", "team/IN_HOUSE#key"]

    async def test_each_is_listed_by_who_needs_it_its_name_and_the_store(self) -> None:
        assert await problems(FakeSecrets({"OPENAI_API_KEY": "a"})) == [
            "API key pepper, secret 'PLATFORM_API_KEY_PEPPER', store 'fake': no secret PLATFORM_API_KEY_PEPPER",
            "provider 'in-house', secret 'team/IN_HOUSE#key', store 'fake': no secret team/IN_HOUSE#key",
        ]

    async def test_invalid_pepper_is_a_problem_and_is_not_shown(self) -> None:
        store = FakeSecrets({"PLATFORM_API_KEY_PEPPER": "short", "OPENAI_API_KEY": "a", "team/IN_HOUSE#key": "b"})
        (problem,) = await problems(store)
        assert "fewer than 32 characters" in problem
        assert "short" not in problem

    async def test_unavailable_store_is_asked_for_all_at_once(self) -> None:
        class Down(FakeSecrets):
            async def get(self, name: str) -> Secret:
                async with asyncio.timeout(300):
                    await all_asked.wait()
                raise SecretStoreUnavailable("down")

        all_asked = asyncio.Barrier(3)
        assert len(await problems(Down({}))) == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("sk-canary\nsecond", "has 2 lines; write the key alone"),
        ("sk-canary\r\nsecond", "has 2 lines; write the key alone"),
        ("\ufeffsk-canary", "starts with a byte order mark"),
        ("'sk-canary'", "is in quotes"),
        ('"sk-canary"', "is in quotes"),
        ("sk-canärý", "has a character that is not ASCII (number 7)"),
        ("sk-\x7fcanary", "has a control character"),
        ("Bearer sk-canary", "has a space in it; write the key alone"),
    ],
)
def test_credential_that_cannot_be_sent_is_described(value: str, words: str) -> None:
    problem = credential_problem(value)
    assert problem is not None
    assert words in problem
    assert "canar" not in problem


def test_credential_alone_has_no_problem() -> None:
    assert credential_problem("sk-canary_0123456789") is None


@pytest.mark.usefixtures("bare_environment")
@pytest.mark.parametrize("wrapped", [f"'{PEPPER}'", f"\ufeff{PEPPER}"])
async def test_pepper_in_quotes_or_with_mark_is_a_problem(wrapped: str) -> None:
    store = FakeSecrets({"PLATFORM_API_KEY_PEPPER": wrapped, "OPENAI_API_KEY": "a", "team/IN_HOUSE#key": "b"})
    (problem,) = await problems(store)
    assert "remove them" in problem or "byte order mark" in problem
    assert "9f9f" not in problem
