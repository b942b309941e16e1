"""A simulator for each test, so that counts are its own."""

from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import AUTH, KEY


@pytest.fixture
async def sim() -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator() as simulator:
        yield simulator


@pytest.fixture
async def client(sim: ProviderSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.base_url, headers=AUTH, timeout=300) as http:
        yield http


@pytest.fixture
async def sdk(sim: ProviderSimulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0, timeout=300) as official:
        yield official
