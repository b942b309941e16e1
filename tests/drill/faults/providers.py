"""Faults of a provider: the simulator responds as a provider in trouble does."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.drill.faults.fault import Expected, Fault
from tests.drill.runbook import Cause
from tests.drill.stage import Stage

_SLOW_MS = 33_000
"""Above the 30 s of GatewayLatencyHigh, and below every timeout of the gateway."""
_EXPLAINING = frozenset(
    {"ProviderFailing", "ProviderBreakerOpen", "ProviderFallbacks", "ProviderErrorBudgetBurn", "ModelFailing"}
)


def _switched(provider: str, fault: str, model: str = "") -> Callable[[Stage], AbstractContextManager[None]]:
    @contextmanager
    def inject(stage: Stage) -> Iterator[None]:
        stage.providers[provider].switch(fault, model)
        try:
            yield
        finally:
            stage.providers[provider].clear()

    return inject


PROVIDERS = (
    Fault(
        "provider-500",
        "Provider north responds with 500 to every request",
        _switched("north", "server-error"),
        (
            Expected(
                "ProviderFailing",
                Cause({"model": "assistant|embedder", "outcome": "provider_error"}),
                {"provider": "north"},
            ),
            Expected("ModelFailing", Cause({"model": "embedder"}), {"model": "embedder"}),
        ),
        _EXPLAINING,
    ),
    Fault(
        "provider-401",
        "Provider north refuses the gateway's credential with 401",
        _switched("north", "unauthorized"),
        (Expected("ProviderAuthFailed", Cause({"provider": "north"}), {"provider": "north"}),),
        _EXPLAINING,
    ),
    Fault(
        "provider-quota",
        "Provider south responds with 429: the account has no quota left",
        _switched("south", "quota"),
        (Expected("ProviderQuotaExhausted", Cause({"provider": "south"}), {"provider": "south"}),),
        _EXPLAINING,
    ),
    Fault(
        "model-down",
        "The model writer (25 % of all requests) always fails at provider south, and its breaker is open",
        _switched("south", "server-error", "sim-ok@writer"),
        (
            Expected(
                "ModelFailing",
                Cause({"model": "writer", "code": "provider_unavailable|provider_error"}),
                {"model": "writer"},
            ),
            Expected("ProviderBreakerOpen", Cause({"provider": "south", "model": "sim-ok@writer"})),
        ),
        _EXPLAINING,
    ),
    Fault(
        "provider-slow",
        f"Provider north takes {_SLOW_MS // 1000} s for each response",
        _switched("north", f"delay={_SLOW_MS}"),
        (Expected("GatewayLatencyHigh", Cause({"provider": "north"}, at_least=10)),),
        _EXPLAINING,
    ),
)
