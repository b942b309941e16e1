"""What each of the sixteen providers does, what is checked, and the verdict of the gateway."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.support.providers.failover.faulty_provider import (
    CUT_AFTER,
    MALFORMED_AT,
    RETRY_AFTER_SECONDS,
    STALL_AFTER,
    WORDS,
    Call,
    Fault,
)
from tests.support.providers.failover.verdicts import Check, Seen, Verdict

FIRST_TOKEN_SECONDS = 1.0
"""The first-token timeout of routes whose provider is idle or slow; nothing else in these tests is time-critical."""


async def rate_limited_once(call: Call) -> None:
    if call.number == 1:
        await call.fail(429, "rate_limit_exceeded", "Slow down.", f"Retry-After: {RETRY_AFTER_SECONDS}\r\n")
    else:
        await call.good()


async def rate_limited(call: Call) -> None:
    await call.fail(429, "rate_limit_exceeded", "Slow down.")


async def broken_once(call: Call) -> None:
    await (call.fail(500, None, "An internal error.") if call.number == 1 else call.good())


async def overloaded(call: Call) -> None:
    await call.fail(503, "overloaded", "The engine is overloaded.")


async def reset_once(call: Call) -> None:
    if call.number == 1:
        call.cut(reset=True)
    await call.good()


async def no_response(call: Call) -> None:
    await call.silence()


async def slow_first_token(call: Call) -> None:
    await call.begin_stream()
    await call.silence()


async def stream_cut(call: Call) -> None:
    await call.begin_stream()
    await call.words(0, CUT_AFTER)
    call.cut()


async def stream_stall(call: Call) -> None:
    await call.begin_stream()
    await call.words(0, STALL_AFTER)
    await call.silence()


async def malformed_chunk(call: Call) -> None:
    await call.begin_stream()
    await call.words(0, MALFORMED_AT)
    await call.event(b'{"id": "chatcmpl-1", "choices": [{"delta": {"content": ')
    await call.words(MALFORMED_AT, len(WORDS))
    await call.finish()


async def no_done(call: Call) -> None:
    await call.begin_stream()
    await call.words(0, len(WORDS))
    await call.finish(done=False)


async def context_length(call: Call) -> None:
    await call.fail(400, "context_length_exceeded", "The maximum context length is 8192 tokens; you sent 9631.")


async def content_filter(call: Call) -> None:
    await call.fail(400, "content_policy_violation", "Your request was rejected by our safety system.")


async def no_prefill(call: Call) -> None:
    """A fallback that refuses to continue the beginning of another response."""
    if call.attempt.messages[-1]["role"] == "assistant":
        await call.fail(400, "invalid_prefill", "This model does not support assistant message prefill.")
    else:
        await call.good()


async def role_then_silence(call: Call) -> None:
    """A chunk with a role only."""
    await call.begin_stream()
    await call.chunk({"role": "assistant", "content": ""})
    await call.silence()


async def comments_then_silence(call: Call) -> None:
    """What OpenRouter sends while a request is queued."""
    await call.begin_stream()
    await call.send(b"19\r\n: OPENROUTER PROCESSING\n\n\r\n")
    await call.silence()


async def anthropic_start_then_silence(call: Call) -> None:
    """A message begins, followed by a ping."""
    message = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
        b'"model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
        b'event: ping\ndata: {"type":"ping"}\n\n'
    )
    await call.begin_stream()
    await call.send(b"%x\r\n%b\r\n" % (len(message), message))
    await call.silence()


CONTENTLESS: Mapping[str, Fault] = {
    "role-only": role_then_silence,
    "comments-only": comments_then_silence,
    "anthropic-start-only": anthropic_start_then_silence,
}
"""Streams that begin without content."""


async def ends_early(call: Call) -> None:
    """Truncated, although HTTP framing says that it is complete."""
    await call.begin_stream()
    await call.words(0, CUT_AFTER)
    await call.send(b"0\r\n\r\n")


async def ends_early_with_connection(call: Call) -> None:
    """The connection's end is the response's end, and comes too early."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    await call.send(b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "word0"}}]}\n\ndata: {"cho')
    call.cut()


async def body_cut(call: Call) -> None:
    """A response without a stream, of which half arrives."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n" + _HALF)
    call.cut()


async def body_cut_with_connection(call: Call) -> None:
    """The same from a server that sends no length."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + _HALF)
    call.cut()


_HALF = b'{"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "word0'
TRUNCATED: Mapping[str, tuple[Fault, bool]] = {
    "stream-ends-early": (ends_early, True),
    "stream-ends-with-connection": (ends_early_with_connection, True),
    "body-cut": (body_cut, False),
    "body-cut-with-connection": (body_cut_with_connection, False),
}
"""More truncated responses than those of the benchmark, and whether they are streams."""

