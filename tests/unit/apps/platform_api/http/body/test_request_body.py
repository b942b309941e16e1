"""A body is bounded in size, in time, and together with the other bodies of its key and process."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits, BoundedRequestBody
from apps.platform_api.server.refusal import Reason, RequestRefusedError, refuse
from platform_app.errors import HeadersTooLarge, InvalidRequest, Overloaded, PayloadTooLarge, RateLimited
from tests.support.timing.iterations import counted_iterations

LIMITS = BodyLimits(1000, 30)


def receiving(*parts: bytes, complete: bool = True) -> Receive:
    messages = iter([(part, index < len(parts) - 1 or not complete) for index, part in enumerate(parts)])

    async def receive() -> Message:
        for part, more in messages:
            return {"type": "http.request", "body": part, "more_body": more}
        return {"type": "http.disconnect"}

    return receive


def body_of(
    receive: Receive, budget: BodyBudget | None = None, limits: BodyLimits = LIMITS, declared: int | None = None
) -> BoundedRequestBody:
    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    return BoundedRequestBody({"type": "http", "headers": headers}, receive, limits, budget or BodyBudget(5000, 2000))


async def test_whole_body_is_read_once() -> None:
    body = body_of(receiving(b"ab", b"cd", b"e"))
    assert await body.read("key") == b"abcde"
    assert await body.read("key") == b"abcde"


async def test_disconnect_ends_reading() -> None:
    with pytest.raises(ClientDisconnect):
        await body_of(receiving(b"ab", complete=False)).read("key")


async def test_too_large_body_is_refused_on_its_way() -> None:
    with pytest.raises(PayloadTooLarge):
        await body_of(receiving(b"x" * 600, b"x" * 600)).read("key")
    with pytest.raises(PayloadTooLarge):
        body_of(receiving(), declared=1001).check_declared()
    body_of(receiving(), declared=1000).check_declared()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refuse(Reason.CHUNK, "A chunk is malformed."), InvalidRequest),
        (refuse(Reason.TRAILERS_TOO_LARGE, "Too large.", 431, "headers_too_large"), HeadersTooLarge),
    ],
)
async def test_malformed_body_becomes_a_request_error(error: RequestRefusedError, expected: type[Exception]) -> None:
    async def receive() -> Message:
        raise error

    with pytest.raises(expected):
        await body_of(receive).read("key")


async def test_declared_bytes_count_for_the_key_before_they_arrive() -> None:
    budget = BodyBudget(5000, 2000)
    first = body_of(receiving(b"x", complete=False), budget, declared=900)
    with pytest.raises(ClientDisconnect):
        await first.read("key")
    second = body_of(receiving(b"x" * 900), budget, declared=900)
    assert len(await second.read("key")) == 900
    with pytest.raises(RateLimited) as caught:
        await body_of(receiving(b"x" * 300), budget, declared=300).read("key")
    assert caught.value.retry_after == 1
    assert len(await body_of(receiving(b"x" * 900), budget, declared=900).read("another")) == 900
    first.release()
    assert len(await body_of(receiving(b"x" * 300), budget, declared=300).read("key")) == 300


async def test_chunked_bytes_count_as_they_arrive() -> None:
    budget = BodyBudget(5000, 1000)
    with pytest.raises(RateLimited):
        await body_of(receiving(b"x" * 400, b"x" * 400, b"x" * 300), budget, BodyLimits(10_000, 30)).read("key")


async def test_process_budget_counts_arrived_bytes() -> None:
    budget = BodyBudget(2000, 1000)
    bodies = [body_of(receiving(b"x" * 900), budget, declared=900) for _ in range(3)]
    for number, body in enumerate(bodies[:2]):
        await body.read(f"key-{number}")
    with pytest.raises(Overloaded):
        await bodies[2].read("key-2")
    for body in bodies:
        body.release()
        body.release()
    assert budget.held == 0
    assert budget._by_key == {}


async def test_kept_body_counts_after_its_request() -> None:
    """Work on the body continues after its client has disconnected."""
    budget = BodyBudget(2000, 1000)
    body = body_of(receiving(b"x" * 900), budget, declared=900)
    await body.read("key")
    give_back = body.keep()
    body.release()
    assert budget.held == 900
    with pytest.raises(RateLimited):
        await body_of(receiving(b"x" * 300), budget, declared=300).read("key")
    give_back()
    assert (budget.held, budget._by_key) == (0, {})


async def test_many_values_are_refused_before_parsing() -> None:
    limits = BodyLimits(1 << 20, 30, max_values=1000)
    large = b"[" + b"0," * 100_000 + b"0]"
    with pytest.raises(PayloadTooLarge):
        await body_of(receiving(large), BodyBudget(1 << 21, 1 << 21), limits).read("key")
    text = b'["' + b"0," * 100_000 + b'"]'
    body = body_of(receiving(text), BodyBudget(1 << 21, 1 << 21), limits)
    assert await body.read("key") == text
    assert body.facts is not None
    assert body.facts.values < 10


@pytest.fixture
async def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The deadlines that are set, seconds after the body was wanted first; none of them is waited for."""
    seen: list[float] = []
    begun = asyncio.get_running_loop().time()

    def timeout_at(when: float) -> asyncio.Timeout:
        seen.append(when - begun)
        return asyncio.timeout(None)

    monkeypatch.setattr(asyncio, "timeout_at", timeout_at)
    return seen


async def test_deadline_follows_what_has_arrived(deadlines: list[float]) -> None:
    limits = BodyLimits(10_000, 30, min_rate=100)
    await body_of(receiving(b"x" * 1000, b"x" * 1000, b"x" * 1000), BodyBudget(9000, 9000), limits).read("key")
    assert [round(deadline) for deadline in deadlines] == [5, 15, 25]


async def test_deadline_is_capped_at_the_maximum(deadlines: list[float]) -> None:
    limits = BodyLimits(10_000, 8, min_rate=100)
    await body_of(receiving(b"x" * 1000, b"x"), BodyBudget(9000, 9000), limits).read("key")
    assert [round(deadline) for deadline in deadlines] == [5, 8]


async def test_stalled_body_is_refused() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(InvalidRequest, match="did not arrive"):
        await body_of(never, limits=BodyLimits(1000, 0.05)).read("key")


async def test_large_bodies_are_read_and_counted_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty bodies of many parts that are all there must not be one step of the event loop, nor all be in memory
    before the first is parsed."""
    steps: list[int] = []
    ended: list[int] = []

    def receiving_parts(number: int) -> Receive:
        receive = receiving(*[b"x" * 200_000] * 3)
        first = True

        async def noted() -> Message:
            nonlocal first
            if not first:
                steps.append(iterations.now)
                assert len(ended) in {number, number - 1}
            first = False
            return await receive()

        return noted

    limits, budget = BodyLimits(1 << 20, 30), BodyBudget(1 << 30, 1 << 30)

    async def read(number: int) -> None:
        await body_of(receiving_parts(number), budget, limits).read("key")
        steps.append(iterations.now)
        ended.append(number)

    with counted_iterations() as iterations:
        monkeypatch.setattr(TextFacts, "add", lambda _, part: steps.append(iterations.now))
        await asyncio.gather(*map(read, range(20)))
    assert ended == list(range(20))
    assert len(set(steps)) == len(steps) == 20 * (2 + 3 + 1)
