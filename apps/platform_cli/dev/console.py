"""What `dev` prints."""

import contextlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import typer

from apps.platform_cli.dev.address import Address


def curl_command(address: Address, chat_key: str, environ: Mapping[str, str]) -> str:
    """Return a command that sends a first request, without the proxy of the environment."""
    proxied = any(environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    words = ["curl", "-s", *(["--noproxy", "*"] if proxied else []), f"{address.base_url}/v1/platform/chat"]
    for header in (f"Authorization: Bearer {chat_key}", "Content-Type: application/json"):
        words += ["-H", header]
    return shlex.join([*words, "-d", json.dumps({"prompt": "Hello"})])


def shown_path(path: Path) -> str:
    """Return the path relative to the working directory if possible, with a slash: without one a shell's `.` searches
    PATH."""
    try:
        short = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
    return short if "/" in short else f"./{short}"


def say(line: str) -> None:
    """Print a line. A reader that is gone (a closed terminal, `| head`) must not prevent the stop of the processes."""
    with contextlib.suppress(OSError):
        typer.echo(line)


def complain(error: Exception) -> None:
    """Print an error to stderr."""
    what = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
    with contextlib.suppress(OSError):
        typer.echo(f"error: {what}", err=True)
