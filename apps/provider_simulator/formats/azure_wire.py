"""Azure OpenAI: OpenAI's format with its own key header, errors and content filter results.

Sources: https://learn.microsoft.com/azure/ai-foundry/openai/reference and …/concepts/content-filter.
"""

from collections.abc import Mapping

import orjson

from apps.provider_simulator.formats.openai_chat import ChatAnswer, sse_event
from apps.provider_simulator.formats.openai_wire import OpenAIWire
from apps.provider_simulator.formats.wire import Problem, Refusal, bearer_or
from apps.provider_simulator.model.simulated_model import JsonObject

_SAFE = {
    kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")
}  # fmt: skip
_PROMPT_RESULTS = [{"prompt_index": 0, "content_filter_results": _SAFE}]


class AzureChatAnswer(ChatAnswer):
    """A chat response with the content filter's results. A stream begins with those of the prompt."""

    before_text = 1

    def json(self) -> bytes:
        """Return the JSON response; as `Answer.json`."""
        body: JsonObject = orjson.loads(super().json())
        choices = body["choices"]
        if isinstance(choices, list):
            body["choices"] = [{**choice, "content_filter_results": _SAFE} for choice in choices]
        return orjson.dumps({**body, "prompt_filter_results": _PROMPT_RESULTS})

    def events(self) -> list[bytes]:
        """Return the events; as `Answer.events`."""
        first = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        return [sse_event({**first, "prompt_filter_results": _PROMPT_RESULTS}), *super().events()]


class AzureWire(OpenAIWire):
    """See Wire."""

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Implement Wire.key."""
        return bearer_or("api-key", headers)

    def refusal(self, problem: Problem) -> Refusal:
        """Implement Wire.refusal."""
        p = problem
        match p.name:
            case "no-key" | "unauthorized":
                message = (
                    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid "
                    "key for an active subscription and use a correct regional API endpoint for your resource."
                )
                return _refusal(401, "401", message)
            case "unknown-url":
                return _refusal(404, "404", "Resource not found")
            case "forbidden":
                return _refusal(403, "403", "Access denied due to Virtual Network/Firewall rules.")
            case "not-found":
                return _refusal(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
            case "content-filter":
                found = {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
                inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": found}
                message = (
                    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
                    "Please modify your prompt and retry."
                )
                details = {"type": None, "param": "prompt", "status": 400, "innererror": inner}
                return _refusal(400, "content_filter", message, details=details)
            case "rate-limited":
                message = (
                    f"Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry "
                    f"after {p.value:g} seconds."
                )
                return _refusal(429, "429", message, retry_after=p.value)
            case "overloaded":
                return _refusal(503, "ServiceUnavailable", "The service is temporarily busy.", retry_after=p.value)
            case _:
                return super().refusal(problem)


def _refusal(
    status: int, code: str, message: str, retry_after: float | None = None, details: Mapping[str, object] | None = None
) -> Refusal:
    return Refusal(status, orjson.dumps({"error": {"code": code, "message": message, **(details or {})}}), retry_after)
