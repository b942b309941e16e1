"""The end of every command: one message for a person and an exit code, never a traceback.

Exit codes: 0 done, 1 failed (also: the output could not be written, or the secret store does not respond), 2 wrong
usage or configuration, 130 interrupted by Ctrl-C, 141 the reader of the output closed the pipe before its end.
"""

import difflib
import sys

import typer

from apps.platform_cli.terminal.output import OutputLostError, discard_output
from platform_app.credential_forms import mask_keys
from platform_app.errors import ConfigurationError, PlatformError, only_temporary

NAME = "flowbiz-platform"
INTERRUPTED = 130
CLOSED_PIPE = 141
"""What a shell reports for a program that the closed pipe's signal ended, such as `cat`."""


def run_app(app: typer.Typer, arguments: list[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    if not all(map(_is_text, sys.argv[1:] if arguments is None else arguments)):
        _say("Error: an argument has bytes that are not UTF-8 text.")
        return 2
    try:
        code: object = app(arguments, prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()  # here, because Python reports a closed pipe at its own exit
    except OutputLostError as error:
        return _output_lost(error)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except typer.TyperException as error:
        _say(_usage_problem(error))
        return error.exit_code
    except ConfigurationError as error:
        temporary = only_temporary(error.problems)
        title = "What the configuration needs cannot be used now:" if temporary else "The configuration is not valid:"
        _say("\n".join([title, *(f"  - {problem}" for problem in error.problems)]))
        return 1 if temporary else 2
    except PlatformError as error:
        _say(mask_keys("\n".join([error.message, *(f"  - {detail}" for detail in error.details or [])])))
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


def _output_lost(error: OutputLostError) -> int:
    discard_output()
    if error.is_closed_pipe and not error.consequence:
        return CLOSED_PIPE
    _say(str(error))
    return 1


def _say(text: str) -> None:
    typer.echo(text, err=True, nl=bool(text))


def _is_text(argument: str) -> bool:
    """Return whether an argument is text. Python turns other bytes into lone surrogates, which no server accepts."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
