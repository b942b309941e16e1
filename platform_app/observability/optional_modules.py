"""Leave out optional modules that libraries import if they find them, and that a serving process does not use.

structlog and httpx import rich with pygments for terminals, and redis-py the SDK of OpenTelemetry for its own metrics:
10 MB of each worker. Python treats a name whose entry in `sys.modules` is None as a module that is not installed.
"""

import sys

UNUSED = ("rich", "pygments", "opentelemetry.sdk", "psutil")


def leave_out_optional_modules() -> None:
    """Call this before the first import of a library, in the main module of a process."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # documented: import raises ModuleNotFoundError
