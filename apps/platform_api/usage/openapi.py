"""The usage route in the OpenAPI document."""

from datetime import date
from typing import Any

from pydantic import BaseModel, Field

from apps.platform_api.openapi.components import GUARDED, error_responses, json_response
from platform_app import errors

_SUMS = {
    "requests": 412,
    "errors": 3,
    "client_closed": 1,
    "prompt_tokens": 120400,
    "completion_tokens": 38112,
    "cached_tokens": 51200,
    "total_tokens": 158512,
    "cost_usd": "0.036887",
    "requests_without_price": 0,
    "estimated_requests": 1,
    "mean_duration_ms": 914.2,
    "mean_first_token_ms": 301.7,
}
_EXAMPLE = {
    "data": [{"day": "2026-11-23", "model": "gpt-4o-mini"} | _SUMS],
    "totals": _SUMS,
    "since": "2026-11-23",
    "until": "2026-11-24",
    "next_cursor": None,
}


class UsageSums(BaseModel):
    """Sums over requests that reached a provider."""

    requests: int
    errors: int = Field(description="Requests that ended in an error.")
    client_closed: int = Field(description="Requests whose client left first.")
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = Field(description="Prompt tokens from the provider's cache; prompt_tokens counts them too.")
    total_tokens: int
    cost_usd: str = Field(description="US dollars as an exact decimal, without the requests that have no price.")
    requests_without_price: int = Field(description="Requests for which no price was known.")
    estimated_requests: int = Field(
        description="Requests whose tokens were estimated, since the provider did not count."
    )
    mean_duration_ms: float | None = Field(description="Of the provider call, all attempts.")
    mean_first_token_ms: float | None = Field(description="Of requests that have it; null where none has.")


class UsageGroup(UsageSums):
    """Sums of one group, with the fields that it was grouped by."""

    day: date | None = Field(None, description="Grouped by `day`: a UTC day.")
    key_id: str | None = Field(None, description="Grouped by `key`.")
    owner: str | None = Field(None, description="Grouped by `owner`: the key's owner at the time of the request.")
    model: str | None = Field(None, description="Grouped by `model`: the public name.")
    provider: str | None = Field(None, description="Grouped by `provider`.")


class UsageList(BaseModel):
    """A page of groups, and the sums over all of them."""

    data: list[UsageGroup]
    totals: UsageSums
    since: date
    until: date = Field(description="Exclusive.")
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


READ: dict[str, Any] = {
    "summary": "Read usage and cost",
    "tags": ["usage"],
    "responses": {
        200: json_response("Sums by group.", UsageList, _EXAMPLE),
        **error_responses(*GUARDED, errors.ValidationFailed),
    },
}
