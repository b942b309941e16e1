"""Real servers for the whole session, from the wheels that ship them: nothing is installed or left behind."""

import gc
import itertools
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.faults.catalog import MODELS
from apps.provider_simulator.server import ProviderSimulator
from platform_app.auth.keys.records import Actor, KeyRecord, NewKey
from platform_app.config import Settings, load_settings
from platform_app.db import migrations
from platform_app.resources.key_admin import open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.support.gateway.keys_api import sql
from tests.support.gateway.process import Gateway, write_config
from tests.support.gateway.public_certificates import share_public_certificates
from tests.support.timing.apart import run_apart

PROVIDER_KEY = "sk-canary-5d8c2f6ab190wqzx"
"""Its end is no hexadecimal number: tests look for the last four characters, and ids are random digits."""
PATIENT = {"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}}
"""Policies that let every scripted fault through as it is; the policies have their own tests."""
GENEROUS = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 1_000_000, "window_seconds": 60}]}

_numbers = itertools.count(1)

share_public_certificates()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server for the session. Tests that stop or freeze a server start their own.

    Not below pytest's own temporary directory: every pytest that starts closes that to other users, also to the one
    that the server of another pytest runs as.
    """
    with tempfile.TemporaryDirectory(prefix="fb") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres" / "data")
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey server for the session. Tests that stop or freeze a server start their own."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def simulator() -> AsyncIterator[ProviderSimulator]:
    """The provider simulator on a real socket, in this process, so that its counts can be read."""
    async with ProviderSimulator() as running:
        yield running


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a new database without any table."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def database(postgres: EmbeddedPostgres) -> str:
    """The URL of the session's database, migrated to head. Tests create their own keys in it."""
    postgres.create_database("platform")
    url = postgres.url("platform")
    migrations.upgrade(url)
    return url


@dataclass(frozen=True)
class Platform:
    """The environment that a gateway needs to start, and a way to create keys for it."""

    environment: Mapping[str, str]

    def key(self, *scopes: str, models: list[str] | None = None, owner: str = "tests", **fields: object) -> str:
        """Create a key and return its text."""
        return self.new_key(*scopes, models=models, owner=owner, **fields)[1]

    def new_key(
        self, *scopes: str, models: list[str] | None = None, owner: str = "tests", **fields: object
    ) -> tuple[KeyRecord, str]:
        """Create a key and return its record and text."""
        new = NewKey("a test", owner, list(scopes) or ["platform:chat"], "test", models, **fields)  # type: ignore[arg-type]

        async def create() -> tuple[KeyRecord, str]:
            async with open_key_admin(self.settings(), EnvSecretStore(self.environment)) as admin:
                record, token = await admin.lifecycle.create(new, await admin.peppers.current(), Actor("tests"))
                return record, token.text

        return run_apart(create)

    def revoke(self, key_id: str) -> None:
        async def revoke() -> None:
            async with open_key_admin(self.settings(), EnvSecretStore(self.environment)) as admin:
                await admin.lifecycle.revoke(key_id, "a test", Actor("tests"))

        run_apart(revoke)

    def expired_key(self) -> str:
        """Create a key, let it expire, and return its text. No test can wait for a short life: it may end before the
        key is created."""
        record, text = self.new_key(expires_at=datetime.now(UTC) + timedelta(hours=1))
        past = "UPDATE api_keys SET expires_at = created_at + interval '1 millisecond' WHERE key_id = :key_id"
        sql(self.environment["PLATFORM_DATABASE_URL"], past, key_id=record.key_id)
        return text

    def settings(self) -> Settings:
        """Return the gateway's settings."""
        fields = {
            name.removeprefix("PLATFORM_").lower(): value
            for name, value in self.environment.items()
            if name.startswith("PLATFORM_") and name != "PLATFORM_API_KEY_PEPPER"
        }
        return load_settings(**fields)


