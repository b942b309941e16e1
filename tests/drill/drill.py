"""The order of the drill: a clean phase, then each fault from its begin to the resolution of its alerts."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.drill.alertmanager import RECEIVERS
from tests.drill.faults.fault import Delivery, Expected, Fault
from tests.drill.runbook import Finding, check_queries, find_cause
from tests.drill.stage import Stage
from tests.drill.webhooks import DEADMAN, Alert

BOUND_SECONDS = 240.0
"""The wait for an alert, for its resolution, for the runbook's data, and for the calm after a fault. Generous: only a
drill that fails waits this long."""
WARM_UP_SECONDS = 20.0
"""Traffic before the clean phase, so that the windows of the rules have data."""
DEADMAN_SECONDS = 300.0
"""The receiver of the deadman's switch pages after this time without a notification."""
CLEAN = "clean phase"
_POLL_SECONDS = 0.1
_SLOW_WINDOWS = frozenset({"6h", "1d", "3d"})
"""Burn rates over these windows fire for longer than a fault: the drill uses up the error budget of months."""
SPEED_ALERTS = frozenset(
    {
        "EventLoopLagHigh", "GatewayDown", "GatewayInstanceDown", "GatewayLatencyHigh", "GatewayOverheadBudgetBurn",
        "GatewayOverheadHigh", "GatewayWithoutWorkers", "LimiterDegraded", "TraceExportFailing", "WorkerMemoryGrowing",
    }
)  # fmt: skip
"""Alerts that a machine without free CPU time causes. `any_machine` does not judge them where no fault expects them."""


@dataclass
class Row:
    """One alert of one fault. Times are in seconds; None: it did not happen in time."""

    fault: str
    title: str
    alert: str
    severity: str = ""
    inhibited: bool = False
    fired_after: float | None = None
    resolved_after: float | None = None
    finding: Finding | None = None
    others: list[str] = field(default_factory=list)
    failed: str = ""


