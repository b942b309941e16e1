"""The guard of a route: authenticate the caller, check the scope, and charge the rate limits.

Every route that is not public has a Guard. `route_check.py` refuses to start the process otherwise.

What is said about credentials depends on the form of the headers only, never on whether a key is valid, and repeats
nothing of them.
"""

import re
import time
from enum import StrEnum

from fastapi import Request
from starlette.types import Scope as AsgiScope

from apps.platform_api.http.query_parameters import refuse_unknown_parameters
from apps.platform_api.http.request_state import context_of, resources_of, route_template
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.errors import InsufficientScope, InvalidApiKey, MissingCredentials
from platform_app.observability import metrics
from platform_app.observability.context import ClientContract, RequestContext
from platform_app.observability.record import AUTH, OK
from platform_app.rate_limit.matching import LimitedRequest

KEY_HEADERS = {b"x-api-key": "X-API-Key", b"api-key": "api-key"}
"""Headers that hold the key alone: Anthropic's clients send the first one, Azure's clients the second one."""
_AUTHORIZATION = b"authorization"
_BEARER = re.compile(rb"bearer +(\S+)", re.IGNORECASE)
_KNOWN_SCHEMES = frozenset(
    {"basic", "digest", "token", "key", "apikey", "api-key", "negotiate", "hmac", "aws4-hmac-sha256", "oauth", "jwt"}
)
"""Only these are repeated in a message: the first part of another value may be a part of a key."""
_SEND = "Send the key as 'Authorization: Bearer <key>' or alone as 'X-API-Key: <key>'."


class LimitedBy(StrEnum):
    """Who calls the rate limiter for a guarded route. There is no fourth way."""

    GUARD = "guard"
    """The guard, before the handler runs."""
    CHAT_SERVICE = "chat service"
    """ChatService, which also knows the model, so that all rules cost one round trip."""
    NOTHING_CHARGED = "the handler, which charges nothing"
    """The handler returns the limits' state. Its response costs as much as a refusal, which is not charged either, and
    a caller whose limit is reached can still read it."""


class Guard:
    """Returns the caller of a request, who holds the scope. FastAPI routes use it as a dependency."""

    def __init__(self, scope: Scope | None, limited_by: LimitedBy = LimitedBy.GUARD) -> None:
        """
        Args:
            scope: what the key must hold. None allows every key; route_check.ANY_KEY lists these routes.
            limited_by: who calls the rate limiter.
        """
        self.scope = scope
        self.limited_by = limited_by

    async def __call__(self, request: Request) -> Caller:
        """Authenticate, check the scope, and charge the rules unless the handler's service does."""
        resources, context = resources_of(request), context_of(request)
        context.route = route_template(request.scope)
        began = time.perf_counter()
        caller = await resources.authenticator.authenticate(credentials(request.scope), context.client_address)
        context.record.hops.append((AUTH, began, time.perf_counter(), OK))
        context.key_id, context.owner = caller.key_id, caller.owner
        if self.scope is not None and not caller.may(self.scope):
            raise InsufficientScope(self.scope)
        if request.scope["query_string"]:
            refuse_unknown_parameters(request.scope, openai=context.contract is ClientContract.OPENAI)
        if self.limited_by is LimitedBy.GUARD:
            await resources.limits.charge(_limited_request(caller, context), context)
        elif self.limited_by is LimitedBy.CHAT_SERVICE and resources.limits.known_denials:
            # Before the body is read: a refusal must cost less than the refused request.
            resources.limits.refuse_known(_limited_request(caller, context), context)
        return caller


def _limited_request(caller: Caller, context: RequestContext) -> LimitedRequest:
    return LimitedRequest(caller.key_id, caller.owner, context.route, limits=caller.limits)


def credentials(scope: AsgiScope) -> str:
    """Return the key from `Authorization: Bearer <key>`, `X-API-Key: <key>` or `api-key: <key>`.

    Raises:
        MissingCredentials: the request has none of these headers.
        InvalidApiKey: a header has another form or is empty, or two headers hold different keys. The message says
            which.
    """
    found: dict[bytes, str] = {}  # by key, the header's name
    problem = None
    for name, value in scope["headers"]:
        if name == _AUTHORIZATION:
            match = _BEARER.fullmatch(value.strip())
            if match is None:
                problem = _wrong_authorization(value.strip())
            else:
                found.setdefault(match[1], "Authorization")
        elif name in KEY_HEADERS:
            if not value or b" " in value.strip():
                problem = _wrong_key_header(KEY_HEADERS[name], value.strip())
            else:
                found.setdefault(value, KEY_HEADERS[name])
    if problem is None and len(found) == 1:
        return next(iter(found)).decode("latin-1")
    if problem is None and not found:
        metrics.AUTH.labels("missing").inc()
        raise MissingCredentials
    metrics.AUTH.labels("malformed").inc()
    raise InvalidApiKey(f"{problem} {_SEND}" if problem else _different(list(found.values())))


def _wrong_authorization(value: bytes) -> str:
    """Describe an unusable Authorization header. It is refused even if another header holds a valid key: the gateway
    cannot know which of them the client means."""
    words = value.decode("latin-1").split()
    scheme = words[0].lower() if words else ""
    if not words:
        return "The header Authorization is empty: leave it out if the key is in another header."
    if scheme == "bearer":
        if len(words) == 1:
            return "The header Authorization holds 'Bearer' without a key behind it."
        twice = words[1].lower() == "bearer"
        return f"The header Authorization holds {'Bearer twice' if twice else 'more than one word behind Bearer'}."
    if scheme.startswith("bearer"):
        return "The header Authorization needs exactly 'Bearer' and a space before the key."
    if scheme in _KNOWN_SCHEMES and len(words) > 1:
        return f"The header Authorization has the scheme '{scheme}', which is not taken here: only Bearer is."
    return "The header Authorization does not begin with 'Bearer ': leave it out if the key is in another header."


def _wrong_key_header(name: str, value: bytes) -> str:
    if not value:
        return f"The header {name} is empty."
    return f"The header {name} takes the key alone, without 'Bearer' or spaces."


def _different(names: list[str]) -> str:
    if len(set(names)) == 1:
        return f"The header {names[0]} was sent more than once, with different keys. Send one key."
    shown = " and ".join(sorted(set(names), key=names.index))
    return (
        f"The headers {shown} hold different keys. Send one of them only: a client may fill Authorization with a "
        "placeholder by itself."
    )
