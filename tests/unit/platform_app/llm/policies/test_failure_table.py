"""The failure table is complete and consistent."""

import pytest

import platform_app.llm.errors  # noqa: F401 - its class belongs to the tree
from platform_app import errors
from platform_app.errors import PlatformError, ProviderFailed, RequestRefused, Unavailable
from platform_app.llm.errors import BreakerOpen, UnsupportedByProvider
from platform_app.llm.policies.failure_table import FAILURE_POLICIES, Health, failure_policy_of, reason_label


def subclasses(kind: type[PlatformError]) -> set[type[PlatformError]]:
    """Return every subclass of ours. Subclasses that other tests define are left out."""
    found = set()
    for each in kind.__subclasses__():
        if each.__module__.startswith("platform_app."):
            found |= {each} | subclasses(each)
    return found


def leaves(kind: type[PlatformError]) -> set[type[PlatformError]]:
    return {each for each in subclasses(kind) if not subclasses(each)}


def by_name(kinds: set[type[PlatformError]]) -> list[type[PlatformError]]:
    return sorted(kinds, key=lambda kind: kind.__name__)


def make(kind: type[PlatformError]) -> PlatformError:
    return kind.__new__(kind)


def test_error_tree_is_found() -> None:
    assert {errors.ProviderQuotaExhausted, errors.Overloaded, errors.ContentFiltered, BreakerOpen} <= leaves(
        PlatformError
    )


@pytest.mark.parametrize("kind", by_name(leaves(ProviderFailed) | leaves(Unavailable)))
def test_every_provider_error_has_its_own_row(kind: type[PlatformError]) -> None:
    assert kind in FAILURE_POLICIES


@pytest.mark.parametrize("kind", by_name(leaves(PlatformError)))
def test_every_error_has_a_policy(kind: type[PlatformError]) -> None:
    assert failure_policy_of(make(kind)) in FAILURE_POLICIES.values()


def test_every_row_has_error_and_reason() -> None:
    assert FAILURE_POLICIES.keys() <= subclasses(PlatformError)
    assert all(len(verdict.why) > 10 for verdict in FAILURE_POLICIES.values())


FINAL = leaves(RequestRefused) - {UnsupportedByProvider, errors.ContextLengthExceeded}


@pytest.mark.parametrize("kind", by_name(FINAL))
def test_invalid_request_does_not_fall_back(kind: type[PlatformError]) -> None:
    verdict = failure_policy_of(make(kind))
    assert (verdict.retry, verdict.fall_back, verdict.health) == (False, False, Health.UNKNOWN)


def test_unsupported_request_falls_back() -> None:
    verdict = failure_policy_of(make(UnsupportedByProvider))
    assert (verdict.retry, verdict.fall_back, verdict.health) == (False, True, Health.UNKNOWN)
    assert (UnsupportedByProvider.code, UnsupportedByProvider.status) == ("provider_rejected_request", 400)


def test_context_length_falls_back_to_other_models_only() -> None:
    rows = {kind for kind, verdict in FAILURE_POLICIES.items() if verdict.other_model_only}
    assert rows == {errors.ContextLengthExceeded}
    verdict = FAILURE_POLICIES[errors.ContextLengthExceeded]
    assert (verdict.retry, verdict.fall_back, verdict.health) == (False, True, Health.UNKNOWN)


@pytest.mark.parametrize("kind", by_name(subclasses(ProviderFailed)))
def test_every_provider_failure_falls_back(kind: type[PlatformError]) -> None:
    assert failure_policy_of(make(kind)).fall_back


@pytest.mark.parametrize(
    "kind",
    [
        errors.ProviderQuotaExhausted,
        errors.ProviderAuthFailed,
        errors.ProviderNotConfigured,
        errors.ProviderTimeout,
        errors.Overloaded,
        BreakerOpen,
    ],
)
def test_permanent_errors_are_not_retried(kind: type[PlatformError]) -> None:
    assert not failure_policy_of(make(kind)).retry


def test_temporary_errors_are_retried() -> None:
    assert {kind for kind, verdict in FAILURE_POLICIES.items() if verdict.retry} == {
        errors.ProviderUnavailable,
        errors.ProviderError,
        errors.ProviderBadResponse,
        errors.ProviderRateLimited,
    }


@pytest.mark.parametrize(
    "kind",
    [
        errors.CallerRefused,
        errors.RateLimited,
        errors.AuthUnavailable,
        errors.LimiterUnavailable,
        errors.LedgerUnavailable,
        errors.IdempotencyUnavailable,
        errors.Draining,
        errors.InternalError,
    ],
)
def test_errors_of_the_gateway_itself_are_final(kind: type[PlatformError]) -> None:
    """No provider caused them, and none can help."""
    verdict = failure_policy_of(make(kind))
    assert (verdict.retry, verdict.fall_back, verdict.health) == (False, False, Health.UNKNOWN)


def test_unsent_call_has_unknown_health() -> None:
    for kind in (BreakerOpen, errors.Overloaded, errors.ProviderNotConfigured):
        assert failure_policy_of(make(kind)).health is Health.UNKNOWN


def test_bug_is_not_retried_and_does_not_fall_back() -> None:
    verdict = failure_policy_of(KeyError("x"))
    assert (verdict.retry, verdict.fall_back, verdict.health) == (False, False, Health.UNKNOWN)


def test_reason_label_is_code_or_breaker_open() -> None:
    assert reason_label(BreakerOpen("x")) == "breaker_open"
    assert reason_label(errors.ProviderUnavailable("x")) == "provider_unavailable"
