"""Who changes something on the command line, for the audit."""

import getpass
import os
import socket
from collections.abc import Mapping
from typing import Annotated

import typer

from platform_app.auth.keys.records import Actor

MAX_NAME = 100

ActorName = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="PLATFORM_ACTOR",
        help="Who makes the change, for the audit: a person or a pipeline. The user and the host are recorded too.",
    ),
]


def cli_actor(name: str | None, environ: Mapping[str, str] = os.environ) -> Actor:
    """Return the actor of a change: `cli:user@host`, or `cli:name as user@host`.

    The name is that of `--actor`, else of the user who called sudo or doas. In a container the host is its name; in
    Kubernetes that is the pod's.

    Raises:
        BadParameter: the name is too long, or cannot be printed.
    """
    user = f"{_user()}@{_host()}"
    name = (name or "").strip() or environ.get("SUDO_USER") or environ.get("DOAS_USER")
    if name is None:
        return Actor(f"cli:{user}")
    if len(name) > MAX_NAME or not name.isprintable():
        raise typer.BadParameter(f"--actor: expected a name of at most {MAX_NAME} printable characters")
    return Actor(f"cli:{name} as {user}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _host() -> str:
    try:
        return socket.gethostname() or "unknown"
    except OSError:
        return "unknown"
