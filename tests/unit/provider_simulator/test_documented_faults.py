"""docs/simulator.md lists the faults of the code."""

from pathlib import Path

from apps.provider_simulator.faults.catalog import FAULTS


def test_page_lists_every_fault_with_its_default() -> None:
    page = Path("docs/simulator.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## Models and faults")[2].splitlines() if line.startswith("| `")]
    expected = []
    for fault in FAULTS.values():
        default = "" if fault.default is None else f"{fault.default:g} {fault.unit}"
        expected.append(f"| `{fault.name}` | {fault.description} | {default} |")
    assert rows == expected
