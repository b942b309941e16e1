"""Every name that a span carries.

HTTP: the stable semantic conventions of OpenTelemetry. Model calls: the GenAI conventions
(open-telemetry/semantic-conventions-genai, status Development), or OpenInference's names, by PLATFORM_TRACE_NAMES.
What neither convention names has the prefix `platform.`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SERVICE = "flowbiz-platform"

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
PROTOCOL_VERSION = "network.protocol.version"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
USER_AGENT = "user_agent.original"
ERROR_TYPE = "error.type"
EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"

REQUEST_ID = "platform.request_id"
KEY_ID = "platform.key_id"
OWNER = "platform.owner"
PUBLIC_MODEL = "platform.model"
DECISION = "platform.decision"
REASON = "platform.reason"
DENIED_BY = "platform.denied_by"
"""The rule that denied the request."""
OVERHEAD_MS = "platform.overhead_ms"
KEPT = "platform.trace.kept"
"""Why the trace was exported: sampled, failed, slow."""
OUTCOME = "platform.outcome"
"""Of a hop or an attempt: ok, an error code, client_closed."""
AFTER = "platform.after"
"""The error before a retry or a fallback."""
UPSTREAM_REQUEST_ID = "platform.upstream.request_id"
"""The provider's id of the request, which its support asks for."""
ATTEMPT_NUMBER = "platform.attempt"
"""1 for the first attempt that was sent."""
FALLBACK_EVENT = "fallback"
NOT_SENT_EVENT = "attempt_not_sent"

TraceNames = Literal["genai", "openinference"]


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The names for one call to a model. None: the convention has no such name, so `platform.` or nothing is used."""

    provider: str
    request_model: str
    input_tokens: str
    output_tokens: str
    total_tokens: str | None
    cached_tokens: str
    cache_write_tokens: str
    reasoning_tokens: str
    cost_usd: str
    prompt: str
    output: str
    content_type: Mapping[str, str] | None = None
    """Attributes that accompany prompt and output."""
    operation: str | None = None
    response_model: str = "gen_ai.response.model"
    response_id: str = "gen_ai.response.id"
    stream: str = "gen_ai.request.stream"
    max_tokens: str = "gen_ai.request.max_tokens"
    temperature: str = "gen_ai.request.temperature"
    parameters: str | None = None
    """One JSON text with max_tokens and temperature, in place of one attribute for each."""
    finish_reasons: str = "gen_ai.response.finish_reasons"
    finish_reason_list: bool = True
    """Whether finish reasons are a list, one for each choice."""
    first_chunk: str = "gen_ai.response.time_to_first_chunk"
    """Seconds from the attempt's start to its first chunk."""
    span_kind: str | None = None
    span_kinds: Mapping[str, str] | None = None
    """OpenInference's kind of a span, by gen_ai.operation.name."""
    other_span_kind: str | None = None
    """OpenInference's kind of every other span."""


GEN_AI = ModelNames(
    operation="gen_ai.operation.name",
    provider="gen_ai.provider.name",
    request_model="gen_ai.request.model",
    input_tokens="gen_ai.usage.input_tokens",
    output_tokens="gen_ai.usage.output_tokens",
    total_tokens=None,
    cached_tokens="gen_ai.usage.cache_read.input_tokens",
    # The published name. The convention's main branch has renamed it to gen_ai.usage.cache_write.input_tokens.
    cache_write_tokens="gen_ai.usage.cache_creation.input_tokens",
    reasoning_tokens="gen_ai.usage.reasoning.output_tokens",
    cost_usd="platform.cost_usd",
    prompt="gen_ai.input.messages",
    output="gen_ai.output.messages",
)
OPEN_INFERENCE = ModelNames(
    provider="llm.provider",
    request_model="llm.model_name",
    input_tokens="llm.token_count.prompt",
    output_tokens="llm.token_count.completion",
    total_tokens="llm.token_count.total",
    cached_tokens="llm.token_count.prompt_details.cache_read",
    cache_write_tokens="llm.token_count.prompt_details.cache_write",
    reasoning_tokens="llm.token_count.completion_details.reasoning",
    cost_usd="llm.cost.total",
    prompt="input.value",
    output="output.value",
    content_type={"input.mime_type": "application/json", "output.mime_type": "application/json"},
    parameters="llm.invocation_parameters",
    finish_reasons="llm.finish_reason",
    finish_reason_list=False,
    span_kind="openinference.span.kind",
    span_kinds={"chat": "LLM", "text_completion": "LLM", "generate_content": "LLM", "embeddings": "EMBEDDING"},
    other_span_kind="CHAIN",
)


def model_names(names: TraceNames) -> ModelNames:
    """Return the names of this convention."""
    return OPEN_INFERENCE if names == "openinference" else GEN_AI
