"""Where the checkout is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The directory that holds README.md and pyproject.toml."""
