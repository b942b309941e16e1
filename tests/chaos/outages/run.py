"""The order of a run: each fault under load, its recovery, and at the end the books."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.outages.books import all_recorded, gauge_problems, limit_problems, record_problems, result_problems
from tests.chaos.outages.faults import Fault
from tests.chaos.outages.load import WHOLE, Client, Load, Seen, failures
from tests.chaos.outages.stage import Stage

WAIT_SECONDS = 300.0
_CALM_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in the table."""

    fault: Fault
    seconds: float
    requests: int
    served: int
    failed: Counter[str]
    recovery_seconds: float
    """From the end of the fault to the last failure after it; 0 if there was none."""


@dataclass
class Outcome:
    """The table, and each demand that was not met."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    requests: int = 0


def run(stage: Stage, faults: Sequence[Fault], seconds: float, show: Callable[[str], None]) -> Outcome:
    """Inject each fault for some seconds, and check the books after the last one."""
    outcome = Outcome()
    with Load([gateway.base_url for gateway in stage.gateways], _clients(stage)) as load:
        _until(lambda: stage.ready() and _calm(load), "both gateways serve")
        for fault in faults:
            row = _break(stage, load, fault, seconds)
            outcome.rows.append(row)
            outcome.problems += result_problems(fault, load.of_fault(fault.name))
            outcome.problems += limit_problems(fault, list(load.seen))
            show(
                f"{fault.name}: {row.requests} requests, {dict(row.failed)}, recovered in {row.recovery_seconds:.1f} s"
            )
    outcome.requests = len(load.seen)
    outcome.problems += _books(stage, load.seen)
    return outcome


def _clients(stage: Stage) -> list[Client]:
    def client(name: str, **body: object) -> Client:
        return Client(name, stage.platform.key("platform:chat", owner=name), {"prompt": "Say hello.", **body})

    return [
        client("json", model="assistant"),
        client("stream", model="assistant", stream=True),
        client("single", model="writer"),
        client("other", model="assistant"),
    ]


def _break(stage: Stage, load: Load, fault: Fault, seconds: float) -> Row:
    key = stage.platform.key("platform:chat", owner="limited")
    limited = f"limited-{fault.name}"
    stop_limited = load.send_also(Client(limited, key, {"prompt": "Say hello.", "model": "scarce"}, 0.02))
    # After an outage of PostgreSQL a new key is refused a moment longer than a known one.
    _until(
        lambda: any(each.client == limited and each.result == WHOLE for each in list(load.seen)),
        "the new key is served",
    )
    load.fault = fault.name
    began = time.monotonic()
    with fault.inject(stage):
        time.sleep(seconds)
        ended = time.monotonic()
    _until(lambda: _calm(load) and stage.ready(), f"the clients are served after {fault.name}")
    stop_limited()
    seen = load.of_fault(fault.name)
    last = max((each.at for each in seen if failures([each])), default=ended)
    load.fault = "none"
    failed = failures(seen)
    served = sum(each.result == WHOLE for each in seen)
    return Row(fault, ended - began, len(seen), served, failed, max(0.0, last - ended))


def _calm(load: Load) -> bool:
    return load.all_served_since(time.monotonic() - _CALM_SECONDS)


def _books(stage: Stage, seen: Sequence[Seen]) -> list[str]:
    # If a wait ends without success, the problems say what is missing.
    with suppress(TimeoutError):
        _until(lambda: all_recorded(stage, seen), "every response is recorded")
    with suppress(TimeoutError):
        _until(lambda: not gauge_problems(stage), "gauges are at rest")
    return record_problems(stage, seen) + gauge_problems(stage)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_SECONDS:.0f} s: {what}")
        time.sleep(0.1)
