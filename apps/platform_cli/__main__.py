"""`python -m apps.platform_cli`, the same as `flowbiz-platform`."""

from apps.platform_cli.main import run

run()