@dataclass
class Outcome:
    """What the drill measured, and each demand that was not met."""

    factor: int
    any_machine: bool = False
    clean_seconds: float = 0.0
    clean_requests: int = 0
    deadman_sent: int = 0
    deadman_gap_seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Drill:
    """Runs on a stage and notes the outcome."""

    def __init__(
        self,
        stage: Stage,
        show: Callable[[str], None],
        *,
        any_machine: bool = False,
        bound_seconds: float = BOUND_SECONDS,
    ) -> None:
        self._stage = stage
        self._show = show
        self._any_machine = any_machine
        self._bound = bound_seconds
        self._alerts = stage.monitoring.alerts
        self.outcome = Outcome(stage.monitoring.factor, any_machine)

    def run_clean(self, seconds: float) -> None:
        """Watch the traffic for some seconds: nothing may fail, and only the deadman's switch may fire."""
        time.sleep(WARM_UP_SECONDS)
        self._until(self._is_calm, "no alert fires before the clean phase")
        began = time.monotonic()
        time.sleep(seconds)
        self._expect_deadman(CLEAN, began)
        fired = self._judged(self._alerts.sent.fired_since(began))
        failed = self._stage.traffic.failures_since(began)
        self.outcome.clean_seconds = time.monotonic() - began
        self.outcome.clean_requests = self._stage.traffic.requests_since(began)
        if fired:
            self._problem(f"{CLEAN}: {', '.join(sorted({each.title for each in fired}))} fired")
        if failed and not self._any_machine:
            self._problem(f"{CLEAN}: requests failed: {failed}")
        self._show(f"{CLEAN} of {seconds:.0f} s: {len(fired)} alerts, {self.outcome.clean_requests} requests")

    def run_fault(self, fault: Fault) -> None:
        """Begin the fault, wait for its alerts, follow their runbooks, end it, and wait for their resolution."""
        self._until(lambda: self._is_ready_for(fault), f"{fault.name}: what earlier faults caused ends")
        self._show(f"{fault.name}: {fault.title}")
        began = time.monotonic()
        rows: list[tuple[Expected, Row]] = []
        with fault.inject(self._stage):
            for expected in fault.expected:
                row = Row(fault.name, fault.title, expected.alert)
                self.outcome.rows.append(row)
                if self._until(lambda each=expected: self._find(each), f"{fault.name}: {expected} fires"):  # type: ignore[misc]  # a lambda's default has no annotation
                    rows.append((expected, row))
                    self._follow_runbook(fault, expected, row, began)
            self._expect_deadman(fault.name, began)
            self._require_unsent(fault, [row for _, row in rows], began)
            ended = time.monotonic()
        for expected, row in rows:
            if self._until(lambda each=expected: self._is_resolved(each), f"{fault.name}: {row.alert} resolves"):  # type: ignore[misc]  # see above
                resolved_at = self._alerts.sent.resolved_at(expected.alert, expected.labels, ended)
                row.resolved_after = (resolved_at or time.monotonic()) - ended
        self._note_others(fault, began)
        self._check_receivers(fault.name, began)

    def finish(self) -> None:
        """Note how often the deadman's switch was sent, and the longest time between two notifications."""
        times = self._alerts.sent.deadman_times()
        self.outcome.deadman_sent = len(times)
        self.outcome.deadman_gap_seconds = max((b - a for a, b in pairwise(times)), default=float("inf"))
        allowed = DEADMAN_SECONDS / self.outcome.factor
        if self.outcome.deadman_gap_seconds > allowed and not self._any_machine:
            self._problem(
                f"{DEADMAN} was not sent for {self.outcome.deadman_gap_seconds:.1f} s; its receiver pages after "
                f"{allowed:.0f} s"
            )

    def _follow_runbook(self, fault: Fault, expected: Expected, row: Row, began: float) -> None:
        found = self._find(expected)
        assert found is not None, f"{expected} was resolved during the fault"
        at, alert = found
        row.alert, row.severity, row.fired_after = alert.title, alert.labels.get("severity", ""), at - began
        row.inhibited = alert.inhibited
        queries = check_queries(expected.alert, alert.labels)

        def names_cause() -> bool:
            row.finding = find_cause(self._stage.monitoring, queries, expected.cause)
            return row.finding is not None

        self._until(names_cause, f"{fault.name}: a query in the check of runbooks/{expected.alert}.md names the cause")
        state = "is inhibited" if row.inhibited else "was sent"
        self._show(f"  {row.alert} {state} after {row.fired_after:.1f} s; {row.finding}")

    def _note_others(self, fault: Fault, began: float) -> None:
        rows = [row for row in self.outcome.rows if row.fault == fault.name]
        expected = {row.alert for row in rows} | {each.alert for each in fault.expected}
        others = [each for each in self._alerts.sent.fired_since(began) if each.title not in expected]
        wrong = {
            each.title
            for each in self._judged(others)
            if each.labels.get("severity") == "page" and each.name not in fault.also | expected
        }
        if wrong:
            self._problem(f"{fault.name}: pages for the wrong thing: {', '.join(sorted(wrong))}")
        failures = self._stage.traffic.failures_since(began)
        rows[0].others = sorted({each.title for each in others})
        rows[0].failed = ", ".join(f"{count} × {what}" for what, count in sorted(failures.items()))
        resolved = ", ".join(f"{row.alert} {row.resolved_after or float('nan'):.1f} s" for row in rows)
        self._show(f"  resolved after: {resolved}; also fired: {', '.join(rows[0].others) or 'none'}")

    def _expect_deadman(self, phase: str, began: float) -> None:
        """Require that the deadman's switch is sent to its receiver in this phase too."""
        times = self._alerts.sent.deadman_times
        self._until(lambda: any(at > began for at in times()), f"{phase}: {DEADMAN} is sent to its receiver")

    def _require_unsent(self, fault: Fault, rows: Iterable[Row], began: float) -> None:
        """Require that no alert was sent that the example inhibits in this fault."""
        must_not = {each.alert for each in fault.expected if each.delivery is Delivery.INHIBITED}
        titles = {row.alert for row in rows}
        sent = [each for each in self._alerts.sent.fired_since(began) if each.name in must_not and each.title in titles]
        if sent:
            self._problem(f"{fault.name}: sent although inhibited: {', '.join(sorted(each.title for each in sent))}")

    def _check_receivers(self, phase: str, began: float) -> None:
        """Require that each notification went to the receiver of its severity."""
        wrong = {
            f"{each.alert.title} to {each.receiver}"
            for each in self._alerts.sent.sent_since(began)
            if each.receiver != RECEIVERS[each.alert.labels["severity"]]
        }
        if wrong:
            self._problem(f"{phase}: sent to a wrong receiver: {', '.join(sorted(wrong))}")

    def _find(self, expected: Expected) -> tuple[float, Alert] | None:
        finds = {
            Delivery.SENT: (self._alerts.find_sent,),
            Delivery.INHIBITED: (self._alerts.find_inhibited,),
            Delivery.EITHER: (self._alerts.find_sent, self._alerts.find_inhibited),
        }
        found = (find(expected.alert, expected.labels) for find in finds[expected.delivery])
        return next((each for each in found if each is not None), None)

    def _is_resolved(self, expected: Expected) -> bool:
        return self._alerts.is_resolved(expected.alert, expected.labels)

    def _is_ready_for(self, fault: Fault) -> bool:
        """Return whether the clients are served, no page fires apart from the slow burn rates, and no alert that the
        fault must cause."""
        firing = self._judged(self._alerts.firing())
        pages = [each for each in firing if each.labels.get("severity") == "page"]
        return (
            all(each.labels.get("window") in _SLOW_WINDOWS for each in pages)
            and all(self._is_resolved(expected) for expected in fault.expected)
            and self._stage.traffic.all_served_since(time.monotonic() - 1.0)
        )

    def _is_calm(self) -> bool:
        """Return whether the clients are served, and no alert fires apart from the slow burn rates."""
        firing = self._judged(self._alerts.firing())
        calm = all(each.labels.get("window") in _SLOW_WINDOWS for each in firing)
        return calm and self._stage.traffic.all_served_since(time.monotonic() - 1.0)

    def _judged(self, alerts: Iterable[Alert]) -> Sequence[Alert]:
        return [each for each in alerts if not (self._any_machine and each.name in SPEED_ALERTS)]

    def _until(self, condition: Callable[[], object], what: str) -> bool:
        deadline = time.monotonic() + self._bound
        while not condition():
            if time.monotonic() > deadline:
                firing = ", ".join(sorted(each.title for each in self._alerts.firing())) or "no alert"
                self._problem(f"not within {self._bound:.0f} s: {what}; {firing} fired then")
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _problem(self, text: str) -> None:
        self.outcome.problems.append(text)
        self._show(f"  PROBLEM: {text}")
