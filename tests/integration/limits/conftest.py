"""Fixtures of the limiter's tests: clients of the session's server, and scripts on the test's clock."""

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.rate_limit import rule
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import SECOND, TimedScripts
from tests.support.servers.valkey import connect, own_server

GENEROUS_SECONDS = 30
"""The timeout where none is tested: on a busy machine the server responds later than the gateway would wait."""


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator["Redis"]:
    """redis-py's client, to look at what the server stores."""
    client = connect(valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
async def scripts(valkey: EmbeddedValkey) -> AsyncIterator[PipelinedRedis]:
    """The gateway's client."""
    client = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    yield client
    await client.aclose()


@pytest.fixture
def timed(scripts: PipelinedRedis, monkeypatch: pytest.MonkeyPatch) -> TimedScripts:
    """The scripts on the test's clock, which calendars follow."""
    clock = TimedScripts(scripts)
    monkeypatch.setattr(rule, "time", SimpleNamespace(time=lambda: clock.now / SECOND))
    return clock


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """See own_server."""
    with own_server() as server:
        yield server
