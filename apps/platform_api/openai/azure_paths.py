"""Azure's addresses for routes of OpenAI's contract, so that Azure's clients need nothing but another endpoint.

Each is another name of a route that exists: the request goes to that route, with its guard, its scope and its limits,
and is recorded under its name. A rule for `/v1/chat/completions` holds whichever address a client uses.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/reference. `/openai/deployments/{deployment}/…` names the
model in the path, and a model in the body means nothing there; `/openai/v1/…` and `/openai/models` are OpenAI's own
paths below another root. Every `api-version` is taken (apps/platform_api/http/query_parameters.py).
"""

import re
from urllib.parse import unquote

from starlette.types import Scope

ROOT = "/openai/"
_DEPLOYMENT = re.compile(r"/openai/deployments/(.+)(/chat/completions|/embeddings)", re.DOTALL)
_SAME_BELOW_V1 = frozenset({"/chat/completions", "/embeddings", "/models", "/responses"})
_MODEL = "/models/"


def serve_azure_path(scope: Scope) -> bool:
    """Rewrite the path of a request to the route that it names, and note the deployment; False where there is none."""
    path: str = scope["path"]
    if not path.startswith(ROOT):
        return False
    if (named := _DEPLOYMENT.fullmatch(path)) is not None:
        scope["state"]["deployment"] = unquote(named[1])  # the server leaves encoded slashes as they are
        scope["path"] = f"/v1{named[2]}"
        return True
    rest = path[len("/openai") :].removeprefix("/v1")
    if rest in _SAME_BELOW_V1 or (rest.startswith(_MODEL) and rest != _MODEL):
        scope["path"] = f"/v1{rest}"
        return True
    return False


def deployment_of(scope: Scope) -> str | None:
    """The model that the path names, which counts instead of the body's; None on other paths."""
    deployment: str | None = scope.get("state", {}).get("deployment")
    return deployment
