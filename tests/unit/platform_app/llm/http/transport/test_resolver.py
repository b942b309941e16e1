"""Addresses: looked up once, cached and rotated."""

import asyncio
import socket

import pytest

from platform_app.llm.http.transport import resolver
from platform_app.llm.http.transport.resolver import AddressInfo, Resolver


class Responses:
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
def responses(monkeypatch: pytest.MonkeyPatch) -> Responses:
    return Responses(monkeypatch)


async def first(subject: Resolver, host: str = "h") -> str:
    found = await subject.resolve(host, 443)
    return str(found[0][4][0])


async def test_addresses_rotate(responses: Responses) -> None:
    subject = Resolver()
    assert len({await first(subject), await first(subject)}) == 2
    assert await first(subject) == (await first(subject), await first(subject))[1]
    assert responses.asked == 1


async def test_concurrent_lookups_are_coalesced(responses: Responses) -> None:
    subject = Resolver()
    responses.go_on.clear()
    waiting = [asyncio.ensure_future(first(subject)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the other waiters still get their addresses
    responses.go_on.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {each for each in found if isinstance(each, str)} == {"10.0.0.1", "10.0.0.2"}
    assert responses.asked == 1


async def test_hosts_are_looked_up_separately(responses: Responses) -> None:
    subject = Resolver()
    await first(subject, "a")
    await first(subject, "b")
    await first(subject, "a")
    assert responses.asked == 2


async def test_unreachable_host_is_looked_up_again(responses: Responses) -> None:
    subject = Resolver()
    await first(subject)
    subject.forget("h", 443)
    await first(subject)
    assert responses.asked == 2


async def test_expired_addresses_are_looked_up_again(responses: Responses, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Resolver()
    await first(subject)
    monkeypatch.setattr(resolver, "_CACHE_SECONDS", -1.0)
    await first(subject)
    assert responses.asked == 2


async def test_failed_lookup_is_not_cached(responses: Responses) -> None:
    subject = Resolver()
    responses.hosts = []
    with pytest.raises(OSError):  # noqa: PT011 - as it comes
        await first(subject)
    responses.hosts = ["10.0.0.9"]
    assert await first(subject) == "10.0.0.9"
