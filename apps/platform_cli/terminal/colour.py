"""Colours, only where a person sees them."""

import os
import sys
from typing import Literal, TextIO

import typer

Colour = Literal["red", "yellow", "green"]


def coloured(text: str, colour: Colour, stream: TextIO | None = None) -> str:
    """Return the text in this colour if the stream (stdout by default) is a terminal that shows colours. NO_COLOR
    (https://no-color.org), unless it is empty, and TERM=dumb switch them off."""
    stream = stream or sys.stdout
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else typer.style(text, fg=colour)
