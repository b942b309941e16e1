"""Estimate what a provider bills for attempts whose response the gateway did not read to its end.

A provider bills what it generated, whether or not the response was read:

- A call without a stream is generated to its end, also after the client or a timeout closed the connection. Its output
  is estimated by what the request allows, at most `default_output_tokens` for each choice, or by what has arrived.
- A provider stops a stream when its connection closes. Its output is estimated by what has arrived.
- A request that was not sent, or that the provider refused with an error status, costs nothing.
"""

from collections.abc import Iterable

from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.token_estimate import estimate_text_tokens
from platform_app.observability.record import OK, AttemptRecord

STREAM_BYTES_PER_TOKEN = 200
"""Bytes of a stream for each token: events of OpenAI's and Anthropic's formats have about one token each."""
_BILLED = frozenset({OK, "client_closed", "provider_timeout", "provider_bad_response", "internal_error"})
"""Outcomes after which the provider has processed the request, or still does."""


def unread_usage(
    attempts: Iterable[AttemptRecord], prompt_tokens: int, most_output: int, usual_output: int
) -> TokenUsage | None:
    """Return the estimated tokens of all these attempts together, or None if the provider bills none of them.

    Args:
        attempts: the attempts of a call that ended without a response.
        prompt_tokens: the estimated tokens of the prompt.
        most_output: the output tokens that the request allows.
        usual_output: the output tokens that a whole response is estimated at.
    """
    prompt = output = 0
    for attempt in attempts:
        if attempt.request_sent and attempt.outcome in _BILLED:
            prompt += prompt_tokens
            output += min(most_output, _output(attempt, usual_output))
    return TokenUsage(prompt, output, prompt + output) if prompt or output else None


def _output(attempt: AttemptRecord, usual: int) -> int:
    if attempt.stream:
        return -(-attempt.received_bytes // STREAM_BYTES_PER_TOKEN)
    arrived = estimate_text_tokens(attempt.received_bytes)
    return arrived if attempt.received_all else max(arrived, usual)
