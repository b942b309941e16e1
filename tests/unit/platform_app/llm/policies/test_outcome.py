import pytest

from platform_app.errors import ProviderUnavailable
from platform_app.llm.policies.outcome import CountedFailures
from tests.support.virtual_time import virtual_time
from tests.unit.fakes import Count
from tests.unit.platform_app.llm.policies.upstreams import ANSWER, ScriptedUpstream, a_call


@virtual_time
async def test_what_callers_get_is_counted() -> None:
    count = Count("platform_model_call_failures_total", model="public", code="provider_unavailable")
    counted = CountedFailures(ScriptedUpstream(ANSWER, ProviderUnavailable("x")), "public")
    assert await counted.send(a_call()) is ANSWER
    assert count.grown == 0
    with pytest.raises(ProviderUnavailable):
        await counted.send(a_call())
    assert count.grown == 1
