"""What load balancers, deploys and people ask about the process itself. No credentials, nothing secret.

Probes also take HEAD, as some load balancers send it; the server leaves the body out.
"""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from apps.platform_api.dependencies import ContextDep, ResourcesDep
from apps.platform_api.http.errors import error_body
from apps.platform_api.http.request_state import server_state_of
from apps.platform_api.system.openapi import HEALTH, META, READY
from apps.platform_api.version import SERVICE, VERSION
from platform_app.core_contracts import health_response, runtime_meta
from platform_app.errors import Draining

router = APIRouter()


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=None, **HEALTH)
async def healthz() -> Response:
    """The process runs. No I/O."""
    return JSONResponse(health_response(SERVICE, VERSION))


@router.head("/livez", include_in_schema=False)
@router.get("/livez", response_model=None, **HEALTH)
async def livez() -> Response:
    """The process runs; restart it when this stops responding. No I/O, so a dead dependency cannot fail it."""
    return JSONResponse(health_response(SERVICE, VERSION))


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=None, **READY)
async def readyz(request: Request, resources: ResourcesDep, context: ContextDep) -> Response:
    """Whether to send traffic here: 503 while draining or while a required part is down."""
    state = server_state_of(request)
    checks = [] if state.draining else await resources.readiness.checks()
    if state.draining:  # never from the cache, and it may have begun meanwhile
        error = Draining("This instance is shutting down.")
        context.note_error(error)
        return JSONResponse({"status": "draining", "checks": [], **error_body(error, context)}, 503)
    ready = all(check.ok or not check.required for check in checks)
    body = {
        "status": "ready" if ready else "unready",
        "checks": [
            {"name": check.name, "ok": check.ok, "required": check.required, "detail": check.detail} for check in checks
        ],
    }
    return JSONResponse(body, 200 if ready else 503)


@router.get("/v1/meta", response_model=None, **META)
async def meta(resources: ResourcesDep) -> Response:
    """What runs here, and how it stands to flowbiz-ai-core."""
    settings = resources.settings
    core = resources.core
    runtime = runtime_meta(SERVICE, settings.env, VERSION, settings.build_sha)
    return JSONResponse(
        {
            **runtime,
            "runtime": runtime,
            "core": {"pinned": core.pinned, "installed": core.installed, "compatible": core.compatible},
        }
    )
