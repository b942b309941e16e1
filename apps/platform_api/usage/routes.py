"""GET /v1/platform/usage: what was used and what it cost, by key, owner, model, provider and day."""

import re
from dataclasses import replace
from datetime import date
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from apps.platform_api.dependencies import ResourcesDep, UsageReaderDep
from apps.platform_api.http.errors import database_errors
from apps.platform_api.usage.openapi import READ
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.errors import InsufficientScope
from platform_app.ledger.reading.usage import MAX_GROUPS
from platform_app.ledger.reading.usage_query import DEFAULT_GROUPS, FIELDS, GroupBy, UsageFilter

router = APIRouter()


def _iso_day(value: str) -> str:
    """pydantic would take numbers for seconds since 1970."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("a day is needed, for example 2026-11-23")
    return value


_Day = Annotated[date | None, BeforeValidator(_iso_day), Query()]
_Text = Annotated[str | None, Query(max_length=200)]
_Groups = Annotated[list[GroupBy], Query(min_length=1, max_length=len(FIELDS))]


def _readable(wanted: UsageFilter, caller: Caller) -> UsageFilter:
    """What the caller may read of it: without the scope only what its own key used.

    Raises:
        InsufficientScope: another key's usage, or another owner's, is asked for.
    """
    if caller.may(Scope.USAGE_READ):
        return wanted
    if wanted.key_id not in (None, caller.key_id) or wanted.owner not in (None, caller.owner):
        raise InsufficientScope(Scope.USAGE_READ)
    return replace(wanted, key_id=caller.key_id)


@router.get("/v1/platform/usage", response_model=None, **READ)
async def read_usage(
    caller: UsageReaderDep,
    resources: ResourcesDep,
    group_by: _Groups = list(DEFAULT_GROUPS),  # noqa: B006 - never changed
    since: _Day = None,
    until: _Day = None,
    key_id: _Text = None,
    owner: _Text = None,
    model: _Text = None,
    provider: _Text = None,
    limit: Annotated[int, Query(ge=1, le=MAX_GROUPS)] = MAX_GROUPS,
    cursor: Annotated[str | None, Query(max_length=4000)] = None,
) -> Response:
    """Sums over UTC days, sorted by what they are grouped by; `totals` are of all pages together."""
    wanted = _readable(UsageFilter(since, until, key_id, owner, model, provider), caller)
    async with database_errors("usage database"):
        page = await resources.usage.page(wanted, group_by, only_owner=caller.only_owner, limit=limit, cursor=cursor)
    return Response(orjson.dumps(page.plain()), media_type="application/json")
