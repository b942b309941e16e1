"""A call's meter on fakes, with a clock that the test moves."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from platform_app import metering
from platform_app.config import PriceConfig
from platform_app.ledger.events.usage_record import UsageRecord
from platform_app.llm.models.route import Route
from platform_app.llm.requests import AttemptLog, ModelCall, Operation
from platform_app.llm.usage.counts import TokenUsage
from platform_app.metering import CallMeter
from platform_app.observability.record import AttemptRecord
from platform_app.rate_limit.limiter import Settlement
from tests.support.fakes.chat_service import BODY, CALLER, ROUTE
from tests.support.fakes.core import CREATED, FakeClock, FakeLedger, context


class Settled:
    """An admission that stores how it was settled: tokens, cost and assumed costs; None for a release."""

    def __init__(self) -> None:
        self.with_: list[tuple[int | None, int | None, Mapping[str, int] | None] | None] = []

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        self.with_.append((tokens, cost_microusd, assumed_costs))

    def release(self) -> None:
        self.with_.append(None)

    def settlement(self) -> Settlement:
        return ()


class Dates:
    """Takes the place of `datetime`: each `now` is a minute later than the one before."""

    def __init__(self) -> None:
        self.read = 0

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        self.read += 1
        return CREATED + timedelta(minutes=self.read)


class MeteredCall:
    """A meter, everything that it was given, and the records that it wrote."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, operation: Operation = Operation.CHAT, stream: bool = False,
        estimate: TokenUsage = TokenUsage(100, 50), assumed: Mapping[str, PriceConfig] | None = None,
    ) -> None:  # fmt: skip
        self.clock = FakeClock()
        monkeypatch.setattr(metering, "time", SimpleNamespace(perf_counter=self.clock, monotonic=self.clock))
        monkeypatch.setattr(metering, "datetime", Dates())
        self.context = context()
        self.admission, self.ledger = Settled(), FakeLedger()
        self.log = AttemptLog(record=self.context.record)
        call = ModelCall(BODY, 60.0, operation, stream, self.log, session="s-1")
        self.meter = CallMeter(call, CALLER, self.context, self.admission, self.ledger, estimate, assumed or {}, 20)
        """The usual response has 20 tokens."""

    def attempt(
        self, route: Route = ROUTE, *, sent: bool = True, outcome: str = "ok", stream: bool = False, received: int = 0,
        upstream_id: str | None = None,
    ) -> None:  # fmt: skip
        """Send the call along the route. `sent`: whether the request was written to the connection."""
        self.log.attempt(route)
        record = AttemptRecord(
            route.provider, route.public_model, route.upstream_model, "chat", stream, self.clock.now, "5" * 16
        )
        record.request_sent, record.received_bytes = sent, received
        record.outcome, record.upstream_request_id = outcome, upstream_id
        self.log.record.attempts.append(record)

    @property
    def record(self) -> UsageRecord:
        """The only record of an end."""
        [record] = self.ledger.events
        assert isinstance(record, UsageRecord)
        return record

    @property
    def charged(self) -> tuple[int, int, bool]:
        """Prompt and output tokens of that record, and whether they are an estimate."""
        record = self.record
        return record.prompt_tokens, record.completion_tokens, record.estimated
