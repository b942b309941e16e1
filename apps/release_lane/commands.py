"""Run other programs: git, pip, systemctl, kubectl, and the release's own `flowbiz-platform`."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from apps.release_lane.errors import LaneError

_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str

    def last_lines(self) -> str:
        """Return the end of what the program printed."""
        lines = [line for line in (self.stdout + "\n" + self.stderr).splitlines() if line.strip()]
        return "\n".join(lines[-_SHOWN_LINES:])


class Commands(Protocol):
    """Runs programs. Tests replace it."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 600.0,
    ) -> Finished:
        """Run a program to its end. A program that cannot be started, or runs too long, has a code other than 0."""


class SystemCommands:
    """Runs programs of this machine."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 600.0,
    ) -> Finished:
        """Run a program; `environment` is added to a minimal one."""
        complete = {**minimal_environment(), **(environment or {})}
        try:
            done = subprocess.run(  # noqa: S603 - arguments are a list, from lane.toml and from this package
                list(arguments),
                env=complete,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Finished(124, "", f"{arguments[0]} did not end within {timeout:g} s")
        except OSError as error:
            return Finished(127, "", f"{arguments[0]}: {error.strerror}")
        return Finished(done.returncode, done.stdout, done.stderr)


def minimal_environment() -> dict[str, str]:
    """Return what programs need of this process's environment: no PLATFORM_ variable leaks into a release."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "KUBECONFIG", "SSL_CERT_FILE", "XDG_RUNTIME_DIR")
    proxies = [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("PIP_")]
    return {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ}


def checked(commands: Commands, arguments: Sequence[str], remedy: str = "", **options: object) -> Finished:
    """Run a program that must succeed.

    Raises:
        LaneError: it did not, with the end of its output.
    """
    done = commands.run(arguments, **options)  # type: ignore[arg-type]  # the options of Commands.run
    if done.code != 0:
        raise LaneError(f"{' '.join(arguments[:3])} … exited with {done.code}:\n{done.last_lines()}", remedy)
    return done
