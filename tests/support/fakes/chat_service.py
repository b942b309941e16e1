"""A chat service on fakes, its caller and its request."""

from platform_app.auth.caller import Caller
from platform_app.chat import ChatResult, ChatService
from platform_app.config import LimitRule
from platform_app.ledger.events.usage_record import UsageRecord
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelRequest
from platform_app.llm.responses import ChatChunk
from platform_app.llm.usage.pricing import FlatPrice
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import FakeLedger, FakeLimiter, FakeUpstream, context

ROUTE = Route("big", "sim", "up-big", price=FlatPrice(1.0, 4.0, 0.5, 1.0, 1.0))
RULES = [
    LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60),
    LimitRule(name="model-rpm", scope="model", limit=60, window_seconds=60),
]
CALLER = Caller("k" * 12, "batch", "team-a", "test", frozenset({"platform:chat"}))
BODY = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(text: str = "", **body: object) -> ChatChunk:
    """Return a chunk of a provider's stream."""
    return ChatChunk(b"raw", {"choices": [{"delta": {"content": text}}], **body})


class World:
    """A `ChatService` on fakes, which note the order of their calls in `steps`."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.limiter = FakeLimiter(self.steps)
        self.upstream = FakeUpstream(ROUTE, self.steps)
        self.ledger = FakeLedger()
        self.context = context()
        small = ServedModel("small", (), FakeUpstream(Route("small", "sim", "up-small"), self.steps))
        models = ModelRegistry({"big": ServedModel("big", (ROUTE,), self.upstream), "small": small}, "small")
        self.chat = ChatService(models, RateLimitService(RuleBook(RULES), self.limiter), self.ledger, 60.0)

    async def send(self, model: str | None = "big", caller: Caller = CALLER, stream: bool = False) -> ChatResult:
        return await self.chat.send(ModelRequest(model, BODY, stream=stream), caller, self.context)

    async def stream(self) -> ChunkStream:
        response = (await self.send(stream=True)).response
        assert isinstance(response, ChunkStream)
        return response

    @property
    def record(self) -> UsageRecord:
        """The only event in the ledger, a usage record."""
        [record] = self.ledger.events
        assert isinstance(record, UsageRecord)
        return record
