"""`flowbiz-platform keys`: create and change API keys with the same code as the HTTP routes.

command.py  every subcommand with its options
inputs.py   options that need reading: limits, expiries, statuses
listing.py  keys as a table and as text
owners.py   owners with their keys and budgets
session.py  the database and the pepper for one command
"""

from apps.platform_cli.keys.command import app

__all__ = ["app"]