Checks = Callable[[Seen], Sequence[Check]]


def _attempts(most: int) -> Checks:
    return lambda seen: [Check(f"at most {most} attempts at the primary", len(seen.primary) <= most)]


def _once(seen: Seen) -> Sequence[Check]:
    return [Check("not sent to the same model again", len(seen.primary) == 1)]


def _retry_after(seen: Seen) -> Sequence[Check]:
    return [
        Check("retried", len(seen.primary) >= 2, advisory=True),
        Check("Retry-After honoured", seen.first_gap_seconds >= RETRY_AFTER_SECONDS * 0.9, advisory=True),
        Check("no hammering", len(seen.primary) <= 2),
    ]


def _backs_off(seen: Seen) -> Sequence[Check]:
    return [Check("no hammering", len(seen.primary) <= 4)]


def _same_provider(seen: Seen) -> Sequence[Check]:
    return [Check("retried at the same provider", len(seen.primary) >= 2, advisory=True)]


def _silent_once(seen: Seen) -> Sequence[Check]:
    return [Check("the silent route is not asked again", len(seen.primary) == 1, advisory=True)]


def _first_token(seen: Seen) -> Sequence[Check]:
    """The provider sends nothing, so only a first-token timeout leads to a response."""
    gone = [attempt.client_gone.is_set() for attempt in seen.primary]
    return [
        Check("a limit for the first token", gone == [True] and len(seen.fallback) == 1, advisory=True),
    ]


def _lives(seen: Seen) -> Sequence[Check]:
    return [Check("healthy afterwards", seen.alive_after)]


def _usage(seen: Seen) -> Sequence[Check]:
    return [Check("usage is reported", bool(seen.usage), advisory=True)]


def _no_prefill_error(seen: Seen) -> Sequence[Check]:
    asked = [attempt.messages[-1]["role"] for attempt in seen.fallback]
    masked = not seen.success and "assistant" in asked
    return [Check("the prefill error does not hide the real one", not masked)]


def _accounting(seen: Seen) -> Sequence[Check]:
    return [
        Check("the fallback's model is reported", seen.model == "healthy"),
        Check("attempts are bounded", len(seen.primary) <= 6),
        *_usage(seen),
    ]


@dataclass(frozen=True)
class Scenario:
    """The fault of one provider, with a working model behind it."""

    title: str
    fault: Fault
    verdict: Verdict
    """What the gateway gets."""
    checks: Checks
    fallback: str = "healthy"
    first_token_seconds: float | None = None
    ideal_error: str | None = None
    error_code: str | None = None
    """The error that the caller gets, if the verdict is safe."""


P, S = Verdict.PASS, Verdict.SAFE
INCOMPLETE = "provider_bad_response"
SCENARIOS: Mapping[str, Scenario] = {
    "S01": Scenario("429 with Retry-After", rate_limited_once, P, _retry_after),
    "S02": Scenario("429 without Retry-After, persistent", rate_limited, P, _backs_off),
    "S03": Scenario("500 once, then healthy", broken_once, P, _same_provider),
    "S04": Scenario("503 persistent", overloaded, P, _attempts(6)),
    "S05": Scenario("TCP reset before headers", reset_once, P, _attempts(6)),
    "S06": Scenario("No response at all", no_response, P, _silent_once, first_token_seconds=FIRST_TOKEN_SECONDS),
    "S07": Scenario("Slow first token", slow_first_token, P, _first_token, first_token_seconds=FIRST_TOKEN_SECONDS),
    "S08": Scenario("Stream cut mid-answer", stream_cut, S, _lives, error_code=INCOMPLETE),
    "S09": Scenario("Stream stalls", stream_stall, S, _lives, error_code="provider_timeout"),
    "S10": Scenario("Malformed chunk in the stream", malformed_chunk, S, _lives, error_code=INCOMPLETE),
    "S11": Scenario("Stream ends without [DONE]", no_done, P, _usage),
    "S12": Scenario("Context length exceeded", context_length, P, _once),
    "S13": Scenario("Content-filter rejection", content_filter, P, _once, ideal_error="content_filtered"),
    "S14": Scenario(
        "Fallback target rejects prefill", stream_cut, S, _no_prefill_error, "no-prefill", error_code=INCOMPLETE
    ),
    "S16": Scenario("Fail-over accounting", overloaded, P, _accounting),
}
"""S15 is a sequence with a separate test."""
FLAPPING = "S15"
FLAPPING_TITLE = "Primary flaps: down, then healthy"
