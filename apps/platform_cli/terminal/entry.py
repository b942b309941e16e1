"""The end of every command: one message for a person and an exit code, never a traceback.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted by Ctrl-C.
"""

import difflib
import errno
import os
import sys

import typer

from platform_app.credential_forms import mask_keys
from platform_app.errors import ConfigurationError, PlatformError

NAME = "flowbiz-platform"
INTERRUPTED = 130
UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)
"""Errors of an output that cannot be written."""


def run_app(app: typer.Typer, arguments: list[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    try:
        code: object = app(arguments, prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()  # here, because Python reports a closed pipe at its own exit
    except BrokenPipeError:
        _discard_output()
        return 0
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard_output()  # Typer has noticed the closed pipe
        return 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except typer.TyperException as error:
        _say(_usage_problem(error))
        return error.exit_code
    except ConfigurationError as error:
        _say("\n".join(["The configuration is not valid:", *(f"  - {problem}" for problem in error.problems)]))
        return 2
    except PlatformError as error:
        _say(mask_keys("\n".join([error.message, *(f"  - {detail}" for detail in error.details or [])])))
        return 1
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _say(f"The output cannot be written: {error.strerror}. Free space, or write it to another place.")
        _discard_output()  # what is still buffered cannot be written either
        return 1
    return code if isinstance(code, int) else 0


def _usage_problem(error: typer.TyperException) -> str:
    """Return what is wrong, and which command explains it, in one line; empty for a command without arguments."""
    context = getattr(error, "ctx", None)  # Typer does not export its usage errors, which have one
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        return ""  # Typer has printed the help
    path = NAME if context is None else context.command_path
    problem = _unknown_option(error) or " ".join(error.format_message().split()).rstrip(".")
    return f"Error: {problem}{'' if problem.endswith('?') else '.'} See: {path} --help"


def _unknown_option(error: typer.TyperException) -> str | None:
    """Return the problem with the most similar option, which Typer's list of prefixes may not have."""
    context, name = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or not isinstance(name, str) or type(error).__name__ != "NoSuchOption":
        return None
    known = ["--help", *(each for option in context.command.params for each in option.opts if each.startswith("-"))]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"No such option '{name}'" + (f". Did you mean '{near[0]}'?" if near else "")


def _say(text: str) -> None:
    try:
        typer.echo(text, err=True, nl=bool(text))
    except OSError:
        _discard_output()


def _discard_output() -> None:
    """Send what is still buffered to nowhere: its reader is gone."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
    except OSError:
        pass
