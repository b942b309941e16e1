"""Names in an output whose encoding lacks their characters, and arguments that are not text."""

import json
import os
import subprocess
import sys

import pytest

from apps.platform_cli.main import app
from apps.platform_cli.terminal.entry import run_app

SCRIPT = """
import sys
from apps.platform_cli.terminal.output import guard_streams
guard_streams()
text = '"caf\\u00e9 \\u65e5\\u672c \\U0001f600"'
print(text)
print(text, file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "utf-8"])
def test_character_that_the_output_lacks_is_escaped(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for written in (done.stdout, done.stderr):
        text = written.decode(encoding.partition(":")[0])
        assert json.loads(text) == "caf\u00e9 \u65e5\u672c \U0001f600", "what was JSON stays JSON"


@pytest.mark.parametrize("arguments", [["keys", "list", "--owner", "\udcff"], ["keys", "show", "a\udc80"]])
def test_argument_that_is_not_text_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """PostgreSQL would refuse it with an error that seems to be the database's."""
    assert run_app(app, arguments) == 2
    assert capsys.readouterr().err == "Error: an argument has bytes that are not UTF-8 text.\n"
