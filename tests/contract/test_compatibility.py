"""The table in docs/compatibility.md: each feature of each client format, sent through each provider format.

The tests send every feature as JSON and as a stream, and compare what happened with the page.
"""

import asyncio

import pytest

from tests.support.documents.compatibility.matrix import features_of, row, tables
from tests.support.gateway.chat_routes import CLIENT_ROUTES, ChatRoute
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- made by tests/contract/test_compatibility.py -->\n", "<!-- end of the tables -->\n"
STALE = "docs/compatibility.md is stale; write the tables again with:\npython -m tests.contract.test_compatibility"


def shown(route: ChatRoute) -> list[str]:
    """Return the rows of a client format on the page."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    section = text.partition(f"## `{route.path}`\n\n")[2].partition("\n\n")[0]
    return section.splitlines()[2:]


@pytest.mark.parametrize("route", CLIENT_ROUTES, ids=lambda route: route.name)
async def test_compatibility_page_shows_what_happens(route: ChatRoute) -> None:
    assert [await row(route, feature) for feature in features_of(route)] == shown(route), STALE


def write_tables() -> None:
    """Write the tables into docs/compatibility.md."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    made = asyncio.run(tables())
    DOCUMENT.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    write_tables()
