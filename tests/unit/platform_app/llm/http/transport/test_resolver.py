"""Addresses: looked up once, cached and rotated."""

import asyncio
import socket

import pytest

from platform_app.llm.http.transport import resolver
from platform_app.llm.http.transport.resolver import AddressInfo, Resolver


class Answers:
    """Replaces getaddrinfo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.hosts = ["10.0.0.1", "10.0.0.2"]
        self.go_on = asyncio.Event()
        self.go_on.set()
        monkeypatch.setattr(resolver, "_addresses", self._addresses)

    async def _addresses(self, host: str, port: int) -> list[AddressInfo]:
        self.asked += 1
        await self.go_on.wait()
        if not self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "nobody")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.hosts]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


async def first(subject: Resolver, host: str = "h") -> str:
    found = await subject.resolve(host, 443)
    return str(found[0][4][0])


async def test_addresses_rotate(answers: Answers) -> None:
    subject = Resolver()
    assert len({await first(subject), await first(subject)}) == 2
    assert await first(subject) == (await first(subject), await first(subject))[1]
    assert answers.asked == 1


async def test_concurrent_lookups_are_coalesced(answers: Answers) -> None:
    subject = Resolver()
    answers.go_on.clear()
    waiting = [asyncio.ensure_future(first(subject)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the other waiters still get their addresses
    answers.go_on.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {each for each in found if isinstance(each, str)} == {"10.0.0.1", "10.0.0.2"}
    assert answers.asked == 1


async def test_hosts_are_looked_up_separately(answers: Answers) -> None:
    subject = Resolver()
    await first(subject, "a")
    await first(subject, "b")
    await first(subject, "a")
    assert answers.asked == 2


async def test_unreachable_host_is_looked_up_again(answers: Answers) -> None:
    subject = Resolver()
    await first(subject)
    subject.forget("h", 443)
    await first(subject)
    assert answers.asked == 2


async def test_expired_addresses_are_looked_up_again(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Resolver()
    await first(subject)
    monkeypatch.setattr(resolver, "_CACHE_SECONDS", -1.0)
    await first(subject)
    assert answers.asked == 2


async def test_failed_lookup_is_not_cached(answers: Answers) -> None:
    subject = Resolver()
    answers.hosts = []
    with pytest.raises(OSError):  # noqa: PT011 - as it comes
        await first(subject)
    answers.hosts = ["10.0.0.9"]
    assert await first(subject) == "10.0.0.9"
