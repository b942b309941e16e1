"""The processes inside the copied tree. Each reads jobs, one line of JSON each, and forks for every job.

`fresh`: imports the libraries only. A fork starts pytest and imports the project, so it sees what the files say.
`live FILE TESTS…`: starts pytest and collects the tests once. A fork exchanges the code of the functions in FILE for
the mutant's and runs the chosen tests. That is ten times as fast, but works only for changes inside a function.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutation.runs.coverage import LineCoverage
from tests.mutation.runs.forked import run_forked
from tests.mutation.runs.live_code import CannotExchange, LiveModule

LIBRARIES = (
    "aiohappyeyeballs", "asyncpg", "fakeredis", "fastapi", "genai_prices", "httptools", "httpx", "prometheus_client",
    "pydantic_settings", "pytest", "redis.asyncio", "sqlalchemy.ext.asyncio", "structlog", "typer", "uvicorn", "yaml",
)  # fmt: skip
OPTIONS = ["-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--no-header"]

CANNOT_EXCHANGE = 99
"""The exit code for a mutant that needs a new import."""


class Channel:
    """Jobs from the standard input, results to the standard output; both are closed for everything else."""

    def __init__(self, log: Path) -> None:
        self._jobs = os.fdopen(os.dup(0))
        self._results = os.fdopen(os.dup(1), "w")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(self._log, number)

    def serve(self, run: Callable[[dict[str, Any]], int]) -> None:
        """Run each job in a fork until the input ends."""
        gc.collect()
        gc.freeze()  # a fork shares what its collector leaves alone
        while line := self._jobs.readline():
            job = json.loads(line)
            os.ftruncate(self._log, 0)
            code, seconds = run_forked(lambda job=job: run(job), job["timeout"])  # type: ignore[misc]
            self._results.write(json.dumps({"code": code, "seconds": seconds}) + "\n")
            self._results.flush()


def fresh(channel: Channel) -> None:
    """Serve jobs that start pytest."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import pytest

    channel.serve(lambda job: int(pytest.main([*OPTIONS, "-x", *job["tests"]])))


def live(channel: Channel, file: Path, tests: list[str]) -> None:
    """Serve jobs on tests that are collected once."""
    import pytest

    class Loop:
        """Takes the place of pytest's loop over the tests."""

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            items = {item.nodeid: item for item in session.items}
            module = LiveModule(file)

            def run(job: dict[str, Any]) -> int:
                chosen = [items[name] for name in job["tests"] or items]
                if "text" in job:
                    try:
                        module.exchange(job["text"])
                    except CannotExchange:
                        return CANNOT_EXCHANGE
                coverage = LineCoverage(file) if "lines" in job else None
                if coverage:
                    session.config.pluginmanager.register(coverage)
                    coverage.start()
                for item, following in zip(chosen, [*chosen[1:], None], strict=True):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.testsfailed and not coverage:
                        return 1
                if coverage:
                    coverage.write(Path(job["lines"]))
                return 1 if session.testsfailed else 0

            channel.serve(run)
            return True

    pytest.main([*OPTIONS, *tests], plugins=[Loop()])


def main() -> None:
    """Read the kind of worker from the command line."""
    kind, log, *rest = sys.argv[1:]
    channel = Channel(Path(log))
    if kind == "fresh":
        fresh(channel)
    else:
        live(channel, Path(rest[0]), rest[1:])


if __name__ == "__main__":
    main()
