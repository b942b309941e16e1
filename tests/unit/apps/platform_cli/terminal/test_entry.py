"""The end of a command: one line and an exit code, never a traceback."""

import pytest
import typer

from apps.platform_cli.main import app
from apps.platform_cli.terminal.entry import run_app
from platform_app.errors import ConfigurationError, NotFound, TemporaryProblem, ValidationFailed


def failing(error: BaseException) -> typer.Typer:
    made = typer.Typer()

    @made.command()
    def fail() -> None:
        raise error

    return made


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (NotFound("There is no such key."), 1, ["There is no such key."]),
        (ValidationFailed("Not valid.", details=["a: b", "c: d"]), 1, ["Not valid.", "  - a: b", "  - c: d"]),
        (ConfigurationError(["X: missing"]), 2, ["The configuration is not valid:", "  - X: missing"]),
        (
            ConfigurationError([TemporaryProblem("Vault: down")]), 1,
            ["What the configuration needs cannot be used now:", "  - Vault: down"],
        ),
        (
            ConfigurationError([TemporaryProblem("Vault: down"), "X: missing"]), 2,
            ["The configuration is not valid:", "  - Vault: down", "  - X: missing"],
        ),
        (KeyboardInterrupt(), 130, []),
        (typer.Abort(), 130, []),
        (typer.Exit(3), 3, []),
        (typer.BadParameter("no"), 2, ["Error: Invalid value: no. See: flowbiz-platform --help"]),
    ],
)  # fmt: skip
def test_failure_becomes_message_and_code(
    error: BaseException, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(failing(error), []) == code
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", lines)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["kyes"], "No such command 'kyes'. Did you mean 'keys'?"),
        (["keys", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["keys", "list", "--ownr", "x"], "No such option '--ownr'. Did you mean '--owner'?"),
        (["keys", "list", "--json=1"], "Option '--json' does not take a value."),
        (["migrate", "--hlp"], "No such option '--hlp'. Did you mean '--help'?"),
        (["keys", "list", "--zzzzz"], "No such option '--zzzzz'."),
        (["serve", "--port", "99999"], "Invalid value for '--port'"),
        (["audit", "--kind", "acces"], "Invalid value for '--kind'"),
        (["audit", "--since", "yesterday"], "'yesterday' is not a time"),
        (["usage", "--since", "yesterday"], "'yesterday' is not a day"),
        (["keys", "list", "--expiring-within", "soon"], "'soon' is not a duration"),
        (["keys", "show"], "Missing argument 'key_id'."),
        (["keys", "show", "a", "b"], "Got unexpected extra argument"),
    ],
)
def test_misread_command_line_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (problem,) = said.err.splitlines()
    assert line in problem
    assert problem.startswith("Error: ")
    assert problem.endswith(" --help")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "flowbiz-platform"
    assert version[0].isdigit()


def test_contract_without_migration_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["migrate", "contract"]) == 0
    assert capsys.readouterr().out == "This version has no contract migration. Nothing to do.\n"
