"""The parent process, `python -m apps.platform_cli.serve.parent`: `serve` replaces itself with it after all checks.

It imports no web framework, no database driver and no settings (`tests/unit/apps/platform_cli/serve/test_imports.py`),
so that it needs a third of a worker's memory.
"""

import gc
import os
import socket
import sys

from platform_app.observability.optional_modules import leave_out_optional_modules

leave_out_optional_modules()

# ruff: noqa: E402 - before any library is imported
from apps.platform_cli.serve.metrics.worker import serve_metrics
from apps.platform_cli.serve.options import ParentOptions
from apps.platform_cli.serve.supervisor import Supervisor
from apps.platform_cli.serve.trace_exporter import TraceExporter
from platform_app.errors import ConfigurationError
from platform_app.observability.logging import configure_logging
from platform_app.observability.logs.unhandled import capture_unhandled


def main() -> int:
    """Serve until a signal stops the process. Return the exit code."""
    options = ParentOptions.take(os.environ)
    sink = configure_logging(options.log_level, options.log_format, repeats_per_second=options.log_repeats_per_second)
    capture_unhandled()
    gc.freeze()
    with (
        socket.socket(fileno=options.listening) as listening,
        socket.socket(fileno=options.metrics_listening) as metrics_listening,
        serve_metrics(metrics_listening, options.metrics_cache_seconds) as directory,
    ):
        environment = dict(os.environ)

        def prepare() -> None:
            """Make sure of the metrics directory, and name it to the next process."""
            directory.ensure()
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(directory.path)

        prepare()
        if not options.exports_traces:
            code = Supervisor(options, listening, environment, directory.forget, before_start=prepare).run()
        else:
            with TraceExporter(environment, options.workers, directory.forget, before_start=prepare) as exporter:
                code = Supervisor(
                    options, listening, environment, directory.forget, exporter=exporter, before_start=prepare
                ).run()
    sink.close()
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigurationError as error:
        sys.stderr.write("The configuration is not valid:\n" + "".join(f"  - {each}\n" for each in error.problems))
        sys.exit(2)
