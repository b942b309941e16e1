"""The lifecycle of API keys over HTTP."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from apps.platform_api.dependencies import ContextDep, KeyManagerDep, KeyReaderDep, ResourcesDep, actor_of
from apps.platform_api.http.body.json_body import json_body
from apps.platform_api.http.errors import database_errors
from apps.platform_api.keys.openapi import CREATE, LIST, REVOKE, ROTATE, SHOW, UPDATE
from apps.platform_api.keys.schemas import CreateKeyBody, RevokeKeyBody, RotateKeyBody, UpdateKeyBody
from platform_app.auth.keys.records import KeyFilter, KeyRecord, KeyStatus
from platform_app.auth.tokens import KeyEnvironment, Token

router = APIRouter(prefix="/v1/platform/api-keys")

KeyId = Annotated[str, Path(description="The public part of a key.")]
_Text = Annotated[str | None, Query(max_length=200)]


@router.post("", response_model=None, **CREATE)
async def create_key(
    caller: KeyManagerDep,
    body: Annotated[CreateKeyBody, Depends(json_body(CreateKeyBody))],
    context: ContextDep,
    resources: ResourcesDep,
) -> Response:
    """Create a key. Only this response contains its text."""
    new = body.new_key(resources.settings.key_environment)
    async with database_errors():
        peppers = await resources.peppers.current()
        record, token = await resources.lifecycle.create(new, peppers, actor_of(caller, context))
    return _secret(record, token, 201)


@router.get("", response_model=None, **LIST)
async def list_keys(
    caller: KeyReaderDep,
    resources: ResourcesDep,
    owner: _Text = None,
    environment: KeyEnvironment | None = None,
    status: KeyStatus | None = None,
    scope: _Text = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: _Text = None,
) -> Response:
    """List keys, newest first; without `platform:*` only those of the caller's owner."""
    async with database_errors():
        wanted = KeyFilter(owner, environment, status, scope)
        page = await resources.keys.list(wanted, only_owner=caller.only_owner, limit=limit, cursor=cursor)
    return _json({"data": [record.plain() for record in page.keys], "next_cursor": page.next_cursor})


@router.get("/{key_id}", response_model=None, **SHOW)
async def show_key(caller: KeyReaderDep, key_id: KeyId, resources: ResourcesDep) -> Response:
    """Return a key without its secret."""
    async with database_errors():
        return _json((await resources.keys.get(key_id, only_owner=caller.only_owner)).plain())


@router.patch("/{key_id}", response_model=None, **UPDATE)
async def update_key(
    caller: KeyManagerDep,
    key_id: KeyId,
    body: Annotated[UpdateKeyBody, Depends(json_body(UpdateKeyBody))],
    context: ContextDep,
    resources: ResourcesDep,
) -> Response:
    """Change the fields that the body contains."""
    async with database_errors():
        return _json((await resources.lifecycle.update(key_id, body.changes(), actor_of(caller, context))).plain())


@router.post("/{key_id}/rotate", response_model=None, **ROTATE)
async def rotate_key(
    caller: KeyManagerDep,
    key_id: KeyId,
    body: Annotated[RotateKeyBody, Depends(json_body(RotateKeyBody))],
    context: ContextDep,
    resources: ResourcesDep,
) -> Response:
    """Create a new secret, which is valid at once. The old one stays valid for the grace period."""
    async with database_errors():
        peppers = await resources.peppers.current()
        record, token = await resources.lifecycle.rotate(
            key_id, body.grace_period_seconds, peppers, actor_of(caller, context)
        )
    return _secret(record, token, 200)


@router.post("/{key_id}/revoke", response_model=None, **REVOKE)
async def revoke_key(
    caller: KeyManagerDep,
    key_id: KeyId,
    body: Annotated[RevokeKeyBody, Depends(json_body(RevokeKeyBody))],
    context: ContextDep,
    resources: ResourcesDep,
) -> Response:
    """Revoke a key. This cannot be undone."""
    async with database_errors():
        return _json((await resources.lifecycle.revoke(key_id, body.reason, actor_of(caller, context))).plain())


def _secret(record: KeyRecord, token: Token, status: int) -> Response:
    return _json({"key": token.text, "api_key": record.plain()}, status)


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
