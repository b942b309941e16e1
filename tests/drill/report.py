"""The report of a drill in Markdown."""

from tests.drill.drill import CLEAN, SPEED_ALERTS, Outcome, Row
from tests.drill.webhooks import DEADMAN

_HEAD = ("Fault", "Alert", "Fired after", "Resolved after", "What the runbook's query shows", "Other alerts", "Clients")

_BUSY = (
    "- Other programs used the same cores. These alerts are judged only where a fault must cause them: "
    + ", ".join(sorted(SPEED_ALERTS))
)
_METHOD = """\
`make drill` wrote this page. It broke a staging gateway on purpose, waited for the alert that Alertmanager sent,
executed the queries in the check of its runbook, ended the fault, and waited for the resolution. Alertmanager had the
routing, grouping and inhibition of `alerts/alertmanager.example.yml`. An alert that is marked as inhibited fired and
was not sent. Times are in seconds of the drill. Multiply them by the factor for an estimate of production, and add the
scrape interval. A slow burn rate (6h, 1d, 3d) fires once and stays, because the drill uses up the budget of months.
"""


def report(outcome: Outcome, *, date: str, cores: int) -> str:
    """Return the report: the conditions, the clean phase, and one line for each alert of each fault."""
    lines = [
        "# Report of the staging drill",
        "",
        f"- Date: {date}",
        f"- Machine: {cores} cores",
        f"- Factor: {outcome.factor}. A window of 5 minutes took {300 / outcome.factor:g} s.",
        f"- Clean phase: {_clean(outcome)}",
        f"- {DEADMAN}: sent {outcome.deadman_sent} times to its receiver, "
        f"at most {outcome.deadman_gap_seconds:.1f} s apart.",
        *([_BUSY] if outcome.any_machine else []),
        "",
        _METHOD,
        f"| {' | '.join(_HEAD)} |",
        f"|{'---|' * len(_HEAD)}",
        *(
            _line(row, index == 0 or outcome.rows[index - 1].fault != row.fault)
            for index, row in enumerate(outcome.rows)
        ),
        "",
    ]
    if outcome.problems:
        lines += ["Demands that were not met:", "", *(f"- {each}" for each in outcome.problems), ""]
    return "\n".join(lines)


def _clean(outcome: Outcome) -> str:
    if any(problem.startswith(CLEAN) for problem in outcome.problems):
        return "failed, see below."
    minutes = outcome.clean_seconds * outcome.factor / 60
    return (
        f"{outcome.clean_seconds:.0f} s, which is {minutes:.0f} minutes of the rules' windows, with "
        f"{outcome.clean_requests} requests and without an alert."
    )


def _line(row: Row, first: bool) -> str:
    cells = (
        f"{row.title} (`{row.fault}`)" if first else "the same fault",
        _alert(row),
        _seconds(row.fired_after),
        _seconds(row.resolved_after),
        f"{row.finding}".replace("|", "\\|") if row.finding else "nothing that names the cause",
        (", ".join(row.others) or "none") if first else "",
        (row.failed or "no failed request") if first else "",
    )
    return f"| {' | '.join(cells)} |"


def _alert(row: Row) -> str:
    if not row.severity:
        return f"{row.alert} did not fire"
    return f"{row.alert}, {row.severity}{', inhibited' if row.inhibited else ''}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"