@pytest.fixture(scope="session")
def platform(
    database: str, valkey: EmbeddedValkey, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Platform:
    """A migrated database, Valkey, and a config with every model of the simulator and generous limits."""
    config = write_config(
        tmp_path_factory.mktemp("config") / "platform.yaml",
        simulator.base_url,
        {name: name for name in MODELS},
        rate_limits=GENEROUS,
        policies=PATIENT,
    )
    return Platform(
        {
            "PATH": os.environ.get("PATH", ""),
            "PLATFORM_ENV": "dev",
            "PLATFORM_DATABASE_URL": database,
            "PLATFORM_REDIS_URL": valkey.url,
            "PLATFORM_REDIS_TIMEOUT_MS": "2000",  # a busy machine's server does not always respond in the usual 50
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_DEFAULT_MODEL": "sim-ok",
            "PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}",
            "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
            "PLATFORM_AUTH_FAILURES_PER_MINUTE": "1000000",
            "PLATFORM_REFUSALS_PER_ADDRESS_PER_MINUTE": "1000000",  # tests look for the row and the line of a request
            "PLATFORM_LOG_REPEATS_PER_SECOND": "0",  # tests look for a line that the flood guard may count instead
            "PLATFORM_METRICS_CACHE_SECONDS": "0",  # tests read a metric right after what it counts
            "PLATFORM_SHUTDOWN_GRACE_SECONDS": "5",
            "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "30",  # the simulator shares its loop with the tests
            "PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS": "60",
            "OPENAI_API_KEY": PROVIDER_KEY,
        }
    )


@pytest.fixture(scope="session")
def gateway(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the session, with one worker and generous limits."""
    with Gateway(platform.environment, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def chat_key(platform: Platform) -> str:
    """A key with the scope platform:chat."""
    return platform.key("platform:chat")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Plain httpx, ignoring the environment's proxies."""
    async with httpx.AsyncClient(timeout=300, trust_env=False) as http:
        yield http


@pytest.fixture
def show_figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a measured figure at the end of the run."""
    return lambda text: request.node.user_properties.append(("figure", text))


LONGEST = [
    "deploy/host/test_image.py", "deploy/lane/test_release_under_load.py", "attacks/soak/test_soak.py",
    "integration/http/test_schemathesis.py", "chaos/test_ledger_chaos.py", "chaos/outages/test_outages.py",
    "drill/test_drill.py", "clients/frameworks/test_frameworks.py", "chaos/soak/test_soak.py",
    "deploy/upgrades/test_two_versions.py",
    "integration/cli/test_commands.py", "integration/cli/test_core_collision.py",
    "integration/cli/test_dev_command.py", "attacks/test_refusal_cost.py", "chaos/test_interrupted_calls.py",
    "attacks/differential/test_differential.py",
    "integration/http/heads/test_edge_bounds.py", "integration/http/bodies/test_anything.py",
    "integration/docs/test_operations_page.py", "integration/docs/test_readme.py",
    "integration/limits/test_processes.py",
    "integration/providers/transport/test_chance.py", "integration/observability/test_expressions.py",
    "chaos/test_rotation_under_load.py", "chaos/test_key_propagation.py", "integration/idempotency/test_processes.py",
]  # fmt: skip
"""Files that take long, whatever the number of their tests; the longest first."""


def pytest_configure(config: pytest.Config) -> None:
    """Register `proof`: these tests take as long as all others, and a change of one line does not need them (ADR 44).

    Not in pyproject.toml, because make installs the virtual environment again when that file changes.
    """
    config.addinivalue_line(
        "markers", "proof: runs a whole system under load, faults or chance, or builds and releases it; `make proofs`"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Read only the files that have proofs, if only proofs are wanted: each process collects all that it may run."""
    wanted = config.getoption("markexpr") != "proof" or not collection_path.match("test_*.py")
    return None if wanted or "pytest.mark.proof" in collection_path.read_text() else True


def pytest_collection() -> None:
    """Look for no garbage while tests are collected: millions of objects are made, and all of them stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what collecting has made out of each later search for garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, then those with the most tests: a file runs in one process, and at the
    end no process must wait for a long file of another."""
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -tests[item.path], str(item.path)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fail-on-skip`: for CI, where everything that a test could need is installed."""
    parser.addoption("--fail-on-skip", action="store_true", help="a skipped test fails the run")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the measured figures, and each skipped test if `--fail-on-skip` is given."""
    _print_figures(terminalreporter)
    if config.getoption("--fail-on-skip"):
        for report in terminalreporter.stats.get("skipped", []):
            terminalreporter.write_line(f"SKIPPED, which --fail-on-skip forbids: {report.nodeid}", red=True)


def _print_figures(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    figures = [(each.nodeid, text) for each in reports for kind, text in each.user_properties if kind == "figure"]
    if figures:
        terminalreporter.section("measured")
    for nodeid, text in figures:
        terminalreporter.write_line(f"{nodeid.rpartition('/')[2]}: {text}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a skip into a failure of the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--fail-on-skip") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
