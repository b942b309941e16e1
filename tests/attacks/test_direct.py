"""The corpus against the gateway itself: each request gets its own response, or a refusal and the connection's end."""

import asyncio

import pytest

from tests.attacks.corpus import CORPUS
from tests.attacks.corpus.case import Case, run_case
from tests.attacks.raw_http import Address

pytestmark = pytest.mark.usefixtures("healthy_gateway")


@pytest.mark.parametrize("seed", [None, 1, 2], ids=["whole", "split-1", "split-2"])
@pytest.mark.parametrize("case", CORPUS, ids=str)
async def test_attack_gets_own_response_or_refusal(
    address: Address, chat_key: str, case: Case, seed: int | None
) -> None:
    """However the bytes are split into packets, the responses are those that the case demands."""
    judgement = await asyncio.to_thread(run_case, address, case, chat_key, seed)  # the simulator shares this loop

    assert judgement.faults == []
