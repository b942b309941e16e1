"""The simulator's faults, and the model names and headers that select them."""

import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

MODEL_PREFIX = "sim-"
FAULT_HEADER = "x-sim-fault"
ALIASES: tuple[str, ...] = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small")
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,6})?")


class UnknownFaultError(ValueError):
    """A request named an unknown fault, or gave an invalid parameter."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave. `default` is the default of its parameter, in `unit`; both are None without a parameter."""

    name: str
    description: str
    default: float | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A fault chosen for one request, with the parameter to use (0.0 for a fault without one)."""

    fault: Fault
    value: float


_ALL = (
    Fault("ok", "a correct response at once"),
    Fault("delay", "a correct response whose headers come late", 2000, "ms"),
    Fault("slow-first-token", "a stream's headers come at once, its first chunk late; JSON: as delay", 2000, "ms"),
    Fault("slow-stream", "a pause between chunks; JSON: between the eighths of the body", 200, "ms"),
    Fault("bad-request", "400 invalid_request_error with a param"),
    Fault("context-length", "400 context_length_exceeded"),
    Fault("content-filter", "400 content_filter"),
    Fault("unauthorized", "401 invalid_api_key; the message echoes the key, masked as OpenAI does"),
    Fault("forbidden", "403 permission error"),
    Fault("not-found", "404 model_not_found"),
    Fault("rate-limited", "429 rate_limit_exceeded with Retry-After", 1, "s"),
    Fault("quota", "429 insufficient_quota: never worth a retry"),
    Fault("server-error", "500 server_error"),
    Fault("overloaded", "503 server_is_overloaded with Retry-After", 1, "s"),
    Fault("bad-gateway-html", "502 with a text/html page, as a proxy in between sends"),
    Fault("drop", "the connection is aborted before any byte of a response"),
    Fault("drop-mid-body", "half of the promised content-length, then the connection is aborted"),
    Fault("stream-drop", "some good chunks, half of one, abort; JSON: half of a chunked body, abort", 2, "chunks"),
    Fault("stream-hang", "some good chunks, then nothing; JSON: half of the body, then nothing", 2, "chunks"),
    Fault("hang", "the request is accepted and gets no response"),
    Fault("malformed-json", "200 with broken JSON; stream: one data line of broken JSON, then [DONE]"),
    Fault("wrong-shape", '200 with {"hello": "world"}; stream: the same as a data line, then [DONE]'),
    Fault("wrong-content-type", "200 with a text/html page"),
    Fault("huge-body", "one JSON string without an end; stream: ordinary chunks without an end", 1024, "MiB"),
    Fault("huge-line", "a stream whose one line never ends, aborted at the size; JSON: as huge-body", 1024, "MiB"),
    Fault("stream-error", "some good chunks, an error object as a data line, end; JSON: 200 with it", 2, "chunks"),
    Fault("stream-truncated", "some good chunks, a clean end, no [DONE]; JSON: half of the body", 2, "chunks"),
    Fault("stream-failed", "as stream-error; Responses: the response has status failed, and its error", 2, "chunks"),
    Fault("stream-malformed", "some good chunks, a data line of broken JSON, the rest; JSON: broken", 2, "chunks"),
    Fault(
        "flaky",
        "500 for the first requests, then correct responses; counted by x-sim-key, user or model",
        2,
        "requests",
    ),
    Fault("odd-usage", "a correct response with implausible usage; by number, see odd_usage.py", 0, "shape"),
    Fault("refused", "connection refused: use the simulator's refused_url; over a connection it acts as drop"),
    Fault("detail-list", '422 with {"detail": [{"loc", "msg"}]}, as FastAPI says it (Mistral)'),
    Fault("flat-error", '400 with {"object": "error", "message"}, as vLLM says it'),
    Fault("error-text", '400 with {"error": "text"}, as Ollama says it'),
    Fault("plain-text", "400 with a line of text"),
    Fault("payment-required", "402: no credit is left"),
    Fault("method-not-allowed", "405, as from a wrong base URL"),
    Fault("conflict", "409 about the request"),
    Fault("no-endpoints", "404 of OpenRouter: no server that has the model supports tools"),
    Fault("moderation", "403 of OpenRouter: the input was flagged"),
    Fault("context-words", "400 that says in words alone that the request is too long"),
    Fault("failure-in-200", "200 with a JSON error, also where a stream was asked for"),
    Fault("odd-type", "a correct response under application/octet-stream"),
    Fault("always-stream", "server-sent events also without stream"),
    Fault("never-stream", "one JSON response also with stream"),
    Fault("filtered", "a response whose content a filter removed"),
    Fault("half-surrogate", "a correct response with half of an emoji in it"),
    Fault("null-choices", "a correct response; stream: with a chunk whose choices are null"),
    Fault("empty-events", "a correct response; stream: with empty events, and a space after [DONE]"),
    Fault("bom", "a correct response after a byte order mark; stream: with CR as line end"),
    Fault("role-then-error", "500 within a 200; stream: chunks without content, and then an error"),
    Fault("interleaved", "a correct response; stream: interleaved blocks or tool calls"),
    Fault("redirect", "302 to a path that counts how often it was followed; clients must not"),
)
FAULTS: MappingProxyType[str, Fault] = MappingProxyType({fault.name: fault for fault in _ALL})
"""Every fault by name."""

MODELS: tuple[str, ...] = (f"{MODEL_PREFIX}ok", *ALIASES, *(f"{MODEL_PREFIX}{n}" for n in FAULTS if n != "ok"))
"""The model names that `GET /v1/models` lists; any other name without the prefix also gets a correct response."""

_OK = ScriptedFault(FAULTS["ok"], 0.0)


@lru_cache(maxsize=1024)
def fault_of_model(model: str) -> ScriptedFault:
    """Return the fault of a model name: `sim-<fault>`, `sim-<fault>-<number>`, either with a suffix `@label`.

    The label only makes the name unique, so that tests count separately. Names without the prefix select `ok`.

    Raises:
        UnknownFaultError: the name has the prefix, but not a fault of the catalog.
    """
    if not model.startswith(MODEL_PREFIX):
        return _OK
    wanted = model.removeprefix(MODEL_PREFIX).partition("@")[0]
    if wanted in FAULTS:
        return _scripted(wanted, None)
    name, _, number = wanted.rpartition("-")
    return _scripted(name, number)


@lru_cache(maxsize=1024)
def fault_of_header(value: str) -> ScriptedFault:
    """Return the fault of an `x-sim-fault` header: `<fault>` or `<fault>=<number>`.

    Raises:
        UnknownFaultError: the catalog does not have the fault, or the number is invalid.
    """
    name, separator, number = value.strip().partition("=")
    return _scripted(name.strip(), number.strip() if separator else None)


def _scripted(name: str, number: str | None) -> ScriptedFault:
    fault = FAULTS.get(name)
    if fault is None:
        raise UnknownFaultError(f"The simulator has no fault {name!r}. It has: {', '.join(FAULTS)}.")
    if number is None:
        return ScriptedFault(fault, fault.default or 0.0)
    if not _NUMBER.fullmatch(number):
        raise UnknownFaultError(f"The parameter of the fault {name!r} must be a number, not {number!r}.")
    return ScriptedFault(fault, float(number))
