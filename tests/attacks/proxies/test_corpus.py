"""The corpus through real proxies: the next clients of the shared connections get their own responses."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attacks.corpus import AREAS
from tests.attacks.proxies.invariant import Victim, attack
from tests.attacks.raw_http import Address

pytestmark = pytest.mark.usefixtures("healthy_gateway")


@pytest.mark.parametrize("area", AREAS)
async def test_attack_through_proxy_reaches_no_other_client(proxy: Address, chat_key: str, area: str) -> None:
    """A victim comes as soon as the attacker has its response, as the proxy gives the connection to the next client."""
    victim = Victim(proxy, chat_key)

    def attack_one(index: int) -> list[str]:
        return attack(proxy, AREAS[area][index], chat_key, victim)

    def attack_all() -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            return [fault for found in pool.map(attack_one, range(len(AREAS[area]))) for fault in found]

    faults = await asyncio.to_thread(attack_all)  # the simulator shares this loop

    assert not faults, "\n".join(faults)
