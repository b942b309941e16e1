"""Write a whole chat completion as a Response object."""

from typing import Any

from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.stream import ResponseWriter
from platform_app.llm.usage.counts import TokenUsage


def response_of_chat(completion: ModelResponse, envelope: Envelope, usage: TokenUsage | None) -> dict[str, Any]:
    """Return the Response object of the first choice. `usage`: the counts of the call, if they are known."""
    writer = ResponseWriter(envelope, discard=True)
    choices = completion.body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict):
        writer.choice(choice, choice.get("message"))
    if writer.broken_off:
        error = {"code": "server_error", "message": "The provider ended the response early."}
        return envelope.response("failed", usage=usage, error=error)
    return writer.response(usage)
