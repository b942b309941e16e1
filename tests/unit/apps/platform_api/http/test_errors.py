"""Errors as responses."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from apps.platform_api.http.errors import field_path, internal_error, note_and_render, render
from platform_app import errors
from platform_app.errors import PlatformError
from platform_app.observability.context import ClientContract
from tests.support.fakes.core import context


def tree(kind: type[PlatformError] = PlatformError) -> Iterator[type[PlatformError]]:
    for child in kind.__subclasses__():
        yield child
        yield from tree(child)


def error_of(kind: type[PlatformError]) -> PlatformError:
    """An error of this class with a plain message."""
    has_message = kind in (errors.MissingCredentials, errors.InvalidApiKey)
    return kind() if has_message else kind("platform:chat")  # type: ignore[call-arg] # those two have one


LEAVES = [kind for kind in tree() if "code" in vars(kind)]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ((), "body"),
        (("body",), "body"),
        (("body", "messages", 0, "@user", "content"), "messages[0].content"),
        (("messages", 0, "@user", "content", "@parts", 2, "@image_url", "url"), "messages[0].content[2].url"),
        (("body", 5), "[5]"),
        (("query", "limit"), "limit"),
        (("header", "x-y"), "x-y"),
        (("metadata", "a", "[key]"), "metadata.a.[key]"),
        (("stop", "@text"), "stop"),
        (("a", "body", "b"), "a.body.b"),
    ],
)  # fmt: skip
def test_field_path_is_written_from_location(location: tuple[str | int, ...], path: str) -> None:
    assert field_path(location) == path


def test_response_has_the_documented_shape() -> None:
    request = context()
    response = render(errors.ValidationFailed("No.", details=["a: b"]), request)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert json.loads(bytes(response.body)) == {
        "error": {"code": "validation_error", "message": "No.", "request_id": "req-1", "details": ["a: b"]}
    }
    assert "details" not in json.loads(bytes(render(errors.Conflict("No."), request).body))["error"]


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    assert render(errors.Draining("Bye.", retry_after=seconds), context()).headers["retry-after"] == header


HELPS = {
    errors.RateLimited, errors.BudgetExceeded, errors.AuthUnavailable, errors.LimiterUnavailable,
    errors.LedgerUnavailable, errors.IdempotencyUnavailable, errors.IdempotencyInFlight, errors.Overloaded,
    errors.Draining, errors.ProviderError, errors.ProviderBadResponse, errors.ProviderUnavailable,
    errors.ProviderRateLimited,
}  # fmt: skip
"""Where the same request may succeed later."""


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if kind.__module__ == "platform_app.errors"])
@pytest.mark.parametrize("contract", ClientContract)
def test_should_retry_is_false_where_waiting_does_not_help(kind: type[PlatformError], contract: ClientContract) -> None:
    """OpenAI's and Anthropic's clients retry 408, 409, 429 and every 5xx unless x-should-retry says otherwise."""
    response = render(error_of(kind), replace(context(), contract=contract))
    expected = "true" if kind is errors.IdempotencyInFlight else None if kind in HELPS else "false"
    assert response.headers.get("x-should-retry") == expected
    if kind not in HELPS:
        assert "retry-after" not in response.headers


@pytest.mark.parametrize("contract", ClientContract)
def test_every_error_has_the_request_id(contract: ClientContract) -> None:
    """Kind 11c."""
    body = json.loads(bytes(render(errors.Conflict("No."), replace(context(), contract=contract)).body))
    assert (body["error"] | body)["request_id"] == "req-1"


@pytest.mark.parametrize("kind", [errors.ProviderUnavailable, errors.ProviderRateLimited])
def test_retry_after_defaults_to_one_second(kind: type[errors.PlatformError]) -> None:
    assert render(kind("No."), context()).headers["retry-after"] == "1"
    assert render(kind("No.", retry_after=7), context()).headers["retry-after"] == "7"


def test_retry_after_is_absent_where_waiting_does_not_help() -> None:
    assert "retry-after" not in render(errors.ProviderQuotaExhausted("No."), context()).headers


def test_challenge_is_sent_with_401_and_missing_scope() -> None:
    challenge = {
        kind: render(error, context()).headers["www-authenticate"]
        for kind, error in {
            "missing": errors.MissingCredentials(),
            "invalid": errors.InvalidApiKey(),
            "scope": errors.InsufficientScope("platform:chat"),
        }.items()
    }
    assert challenge == {
        "missing": 'Bearer realm="flowbiz-platform"',
        "invalid": 'Bearer realm="flowbiz-platform", error="invalid_token"',
        "scope": 'Bearer realm="flowbiz-platform", error="insufficient_scope", scope="platform:chat"',
    }


def test_codes_are_unique_and_statuses_documented() -> None:
    assert len({kind.code for kind in LEAVES}) == len(LEAVES)
    assert {kind.status for kind in LEAVES} <= {
        400,
        401,
        403,
        404,
        405,
        409,
        413,
        415,
        422,
        429,
        431,
        500,
        502,
        503,
        504,
    }
    for kind in LEAVES:
        if issubclass(kind, errors.ProviderFailed):
            assert kind.status in (502, 503, 504), "an upstream failure is never the client's"


def test_documented_tree_matches_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn = [line.split() for line in errors.__doc__.splitlines()]
    found = {words[-3]: (int(words[-2]), words[-1]) for words in drawn if len(words) > 3 and words[-2].isdigit()}
    found |= {"InternalError": (500, "internal_error")}  # its line says more
    assert found == {kind.__name__: (kind.status, kind.code) for kind in LEAVES}


@pytest.mark.parametrize("kind", LEAVES)
def test_rendering_an_error_notes_nothing(kind: type[PlatformError]) -> None:
    request = context()
    error = error_of(kind)
    for contract in ClientContract:
        render(error, replace(request, contract=contract))
        assert (request.reason, request.decision) == (None, "allow")
    note_and_render(error, request)
    assert request.reason == kind.code
    denied = issubclass(kind, errors.CallerRefused | errors.RateLimited | errors.ModelNotFound)
    assert request.decision == ("deny" if denied else "allow")


def test_internal_error_only_says_where_to_look() -> None:
    error = internal_error()
    assert (error.status, error.code, error.details) == (500, "internal_error", None)
    assert "request id" in error.message
