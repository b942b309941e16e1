"""The table of docs/resilience.md, between two marks."""

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.outages.run import Outcome, Row

BEGIN, END = "<!-- chaos: begin -->\n", "<!-- chaos: end -->\n"
_HEAD = ("Fault", "Duration", "Requests", "Served", "Other results", "Recovery")


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    for row in rows:
        failed = ", ".join(f"{count} × {what}" for what, count in sorted(row.failed.items())) or "none"
        fault = f"{row.fault.title} (`{row.fault.name}`)"
        cells = (fault, f"{row.seconds:.0f} s", row.requests, row.served, failed, f"{row.recovery_seconds:.1f} s")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def write(page: Path, outcome: Outcome, date: str, cores: int) -> None:
    """Replace what is between the marks of the page."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = f"Written by `make chaos` on {date}, {cores} cores, {outcome.requests} requests in all:\n\n"
    page.write_text(f"{before}{BEGIN}{head}{table(outcome.rows)}{END}{after}")
