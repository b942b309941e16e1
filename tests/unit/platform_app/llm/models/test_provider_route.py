"""One route: its credential, its timeouts, its entries in the attempt log."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from platform_app.errors import (
    ContentFiltered,
    ProviderAuthFailed,
    ProviderError,
    ProviderNotConfigured,
    ProviderRejectedRequest,
    ProviderTimeout,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.interfaces import ModelList, UpstreamResponse
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelCall, Operation, UpstreamCall
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.observability import metrics
from tests.support.timing.virtual_time import virtual_time

DONE = ModelResponse(b"{}", {"choices": [{"message": {}}]})


class Adapter:
    """Returns one response after the other, and records the calls."""

    def __init__(self, *responses: UpstreamResponse | Exception) -> None:
        self._answers = list(responses)
        self.sent: list[tuple[UpstreamCall, str | None]] = []

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        self.sent.append((call, credential))
        response = self._answers.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        raise NotImplementedError


class Credentials:
    def __init__(self, *values: str) -> None:
        self._values = list(values)
        self.refreshed: list[tuple[str, str]] = []

    async def get(self, name: str) -> str:
        if not self._values:
            raise ProviderNotConfigured(f"no {name}")
        return self._values[0]

    async def refresh(self, name: str, rejected: str) -> str:
        self.refreshed.append((name, rejected))
        return self._values[-1]


def upstream(adapter: Adapter, credentials: Credentials, **fields: object) -> ProviderRoute:
    route = Route("public", "openai", "gpt", **{"secret_name": "KEY", **fields})  # type: ignore[arg-type]
    return ProviderRoute(route, adapter, credentials)


def model_call(seconds: float = 5.0, **fields: object) -> ModelCall:
    deadline = asyncio.get_running_loop().time() + seconds
    return ModelCall({"messages": []}, deadline, **fields)  # type: ignore[arg-type]


async def test_response_is_returned_and_recorded() -> None:
    adapter = Adapter(DONE)
    route = upstream(adapter, Credentials("k1"))
    call = model_call(operation=Operation.EMBEDDINGS)
    assert await route.send(call) is DONE
    sent, credential = adapter.sent[0]
    assert (sent.model, sent.body, sent.operation, sent.stream) == ("gpt", call.body, Operation.EMBEDDINGS, False)
    assert call.deadline - asyncio.get_running_loop().time() <= sent.timeout_seconds <= 5, "what is left"
    assert credential == "k1"
    assert (call.attempt_log.attempts, call.attempt_log.route) == (1, route.route)


@pytest.mark.parametrize(("route_seconds", "left", "expected"), [(2.0, 5.0, 2.0), (9.0, 5.0, 5.0), (2.0, -1.0, 0.0)])
async def test_attempt_timeout_is_limited_by_deadline(route_seconds: float, left: float, expected: float) -> None:
    adapter = Adapter(DONE)
    await upstream(adapter, Credentials("k1"), timeout_seconds=route_seconds).send(model_call(left))
    assert adapter.sent[0][0].timeout_seconds == pytest.approx(expected, abs=0.2)


async def test_route_without_secret_sends_no_credential() -> None:
    adapter = Adapter(DONE)
    await upstream(adapter, Credentials(), secret_name=None).send(model_call())
    assert adapter.sent[0][1] is None


async def test_refused_credential_is_refreshed_and_retried_once() -> None:
    adapter, credentials = Adapter(ProviderAuthFailed("old"), DONE), Credentials("k1", "k2")
    call = model_call()
    assert await upstream(adapter, credentials).send(call) is DONE
    assert [credential for _, credential in adapter.sent] == ["k1", "k2"]
    assert credentials.refreshed == [("KEY", "k1")]
    assert call.attempt_log.attempts == 2

    adapter = Adapter(ProviderAuthFailed("old"), ProviderAuthFailed("new"))
    with pytest.raises(ProviderAuthFailed, match="new"):
        await upstream(adapter, Credentials("k1", "k2")).send(model_call())


async def test_unchanged_refused_credential_is_not_retried() -> None:
    adapter = Adapter(ProviderAuthFailed("old"))
    with pytest.raises(ProviderAuthFailed):
        await upstream(adapter, Credentials("k1")).send(model_call())
    assert len(adapter.sent) == 1


async def test_missing_credential_sends_nothing_and_names_route() -> None:
    adapter, call = Adapter(), model_call()
    route = upstream(adapter, Credentials())
    with pytest.raises(ProviderNotConfigured):
        await route.send(call)
    assert (call.attempt_log.attempts, call.attempt_log.route) == (0, route.route)


def counted(outcome: str) -> float:
    return float(metrics.PROVIDER_REQUESTS.labels("openai", "public", outcome)._value.get())


async def test_calls_are_counted_by_outcome() -> None:
    before = {outcome: counted(outcome) for outcome in ("ok", "provider_error", "client_closed")}

    async def rest() -> AsyncGenerator[ChatChunk, None]:
        yield ChatChunk(b"", {"choices": []})

    streams = [ChunkStream(ChatChunk(b"", {"choices": []}), rest()) for _ in range(2)]
    route = upstream(Adapter(ProviderError("x"), DONE, *streams), Credentials("k1"))
    with pytest.raises(ProviderError):
        await route.send(model_call())
    await route.send(model_call())
    assert counted("ok") == before["ok"] + 1
    whole, broken = [await route.send(model_call(stream=True)) for _ in range(2)]
    assert isinstance(whole, ChunkStream)
    assert isinstance(broken, ChunkStream)
    assert counted("ok") == before["ok"] + 1  # not before its end
    assert len([chunk async for chunk in whole]) == 2
    await broken.aclose()
    made = {outcome: counted(outcome) - before[outcome] for outcome in before}
    assert made == {"ok": 2, "provider_error": 1, "client_closed": 1}


SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (f"bad header '{SECRET}' and {SECRET}!", "bad header '[masked]' and [masked]!"),
        (f"cut off at {SECRET[:20]}", "cut off at [masked]"),
        ("nothing of it", "nothing of it"),
    ],
)
async def test_error_masks_the_credential(told: str, shown: str) -> None:
    error = ProviderRejectedRequest("refused", details=[told], param=f"headers.{SECRET}")
    with pytest.raises(ProviderRejectedRequest) as caught:
        await upstream(Adapter(error), Credentials(SECRET)).send(model_call())
    assert caught.value.details == [shown]
    assert caught.value.param is None


async def test_stream_error_masks_the_credential() -> None:
    async def rest() -> AsyncGenerator[ChatChunk, None]:
        yield ChatChunk(b"{}", {})
        raise ContentFiltered("refused", details=[f"not with {SECRET}"])

    adapter = Adapter(ChunkStream(ChatChunk(b"{}", {}), rest()))
    response = await upstream(adapter, Credentials(SECRET)).send(model_call(stream=True))
    assert isinstance(response, ChunkStream)
    with pytest.raises(ContentFiltered) as caught:
        _ = [chunk async for chunk in response]
    assert caught.value.details == ["not with [masked]"]


class SlowAdapter(Adapter):
    """Waits before its response, and records whether it was cancelled."""

    cancelled = False

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return await super().send(call, credential)


@virtual_time
async def test_stream_without_content_in_time_raises_timeout() -> None:
    """It is counted as a timeout of the provider, not as a disconnect."""
    before = counted("provider_timeout")
    adapter = SlowAdapter(DONE)
    with pytest.raises(ProviderTimeout) as caught:
        await upstream(adapter, Credentials("k1"), first_token_seconds=2.0).send(model_call(60, stream=True))
    assert caught.value.details == ["no content within 2 s (first_token_seconds)"]
    assert adapter.cancelled
    assert counted("provider_timeout") == before + 1


@virtual_time
async def test_first_token_timeout_ignores_whole_responses() -> None:
    adapter = SlowAdapter(DONE)
    assert await upstream(adapter, Credentials("k1"), first_token_seconds=2.0).send(model_call(60)) is DONE


@virtual_time
async def test_cancellation_before_first_token_stays_cancelled() -> None:
    adapter = SlowAdapter(DONE)
    sending = upstream(adapter, Credentials("k1"), first_token_seconds=2.0).send(model_call(60, stream=True))
    task = asyncio.create_task(sending)
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
