"""A client address with too many invalid keys is refused; other addresses are not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import httpx
import pytest

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.auth.tokens import generate_token
from tests.conftest import Platform
from tests.support.gateway.http import access_line, metric
from tests.support.gateway.process import Gateway

FAILURES = 5
LOOKUPS = "platform_auth_lookup_duration_seconds_count"
THROTTLED = "platform_auth_throttled_total"

_numbers = count(10)


@pytest.fixture(scope="module")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """Failures are counted by address, and the other tests' come from the same one."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("throttle"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def environment(platform: Platform, own_valkey: EmbeddedValkey) -> dict[str, str]:
    own = {"PLATFORM_REDIS_URL": own_valkey.url, "PLATFORM_AUTH_FAILURES_PER_MINUTE": str(FAILURES)}
    return {**platform.environment, **own}


@pytest.fixture(scope="module")
def direct(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a proxy in front."""
    with Gateway(environment, tmp_path_factory.mktemp("direct")) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways that believe a proxy on this machine."""
    environment = {**environment, "PLATFORM_TRUSTED_PROXIES": "127.0.0.1/32,10.9.0.0/16"}
    directory = tmp_path_factory.mktemp("proxied")
    with Gateway(environment, directory) as first, Gateway(environment, directory) as second:
        yield first, second


@asynccontextmanager
async def coming_from(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that connects from this loopback address."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(transport=transport, timeout=300, trust_env=False) as http:
        yield http


@pytest.fixture
def address() -> str:
    """An address, for X-Forwarded-For, that no other test uses."""
    return f"192.0.2.{next(_numbers)}"


async def ask(
    http: httpx.AsyncClient, gateway: Gateway, key: str | None = None, forwarded: str | None = None
) -> httpx.Response:
    """A chat request; without `key` with one that is well-formed and unknown."""
    headers = {"Authorization": f"Bearer {key or generate_token('test').text}"}
    if forwarded is not None:
        headers["X-Forwarded-For"] = forwarded
    return await http.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})


async def statuses(http: httpx.AsyncClient, gateway: Gateway, times: int, forwarded: str | None = None) -> list[int]:
    return [(await ask(http, gateway, forwarded=forwarded)).status_code for _ in range(times)]


async def test_failures_above_the_limit_cause_few_lookups(direct: Gateway, platform: Platform) -> None:
    good, fresh = platform.key(), platform.key()
    async with coming_from("127.0.0.2") as guesser, coming_from("127.0.0.3") as neighbour:
        assert (await ask(guesser, direct, good)).status_code == 200
        before = metric(direct.metrics(), LOOKUPS)
        assert await statuses(guesser, direct, FAILURES) == [401] * FAILURES
        looked_up = metric(direct.metrics(), LOOKUPS)
        assert looked_up == before + FAILURES, "else the line below proves nothing"
        throttled = metric(direct.metrics(), THROTTLED)

        bad = generate_token("test").text
        for key in (bad, bad, "fbp_test_nonsense"):
            response = await ask(guesser, direct, key)
            assert response.status_code == 429
            assert response.json()["error"]["code"] == "rate_limited"
            (wait,) = response.headers.get_list("retry-after")
            assert 1 <= int(wait) <= 62
            assert f"{wait} s" in response.json()["error"]["message"]
            assert "www-authenticate" not in response.headers
        assert metric(direct.metrics(), LOOKUPS) == looked_up + 1, "only the first request with a bad key looks it up"
        assert metric(direct.metrics(), THROTTLED) == throttled + 3
        assert await statuses(guesser, direct, 5) == [429] * 5

        assert (await ask(guesser, direct, good)).status_code == 200, "a key that is cached as valid is accepted"
        unseen, *refused = await asyncio.gather(
            ask(guesser, direct, platform.key()), *(ask(guesser, direct) for _ in range(20))
        )
        assert unseen.status_code == 200, "a valid key is accepted, whatever its neighbours send"
        assert [response.status_code for response in refused] == [429] * 20
        assert (await ask(neighbour, direct, fresh)).status_code == 200
        assert await statuses(neighbour, direct, 1) == [401]
        assert (await ask(guesser, direct, fresh)).status_code == 200, "known by now, from another address"


