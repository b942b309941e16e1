"""Every command and every log event in pages and runbooks exists."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from apps.platform_cli.main import app
from tests.support.paths import ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "runbooks").rglob("*.md"), ROOT / "README.md"])
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Of Typer's copy of click, which exports only this subclass."""
VALUES = {"DAY": "2026-11-26", "…": "", "SECONDS": "60"}
"""What a placeholder stands for where the command line checks the value."""
_CODE = re.compile(r"^ *```sh\n(.*?)^ *```|`(flowbiz-platform [^`\n]+)`", re.M | re.S)
_COMMAND = re.compile(r"(?:^|[ /`(=])flowbiz-platform ((?:[^|#`;>)\"'\n]|\"[^\"]*\"|'[^']*')*)")
_EVENTS = re.compile(r'"event":"\(?([a-z_|()]+)"')


def commands() -> Iterator[tuple[str, str]]:
    """Yield the page and the arguments of each command."""
    for page in PAGES:
        if "adr" in page.parts:
            continue  # a decision describes the state at its date
        for block, inline in _CODE.findall(page.read_text()):
            text = re.sub(r"\$\([^)]*\)", "2026-11-26", (block or inline).replace("\\\n", " "))
            for line in re.sub(r"\s+#.*", "", text, flags=re.M).splitlines():
                if "() {" not in line and "docker compose" not in line:
                    yield from ((page.name, found.strip()) for found in _COMMAND.findall(line))


COMMANDS = sorted(set(commands()))


def refusal(arguments: list[str]) -> str | None:
    """Parse the arguments of the command line, and return why it refuses them; None if it does not. Nothing runs."""
    command: Any = typer.main.get_command(app)
    parent = None
    try:
        while True:
            context = command.make_context(command.name, arguments, parent=parent)
            rest = [*context._protected_args, *context.args]
            if not isinstance(command, TyperGroup) or not rest:
                return None
            _, found, arguments = command.resolve_command(context, rest)
            command, parent = found, context
    except USAGE_ERROR as error:
        return str(error)


@pytest.mark.parametrize(("page", "text"), COMMANDS)
def test_documented_command_is_accepted(page: str, text: str) -> None:
    arguments = [VALUES.get(each, each) for each in shlex.split(text)]
    if not arguments or arguments[-1] in ("--help", "$@"):
        return
    refused = refusal(arguments)
    # In a sentence a command has only its name.
    named_only = len(arguments) <= 2 and refused is not None and ("Missing parameter" in refused or not refused)
    assert refused is None or named_only, refused


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(
    "text", ["keys revoke KEY_ID", "usage --since yesterday", "check --no-such-option", "migrate sideways"]
)
def test_wrong_command_is_found(text: str) -> None:
    assert refusal(shlex.split(text))


def test_events_that_pages_search_for_are_logged() -> None:
    sources = (path for folder in ("apps", "platform_app") for path in (ROOT / folder).rglob("*.py"))
    logged = {text for path in sources for text in re.findall(r'"(\w+)"', path.read_text())}
    logged |= {"breaker_open", "breaker_half_open", "breaker_closed"}  # composed of the breaker's state
    searched = {
        (page.name, event)
        for page in PAGES
        for pattern in _EVENTS.findall(page.read_text())
        for event in _expanded(pattern.rstrip(")"))
    }
    assert len(searched) > 30
    assert {found for found in searched if found[1] not in logged} == set()


def _expanded(pattern: str) -> list[str]:
    """`ledger_(full|failing)` is two events."""
    start, _, rest = pattern.partition("(")
    return [f"{start}{each}" for each in rest.split("|")] if rest else start.split("|")
