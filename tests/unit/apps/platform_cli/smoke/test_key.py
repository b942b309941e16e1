"""The API key of `smoke`: from a file, an option or a variable."""

from pathlib import Path

import pytest
import typer

from apps.platform_cli.main import app
from apps.platform_cli.smoke.command import smoke_key
from apps.platform_cli.terminal.entry import run_app
from platform_app.auth.tokens import generate_token

KEY, OTHER = generate_token("test").text, generate_token("test").text


def test_key_is_read_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "smoke.key"
    file.write_text(f" {KEY}\n\n")
    assert smoke_key(OTHER, file) == KEY
    assert smoke_key(OTHER, None) == OTHER


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "cannot be read: it is not text"),
        (b"\n", "no API key: give --key-file FILE, or set PLATFORM_CHAT_KEY"),
        (KEY[:-1].encode(), "not an API key of this platform, or mistyped"),
    ],
    ids=["missing", "binary", "empty", "mistyped"],
)
def test_key_file_problem_is_named(content: bytes | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "smoke.key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(typer.BadParameter) as error:
        smoke_key(None, file)
    assert problem in str(error.value)
    assert KEY[:-1] not in str(error.value)


def test_missing_key_is_named() -> None:
    with pytest.raises(typer.BadParameter, match="give --key-file FILE, or set PLATFORM_CHAT_KEY"):
        smoke_key(None, None)


def test_both_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["smoke", "--base-url", "http://x", "--key", KEY, "--key-file", "y"]) == 2
    assert "--key and --key-file exclude each other" in capsys.readouterr().err


def test_file_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PLATFORM_CHAT_KEY", OTHER)
    assert run_app(app, ["smoke", "--base-url", "http://x", "--key-file", "/nonexistent/key"]) == 2
    assert "--key-file: /nonexistent/key cannot be read" in capsys.readouterr().err
