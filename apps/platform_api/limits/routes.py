"""GET /v1/platform/limits: the limits of the caller's key, and their remaining units."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from apps.platform_api.dependencies import AnyKeyDep, ResourcesDep
from apps.platform_api.limits.headers import rate_limit_headers
from apps.platform_api.limits.openapi import READ
from apps.platform_api.limits.schemas import limit_view
from platform_app.config.limits.checks import LIMITED_ROUTES, ROUTES_WITH_MODEL
from platform_app.errors import ModelNotAllowed, ValidationFailed
from platform_app.rate_limit.matching import LimitedRequest

router = APIRouter()


@router.get("/v1/platform/limits", response_model=None, **READ)
async def read_limits(
    caller: AnyKeyDep,
    resources: ResourcesDep,
    route: Annotated[str, Query(max_length=200, description="A route template.")] = "/v1/platform/chat",
    model: Annotated[
        str | None, Query(min_length=1, max_length=128, description="Without it the default model is used.")
    ] = None,
) -> Response:
    """Return every rule as it applies to a request of the caller to that route and model. Charges nothing."""
    if route not in LIMITED_ROUTES:
        raise ValidationFailed(
            "The request is not valid.", details=[f"route: choose one of {', '.join(sorted(LIMITED_ROUTES))}"]
        )
    found = resources.models.find(model) if route in ROUTES_WITH_MODEL else None
    if found is not None and model is not None and not found.is_allowed(caller.allowed_models):
        raise ModelNotAllowed(f"This API key may not use the model '{found.shown_name}'.")
    asked = None if found is None else found.name
    explained = await resources.limits.explain(LimitedRequest(caller.key_id, caller.owner, route, asked, caller.limits))
    headers = rate_limit_headers([state for _, state in explained if state is not None])
    data = [limit_view(each, state) for each, state in explained]
    content = orjson.dumps({"route": route, "model": asked, "data": data})
    return Response(content, headers=headers, media_type="application/json")
