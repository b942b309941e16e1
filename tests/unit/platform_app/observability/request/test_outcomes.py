"""Each error of the tree has one outcome, and each outcome has a cause."""

from collections.abc import Iterator

import pytest

from platform_app import errors
from platform_app.observability.request.outcomes import Outcome, outcome_of

BY_BRANCH: dict[type[errors.PlatformError], Outcome] = {
    errors.RequestRefused: Outcome.CALLER_ERROR,
    errors.CallerRefused: Outcome.DENIED,
    errors.RateLimited: Outcome.DENIED,
    errors.Unavailable: Outcome.GATEWAY_ERROR,
    errors.ProviderFailed: Outcome.PROVIDER_ERROR,
    errors.InternalError: Outcome.GATEWAY_ERROR,
}


def leaves(branch: type[errors.PlatformError]) -> Iterator[type[errors.PlatformError]]:
    children = [child for child in branch.__subclasses__() if "code" in vars(child)]
    if "code" in vars(branch):
        yield branch
    for child in children:
        yield from leaves(child)


def test_branches_cover_the_error_tree() -> None:
    children = {child for child in errors.PlatformError.__subclasses__() if child.__module__ == errors.__name__}
    assert children == BY_BRANCH.keys()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [pytest.param(leaf, outcome, id=leaf.code) for branch, outcome in BY_BRANCH.items() for leaf in leaves(branch)],
)
def test_every_error_has_the_outcome_of_its_branch(error: type[errors.PlatformError], outcome: Outcome) -> None:
    if error is errors.Draining:  # part of every rollout, and no failure
        outcome = Outcome.DRAINING
    assert outcome_of(error.status, error.code) is outcome
    assert outcome_of(200, error.code) is outcome, "a stream that failed after its head"


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (200, None, Outcome.OK),
        (204, None, Outcome.OK),
        (304, None, Outcome.OK),
        (200, "idempotent_replay", Outcome.OK),
        (400, "idempotent_replay", Outcome.CALLER_ERROR),
        (401, None, Outcome.DENIED),
        (404, None, Outcome.CALLER_ERROR),
        (429, "idempotent_replay", Outcome.DENIED),
        (499, None, Outcome.CLIENT_CLOSED),
        (499, "client_closed", Outcome.CLIENT_CLOSED),
        (500, None, Outcome.GATEWAY_ERROR),
        (0, None, Outcome.GATEWAY_ERROR),
    ],
)
def test_outcome_without_error_code_follows_the_status(status: int, reason: str | None, outcome: Outcome) -> None:
    assert outcome_of(status, reason) is outcome