async def test_throttled_request_is_logged_as_denied(direct: Gateway) -> None:
    async with coming_from("127.0.0.4") as guesser:
        await statuses(guesser, direct, FAILURES)
        response = await ask(guesser, direct)
    line = await access_line(direct, response.headers["x-request-id"])
    assert (line["status"], line["decision"], line["reason"], line["client_address"]) == (
        429, "deny", "rate_limited", "127.0.0.4",
    )  # fmt: skip


async def test_malformed_keys_count_and_missing_keys_do_not(direct: Gateway) -> None:
    async with coming_from("127.0.0.5") as guesser:
        for _ in range(2 * FAILURES):
            assert (await guesser.post(direct.chat_url, json={"prompt": "Hello"})).status_code == 401
        malformed = [(await ask(guesser, direct, "fbp_test_nonsense")).status_code for _ in range(FAILURES + 1)]
    assert malformed == [401] * FAILURES + [429]


async def test_concurrent_failures_are_throttled(direct: Gateway) -> None:
    """Requests that were already being looked up get their 401."""
    async with coming_from("127.0.0.6") as guesser:
        for _ in range(4):
            answers = await asyncio.gather(*(ask(guesser, direct) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {429}


async def test_forwarded_header_is_ignored_without_trusted_proxies(direct: Gateway) -> None:
    async with coming_from("127.0.0.7") as guesser, coming_from("127.0.0.8") as victim:
        answered = [
            (await ask(guesser, direct, forwarded=f"203.0.113.{number}")).status_code for number in range(FAILURES + 1)
        ]
        assert answered == [401] * FAILURES + [429]
        # A client cannot shut out another one by naming its address.
        assert await statuses(guesser, direct, FAILURES, "127.0.0.8") == [429] * FAILURES
        assert await statuses(victim, direct, 1) == [401]


async def test_forwarded_header_of_untrusted_peer_is_ignored(proxied: tuple[Gateway, Gateway], address: str) -> None:
    async with coming_from("127.0.0.9") as guesser, coming_from("127.0.0.1") as proxy:
        answered = [
            (await ask(guesser, proxied[0], forwarded=f"203.0.113.{number}")).status_code
            for number in range(FAILURES + 1)
        ]
        assert answered == [401] * FAILURES + [429]
        assert await statuses(proxy, proxied[0], 1, address) == [401]


async def test_clients_behind_proxy_are_counted_separately(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, platform: Platform, address: str
) -> None:
    gateway, other = proxied[0], f"198.51.100.{next(_numbers)}"
    assert await statuses(client, gateway, FAILURES + 1, address) == [401] * FAILURES + [429]
    response = await ask(client, gateway, forwarded=other)
    assert response.status_code == 401
    assert (await access_line(gateway, response.headers["x-request-id"]))["client_address"] == other
    assert (await ask(client, gateway, platform.key(), other)).status_code == 200
    assert await statuses(client, gateway, 1, address) == [429]


async def test_invented_forwarded_entries_are_ignored(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, address: str
) -> None:
    """The proxy appends what it sees, so only what stands right of the last trusted hop is true."""
    gateway = proxied[0]
    made_up = ["203.0.113.1", "10.9.0.1", "127.0.0.1", "garbage", "203.0.113.2, 10.9.9.9", "", ",,,", "::1"]
    answered = [(await ask(client, gateway, forwarded=f"{first}, {address}")).status_code for first in made_up]
    assert answered == [401] * FAILURES + [429] * (len(made_up) - FAILURES)
    through_two = await ask(client, gateway, forwarded=f"203.0.113.3, {address}, 10.9.1.1")
    assert through_two.status_code == 429, "the inner proxy is trusted, so the address left of it counts"
    assert await statuses(client, gateway, 1, f"{address}, 198.51.100.{next(_numbers)}") == [401]


async def test_malformed_forwarded_header_counts_for_proxy(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, address: str
) -> None:
    gateway = proxied[0]
    for mangled in ("unknown", "_hidden", f"[{address}", f"{address};", "999.1.1.1", "localhost", "0x7f.1"):
        response = await ask(client, gateway, forwarded=mangled)
        assert response.status_code in (401, 429)
        assert (await access_line(gateway, response.headers["x-request-id"]))["client_address"] == "127.0.0.1"
    assert response.status_code == 429
    assert await statuses(client, gateway, 1, address) == [401]


async def test_forwarded_port_and_brackets_are_read(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, address: str
) -> None:
    gateway, number = proxied[0], next(_numbers)
    forms = (f"{address}:51234", f'"{address}"', f"{address},", f"[::ffff:{address}]:443", f"{address}, 10.9.0.1:80")
    assert [await statuses(client, gateway, 1, form) for form in forms] == [[401]] * FAILURES
    assert await statuses(client, gateway, 1, address) == [429]
    response = await ask(client, gateway, forwarded=f'"[2001:db8:99:{number:x}::7]:443"')
    assert response.status_code == 401
    line = await access_line(gateway, response.headers["x-request-id"])
    assert line["client_address"] == f"2001:db8:99:{number:x}::7"


async def test_addresses_of_ipv6_network_count_together(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient
) -> None:
    gateway = proxied[0]
    answered = [
        (await ask(client, gateway, forwarded=f"2001:db8:0:7::{number:x}")).status_code
        for number in range(FAILURES + 1)
    ]
    assert answered == [401] * FAILURES + [429]
    assert await statuses(client, gateway, 1, "2001:0db8:0000:0007:ffff:ffff:ffff:ffff") == [429]
    assert await statuses(client, gateway, 1, "2001:db8:0:8::1") == [401]


async def test_ipv4_mapped_ipv6_address_counts_as_ipv4(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, address: str
) -> None:
    gateway = proxied[0]
    assert await statuses(client, gateway, FAILURES, f"::ffff:{address}") == [401] * FAILURES
    assert await statuses(client, gateway, 1, address) == [429]
    assert await statuses(client, gateway, 1, f"::ffff:198.51.100.{next(_numbers)}") == [401], "not one /64 of them all"


async def test_two_gateways_share_one_failure_count(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, address: str
) -> None:
    first, second = proxied
    for number in range(FAILURES):
        assert await statuses(client, (first, second)[number % 2], 1, address) == [401]
    # The one that counted the last failure knows at once; the other one hears of it with its own next one.
    last, other = (second, first)[FAILURES % 2], (first, second)[FAILURES % 2]
    assert await statuses(client, last, 2, address) == [429, 429]
    assert await statuses(client, other, 2, address) == [401, 429]
    assert await statuses(client, last, 1, address) == [429]


async def test_each_process_counts_alone_while_valkey_is_down(
    proxied: tuple[Gateway, Gateway], client: httpx.AsyncClient, platform: Platform, own_valkey: EmbeddedValkey
) -> None:
    first, second = proxied
    address, other = f"198.51.100.{next(_numbers)}", f"198.51.100.{next(_numbers)}"
    known, fresh = platform.key(), platform.key()
    assert (await ask(client, first, known, other)).status_code == 200
    own_valkey.kill()
    try:
        assert await statuses(client, first, FAILURES + 1, address) == [401] * FAILURES + [429]
        assert await statuses(client, second, 1, address) == [401]
        for key in (known, fresh):
            assert (await ask(client, first, key, other)).status_code == 200
        assert (await ask(client, first, known, address)).status_code == 200
        assert await statuses(client, first, 1, address) == [429]
    finally:
        own_valkey.restart()
