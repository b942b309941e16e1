"""GET /v1/platform/audit: lifecycle changes and access decisions. GET /v1/platform/requests/{id}: one request."""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from apps.platform_api.audit.openapi import FIND, READ
from apps.platform_api.dependencies import AuditReaderDep, ResourcesDep
from apps.platform_api.http.disconnect import disconnect_signal
from apps.platform_api.http.errors import database_errors
from apps.platform_api.http.streaming import open_byte_stream
from platform_app.errors import NotFound
from platform_app.ledger.reading.audit import AuditFilter, AuditReader
from platform_app.ledger.reading.audit_owner import Kind
from platform_app.ledger.reading.requests import parse_ids

router = APIRouter()

_Text = Annotated[str | None, Query(max_length=200)]


@router.get("/v1/platform/audit", response_model=None, **READ)
async def read_audit(
    caller: AuditReaderDep,
    resources: ResourcesDep,
    request: Request,
    kind: Kind | None = None,
    key_id: _Text = None,
    route: _Text = None,
    decision: Literal["allow", "deny"] | None = None,
    trace_id: _Text = None,
    request_id: _Text = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: _Text = None,
    format: Literal["json", "jsonl"] = "json",
) -> Response:
    """Newest first: a page, or with `format=jsonl` everything that matches, a JSON object a line."""
    wanted = AuditFilter(kind, key_id, route, decision, trace_id, request_id, since, until)
    if format == "jsonl":
        lines = _lines(resources.audit, wanted, caller.only_owner)
        return await open_byte_stream(lines, disconnect_signal(request.scope, request.receive), b"application/x-ndjson")
    async with database_errors("audit database"):
        page = await resources.audit.page(wanted, only_owner=caller.only_owner, limit=limit, cursor=cursor)
    content = orjson.dumps({"data": page.entries, "next_cursor": page.next_cursor})
    return Response(content, media_type="application/json")


@router.get("/v1/platform/requests/{id}", response_model=None, **FIND)
async def find_request(
    caller: AuditReaderDep,
    resources: ResourcesDep,
    id: Annotated[str, Path(max_length=200, description="A request id, a trace id, or a traceparent.")],
) -> Response:
    """Return what happened to a request: decision, usage, hops and attempts, newest first if there are several."""
    wanted = parse_ids(id)
    async with database_errors("audit database"):
        found = await resources.requests.find(wanted, only_owner=caller.only_owner)
    if not found:
        raise NotFound(
            "There is no request with this id, or it is not of this key's owner. A request appears about a second "
            "after its response."
        )
    return Response(orjson.dumps({"data": [request.plain() for request in found]}), media_type="application/json")


async def _lines(audit: AuditReader, wanted: AuditFilter, only_owner: str | None) -> AsyncGenerator[bytes, None]:
    async with database_errors("audit database"):
        async for entries in audit.export(wanted, only_owner=only_owner):
            yield b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)
