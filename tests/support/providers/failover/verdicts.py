"""Verdicts by the benchmark's rules, from what the caller got and what the provider saw."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from tests.support.gateway.process import Gateway
from tests.support.providers.failover.faulty_provider import TEXT, Attempt

HANG_SECONDS = 90.0
"""A request without a response by then hangs; every timeout of the gateway in these tests is a few seconds."""


class Verdict(StrEnum):
    """The benchmark's names."""

    PASS = "pass"
    """The caller got the whole response (or the right error, if that is ideal), and every check holds."""
    PARTIAL = "partial"
    """The same, but an advisory check does not hold."""
    SAFE = "safe"
    """A clean error in bounded time, and every required check holds."""
    FAIL = "fail"
    """A hang, a truncated response that looks like a success, or a required check that does not hold."""


@dataclass(frozen=True)
class Seen:
    """One request from both sides."""

    status: int
    """0: the request hung."""
    text: str
    error_code: str | None
    """The code in the response, or in an event of a stream that had begun."""
    model: str | None
    """The model that responded, from `x-platform-model`: the body's `model` is the public name of the request."""
    usage: dict[str, Any] | None
    primary: Sequence[Attempt]
    fallback: Sequence[Attempt]
    alive_after: bool = True

    @property
    def success(self) -> bool:
        return self.status == 200 and self.error_code is None

    @property
    def complete(self) -> bool:
        return self.success and self.text == TEXT

    @property
    def first_gap_seconds(self) -> float:
        """Seconds between the first two attempts at the primary; 0 if there is only one."""
        return self.primary[1].at - self.primary[0].at if len(self.primary) > 1 else 0.0


@dataclass(frozen=True)
class Check:
    """One check in addition to the response itself."""

    name: str
    holds: bool
    advisory: bool = False


def judge(seen: Seen, checks: Sequence[Check], *, ideal_error: str | None = None) -> tuple[Verdict, list[str]]:
    """Return the verdict, and the names of the checks that do not hold. `ideal_error`: the code of the error that is
    the right response."""
    broken = [check.name for check in checks if not check.holds]
    if seen.status == 0:
        return Verdict.FAIL, ["hang", *broken]
    if seen.success and not seen.complete:
        return Verdict.FAIL, ["truncated success", *broken]
    if any(not check.holds and not check.advisory for check in checks):
        return Verdict.FAIL, broken
    if ideal_error is not None and seen.success:
        return Verdict.PARTIAL, ["a rejection was routed around"]
    good = seen.complete if ideal_error is None else seen.error_code == ideal_error
    if not good:
        return Verdict.SAFE, broken
    return (Verdict.PARTIAL if broken else Verdict.PASS), broken


@dataclass(frozen=True)
class Response:
    """A response as a careful client reads it."""

    status: int
    text: str = ""
    error_code: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


async def ask(client: httpx.AsyncClient, gateway: Gateway, key: str, model: str, *, stream: bool) -> Response:
    """Send one chat to the OpenAI route; a hang becomes a response with the status 0."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Sixty words, please."}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    url, headers = f"{gateway.base_url}/v1/chat/completions", {"Authorization": f"Bearer {key}"}
    try:
        response = await client.post(url, headers=headers, json=body, timeout=HANG_SECONDS)
    except httpx.TimeoutException:
        return Response(0)
    if response.status_code != 200:
        return Response(response.status_code, error_code=response.json()["error"]["code"])
    answered = response.headers["x-platform-model"]
    if not stream:
        content = response.json()
        return Response(200, content["choices"][0]["message"]["content"], None, answered, content.get("usage"))
    return _read_stream(response.text, answered)


def _read_stream(text: str, model: str) -> Response:
    parts: list[str] = []
    usage, done = None, False
    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if data == line:
            continue
        if data == "[DONE]":
            done = True
            break
        content = json.loads(data)
        if "error" in content:
            return Response(200, "".join(parts), content["error"]["code"], model, usage)
        usage = content.get("usage") or usage
        parts += [choice["delta"].get("content") or "" for choice in content["choices"]]
    return Response(200, "".join(parts), None if done else "no [DONE]", model, usage)


async def alive(client: httpx.AsyncClient, gateway: Gateway, key: str) -> bool:
    """Return whether a request to a working model through the same gateway succeeds."""
    return (await ask(client, gateway, key, "healthy", stream=False)).text == TEXT


def elapsed_since(began: float) -> float:
    """Return the seconds since a time.monotonic()."""
    return time.monotonic() - began
