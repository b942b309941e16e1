"""Faults that are switched on and off over the simulator's admin endpoints."""

import httpx

from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import AUTH, ask


async def test_switched_fault_applies_to_its_model_alone(sim: ProviderSimulator) -> None:
    async with httpx.AsyncClient(base_url=sim.base_url, headers=AUTH) as client:
        assert (await switch(sim, fault="server-error", model="sim-ok@a")).status_code == 200
        assert [(await ask(client, model)).status_code for model in ("sim-ok@a", "sim-ok@b")] == [500, 200]


async def test_switched_fault_applies_to_all_models_until_cleared(sim: ProviderSimulator) -> None:
    async with httpx.AsyncClient(base_url=sim.base_url, headers=AUTH) as client:
        await switch(sim, fault="unauthorized")
        assert [(await ask(client, model)).status_code for model in ("sim-ok", "sim-server-error")] == [401, 401]
        await switch(sim)
        assert [(await ask(client, model)).status_code for model in ("sim-ok", "sim-server-error")] == [200, 500]


async def test_switch_with_an_unknown_fault_is_refused(sim: ProviderSimulator) -> None:
    assert (await switch(sim, fault="no-such-fault")).status_code == 400


async def switch(sim: ProviderSimulator, **parameters: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=sim.admin_url) as admin:
        return await admin.post("/fault", params=parameters)
