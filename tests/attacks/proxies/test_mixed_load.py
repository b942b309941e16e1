"""Victims and attackers at the same time, through each proxy."""

import asyncio
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attacks.corpus import CORPUS
from tests.attacks.proxies.invariant import Victim, attack
from tests.attacks.raw_http import Address

pytestmark = [pytest.mark.usefixtures("healthy_gateway"), pytest.mark.timeout(300), pytest.mark.proof]

REQUESTS = int(os.environ.get("ATTACKS_MIXED_REQUESTS", "400"))
"""How many requests of victims and attackers together; the long form is 1,000."""
_CHATS = 4
_CLIENTS = 24


async def test_mixed_load_through_proxy_mixes_no_responses(
    proxy: Address, chat_key: str, show_figure: Callable[[str], None]
) -> None:
    """Half of the requests are victims'; none of them gets another's response, or none at all."""
    random_source = random.Random(10)
    attacks = random_source.choices(CORPUS, k=REQUESTS // 2)
    work: list[Callable[[], list[str]]] = [lambda case=case: attack(proxy, case, chat_key) for case in attacks]  # type: ignore[misc]
    work += [lambda: Victim(proxy, chat_key).chats(_CHATS)] * (REQUESTS // 2 // _CHATS)
    random_source.shuffle(work)

    def run_all() -> list[str]:
        with ThreadPoolExecutor(_CLIENTS) as pool:
            return [fault for found in pool.map(lambda do: do(), work) for fault in found]

    faults = await asyncio.to_thread(run_all)  # the simulator shares this loop

    show_figure(f"{REQUESTS} requests of victims and attackers, {len(faults)} responses that were another's or missing")
    assert not faults, "\n".join(faults)
