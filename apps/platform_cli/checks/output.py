"""One line for each check, in colour on a terminal unless NO_COLOR is set (https://no-color.org)."""

import os

import typer

from platform_app.credential_forms import mask_keys
from platform_app.readiness import Check

_COLOURS = {"ok  ": typer.colors.GREEN, "warn": typer.colors.YELLOW, "FAIL": typer.colors.RED}


def line(check: Check) -> str:
    """Return the line of a check. Keys are masked, and line breaks become spaces."""
    mark = "ok  " if check.ok else ("FAIL" if check.required else "warn")
    shown = mark if os.environ.get("NO_COLOR") else typer.style(mark, fg=_COLOURS[mark], bold=mark == "FAIL")
    return f"{shown}  {check.name:<24} {mask_keys(' '.join(check.detail.split()))}"
