"""The command line as operators run it: in separate processes, with exit codes and without tracebacks."""

import asyncio
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from platform_app.auth.tokens import parse_token
from platform_app.db.migrations import head_revision
from tests.conftest import PROVIDER_KEY, Platform
from tests.stand_in_core.build import Edits, build_wheel
from tests.support.commands.command_line import PEPPER, Outcome, check_marks, cli
from tests.support.servers.network.ports import free_port

CREATE = ["create", "--name", "n", "--owner", "o", "--scope", "platform:chat"]
DOWN = {"PLATFORM_DATABASE_URL": "postgresql://fb:pa55word@127.0.0.1:1/p", "PLATFORM_DATABASE_TIMEOUT_SECONDS": "0.5"}


@pytest.fixture
def environment(platform: Platform) -> dict[str, str]:
    return dict(platform.environment)


@pytest.fixture
def empty(platform: Platform, empty_database: str) -> dict[str, str]:
    """A good configuration on a database without tables."""
    return {**platform.environment, "PLATFORM_DATABASE_URL": empty_database}


def create(environment: Mapping[str, str], *more: str) -> dict[str, Any]:
    arguments = ["--name", "a test", "--owner", "cli-tests", "--scope", "platform:chat", "--json", *more]
    outcome = cli(environment, "keys", "create", *arguments)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = outcome.json
    return found


def test_help_names_every_command() -> None:
    for arguments in (["--help"], []):
        outcome = cli({}, *arguments)
        for name in (
            "dev",
            "serve",
            "check",
            "migrate",
            "keys",
            "simulate",
            "audit",
            "request",
            "usage",
            "maintenance",
            "smoke",
        ):
            assert re.search(rf"^\W*{name} +[A-Z]", outcome.all, re.MULTILINE), f"{name} is not explained"
    for group, names in {
        "keys": ("create", "bootstrap", "list", "show", "update", "rotate", "revoke", "peppers"),
        "migrate": ("up", "down", "status", "new"),
    }.items():
        outcome = cli({}, group, "--help")
        assert outcome.code == 0
        for name in names:
            assert re.search(rf"^\W*{name} +[A-Z]", outcome.out, re.MULTILINE), f"{group} {name} is not explained"


def test_forked_command_equals_a_fresh_process() -> None:
    """The other tests fork commands from a process that has loaded them; PYTHONUTF8 asks for a start from nothing."""
    assert cli({}, "keys", "list") == cli({"PYTHONUTF8": "1"}, "keys", "list")


class TestKeys:
    def test_keys_create_prints_key_once_with_its_id(self, environment: dict[str, str]) -> None:
        outcome = cli(environment, "keys", "create", "--name", "n", "--owner", "cli", "--scope", "platform:chat")
        assert outcome.code == 0
        key = outcome.out.removesuffix("\n")
        token = parse_token(key)
        assert token is not None
        assert token.environment == "test"
        assert f"Its id is {token.key_id}." in outcome.err
        shown = cli(environment, "keys", "show", token.key_id)
        assert key.split("_")[3] not in shown.all

    def test_keys_create_prints_json(self, environment: dict[str, str]) -> None:
        made = create(environment, "--model", "sim-ok", "--expires-in-days", "1.5")
        token = parse_token(made["key"])
        assert token is not None
        record = made["api_key"]
        assert (record["key_id"], record["status"], record["allowed_models"]) == (token.key_id, "active", ["sim-ok"])
        assert record["created_by"].startswith("cli:")
        assert cli(environment, "keys", "show", token.key_id, "--json").json == record
        listed = cli(environment, "keys", "list", "--owner", "cli-tests", "--json").json
        assert record in listed
        assert cli(environment, "keys", "list", "--owner", "nobody at all", "--json").json == []

    def test_keys_create_in_production_makes_live_keys(self, environment: dict[str, str]) -> None:
        made = create(environment | {"PLATFORM_ENV": "production"})
        assert made["key"].startswith("fbp_live_")

    def test_keys_list_and_show_print_readable_text(self, environment: dict[str, str]) -> None:
        key_id = create(environment)["api_key"]["key_id"]
        [line] = [line for line in cli(environment, "keys", "list").out.splitlines() if line.startswith(key_id)]
        assert re.search(r"active +\d{4}-\d\d-\d\d +cli-tests +a test +platform:chat", line)
        shown = cli(environment, "keys", "show", key_id).out
        assert re.search(r"^revoked_at +-$", shown, re.MULTILINE)
        assert re.search(r"^scopes +platform:chat$", shown, re.MULTILINE)

    def test_keys_revoke_refuses_a_revoked_key(self, environment: dict[str, str]) -> None:
        key_id = create(environment)["api_key"]["key_id"]
        revoked = cli(environment, "keys", "revoke", key_id, "--reason", "lost", "--json")
        assert revoked.code == 0
        assert (revoked.json["status"], revoked.json["revoked_reason"]) == ("revoked", "lost")
        again = cli(environment, "keys", "revoke", key_id, "--reason", "lost")
        assert again.code == 1
        assert "was revoked at" in again.err

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["create", "--name", "", "--owner", "", "--scope", "admin"], ["name:", "owner:", "scopes: 'admin'"]),
            ([*CREATE, "--expires-in-days", "0"], ["expires_at:"]),
            ([*CREATE, "--expires-in-days", "1e12"], ["too large for a date"]),
            (["show", "abcdefABC123"], ["There is no API key with the id 'abcdefABC123'"]),
            (["revoke", "abcdefABC123", "--reason", "x"], ["There is no API key"]),
            (["revoke", "abcdefABC123", "--reason", " "], ["reason:"]),
        ],
    )  # fmt: skip
    def test_keys_refused_command_says_why(
        self, environment: dict[str, str], arguments: list[str], says: list[str]
    ) -> None:
        outcome = cli(environment, "keys", *arguments)
        assert outcome.code == 1
        assert outcome.out == ""
        assert all(words in outcome.err for words in says), outcome.err

    def test_keys_missing_option_exits_with_2(self, environment: dict[str, str]) -> None:
        assert cli(environment, "keys", "create", "--name", "n").code == 2

    def test_keys_argument_with_invalid_bytes_exits_with_2(self, environment: dict[str, str]) -> None:
        outcome = cli(environment, "keys", "show", "\udcff")
        assert (outcome.code, outcome.err) == (2, "Error: an argument has bytes that are not UTF-8 text.\n")

    def test_keys_empty_database_names_the_command_to_run(self, empty: dict[str, str]) -> None:
        outcome = cli(empty, "keys", "list")
        assert outcome.code == 1
        assert "flowbiz-platform migrate up" in outcome.err

    def test_keys_unavailable_database_names_the_setting(self, environment: dict[str, str]) -> None:
        outcome = cli(environment | DOWN, "keys", "list")
        assert outcome.code == 1
        assert "PLATFORM_DATABASE_URL" in outcome.err

    def test_keys_missing_pepper_exits_with_2(self, environment: dict[str, str]) -> None:
        del environment["PLATFORM_API_KEY_PEPPER"]
        outcome = cli(environment, "keys", *CREATE)
        assert outcome.code == 2
        assert "PLATFORM_API_KEY_PEPPER" in outcome.err


BAD = {
    "PLATFORM_DATABASE_URL": "mysql://fb:pa55word@db/p",
    "PLATFORM_PORT": "eighty",
    "PLATFORM_LOG_LEVEL": "loud",
    "PLATFORM_API_KEY_PEPPER": PEPPER,
}


@pytest.mark.parametrize(
    "arguments", [["serve"], ["check"], ["migrate", "up"], ["migrate", "status"], ["keys", "list"]]
)
def test_command_invalid_configuration_names_all_problems(arguments: list[str]) -> None:
    outcome = cli(BAD, *arguments)
    assert outcome.code == 2
    assert "The configuration is not valid:" in outcome.err
    named = re.findall(r"^  - (PLATFORM_[A-Z_]+): ", outcome.err, re.MULTILINE)
    assert sorted(named) == ["PLATFORM_DATABASE_URL", "PLATFORM_LOG_LEVEL", "PLATFORM_PORT", "PLATFORM_REDIS_URL"]


class TestServe:
    def test_serve_reports_all_missing_secrets(self, environment: dict[str, str]) -> None:
        del environment["PLATFORM_API_KEY_PEPPER"], environment["OPENAI_API_KEY"]
        outcome = cli(environment, "serve")
        assert outcome.code == 2
        assert len(re.findall(r"^  - ", outcome.err, re.MULTILINE)) == 2
        assert "PLATFORM_API_KEY_PEPPER" in outcome.err
        assert "provider 'simulator', secret 'OPENAI_API_KEY'" in outcome.err

    def test_serve_reports_all_problems_of_the_config_file(self, environment: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / "platform.yaml"
        path.write_text("providers: {}\nmodels: {a: {routes: []}}\nmodls: {}\n")
        outcome = cli(environment | {"PLATFORM_CONFIG_FILE": str(path)}, "serve")
        assert outcome.code == 2
        assert "models.a.routes: " in outcome.err
        assert "unknown key 'modls' in the file; did you mean 'models'?" in outcome.err

    def test_serve_refuses_an_empty_database(self, empty: dict[str, str]) -> None:
        outcome = cli(empty, "serve", "--port", str(free_port()), "--metrics-port", str(free_port()))
        assert outcome.code == 1
        assert "flowbiz-platform migrate up" in outcome.err
        assert "an empty database" in outcome.err

    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            yield other.getsockname()[1]

    @pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
    def test_serve_names_a_port_in_use(self, environment: dict[str, str], taken: int, flag: str) -> None:
        ports = {"--port": str(free_port()), "--metrics-port": str(free_port()), flag: str(taken)}
        outcome = cli(environment, "serve", *(part for pair in ports.items() for part in pair))
        assert outcome.code == 2
        assert f"127.0.0.1:{taken} (choose another with {flag})" in outcome.err

    def test_serve_refuses_equal_ports(self, environment: dict[str, str]) -> None:
        outcome = cli(environment, "serve", "--port", "8200", "--metrics-port", "8200")
        assert outcome.code == 2
        assert "metrics need a separate port" in outcome.err

    @pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "x"], ["--workers", "0"], ["--nonsense"]])
    def test_serve_invalid_flags_exit_with_2(self, environment: dict[str, str], arguments: list[str]) -> None:
        assert cli(environment, "serve", *arguments).code == 2


async def in_thread(environment: Mapping[str, str], *flags: str) -> Outcome:
    """Run `check` while this process can respond as the provider."""
    return await asyncio.to_thread(cli, environment, "check", *flags)


class TestCheck:
    async def test_check_prints_one_line_for_each_part(self, environment: dict[str, str]) -> None:
        outcome = await in_thread(environment)
        assert outcome.code == 0, outcome.all
        marks = check_marks(outcome)
        parts = {"configuration", "secret of the pepper", "secret of simulator", "database", "schema", "redis", "core"}
        parts.add("provider simulator")
        assert parts <= set(marks)
        assert set(marks.values()) == {"ok"}
        assert PROVIDER_KEY not in outcome.all

    @pytest.mark.parametrize(
        ("change", "part"),
        [
            ({"PLATFORM_API_KEY_PEPPER": "short"}, "secret of the pepper"),
            ({"OPENAI_API_KEY": ""}, "secret of simulator"),
            ({"OPENAI_API_KEY": ""}, "provider simulator"),
            (DOWN, "database"),
            ({"PLATFORM_REDIS_URL": "redis://:pa55word@127.0.0.1:1"}, "redis"),
        ],
    )
    async def test_check_marks_the_failed_part(
        self, environment: dict[str, str], change: dict[str, str], part: str
    ) -> None:
        outcome = await in_thread(environment | change)
        assert outcome.code == 1
        assert check_marks(outcome)[part] == "FAIL"
        assert check_marks(outcome)["configuration"] == "ok"

    @pytest.mark.parametrize(("flags", "asked"), [((), True), (("--live",), True), (("--no-live",), False)])
    async def test_check_calls_providers_unless_no_live_is_set(
        self, environment: dict[str, str], flags: tuple[str, ...], asked: bool
    ) -> None:
        outcome = await in_thread(environment, *flags)
        assert outcome.code == 0, outcome.all
        assert ("provider simulator" in check_marks(outcome)) is asked
        assert check_marks(outcome)["secret of simulator"] == "ok"

    async def test_check_outdated_schema_names_the_command_to_run(self, empty: dict[str, str]) -> None:
        outcome = await in_thread(empty)
        assert outcome.code == 1
        assert check_marks(outcome)["schema"] == "FAIL"
        assert "flowbiz-platform migrate up" in outcome.out

    async def test_check_warns_about_an_unknown_variable(self, environment: dict[str, str]) -> None:
        outcome = await in_thread(environment | {"PLATFORM_PROT": "1"})
        assert outcome.code == 0
        assert re.search(r"^warn +variable PLATFORM_PROT", outcome.out, re.MULTILINE)


class TestMigrate:
    def test_migrate_up_and_down_change_the_status(self, empty: dict[str, str]) -> None:
        status = cli(empty, "migrate", "status")
        assert status.code == 1
        assert "database: empty" in status.out
        assert "run: flowbiz-platform migrate up" in status.out
        assert cli(empty, "migrate", "up").code == 0
        status = cli(empty, "migrate", "status")
        assert (status.code, status.out) == (0, f"database: {head_revision()}\ncode:     {head_revision()}\n")
        assert cli(empty, "migrate", "down", "base").code == 0
        assert "database: empty" in cli(empty, "migrate", "status").out

    @pytest.mark.parametrize("arguments", [["up", "--revision", "9999"], ["down", "nonsense"], ["down", "9999"]])
    def test_migrate_unknown_revision_is_named(self, empty: dict[str, str], arguments: list[str]) -> None:
        outcome = cli(empty, "migrate", *arguments)
        assert outcome.code == 1
        assert arguments[-1] in outcome.err

    @pytest.mark.parametrize("command", [["up"], ["down", "base"], ["status"]])
    def test_migrate_unavailable_database_names_the_setting(
        self, environment: dict[str, str], command: list[str]
    ) -> None:
        outcome = cli(environment | DOWN, "migrate", *command)
        assert outcome.code == 1
        assert "PLATFORM_DATABASE_URL" in outcome.err
        assert "schema is at" not in outcome.out


class TestRequiredCore:
    """PLATFORM_REQUIRE_CORE: a missing or different core is fatal at start."""

    EDIT: ClassVar[Edits] = {"packages/core/contracts/health.py": ("version: str", "version: int")}

    def _environment(self, environment: dict[str, str], core: Path | None) -> dict[str, str]:
        return environment | {"PLATFORM_REQUIRE_CORE": "true"} | ({"PYTHONPATH": str(core)} if core else {})

    def test_serve_missing_required_core_exits_with_2(self, environment: dict[str, str]) -> None:
        outcome = cli(self._environment(environment, None), "serve", "--port", str(free_port()))
        assert outcome.code == 2
        assert "PLATFORM_REQUIRE_CORE" in outcome.err
        assert "not installed" in outcome.err

    def test_serve_different_required_core_exits_with_2(self, environment: dict[str, str], tmp_path: Path) -> None:
        core = build_wheel(tmp_path, edits=self.EDIT)
        outcome = cli(self._environment(environment, core), "serve", "--port", str(free_port()))
        assert outcome.code == 2
        assert "packages.core.contracts.health.HealthResponse.version" in outcome.err

    @pytest.mark.parametrize(("edits", "state"), [(None, "ok"), (EDIT, "FAIL")], ids=["same", "different"])
    def test_check_marks_a_different_core(
        self, environment: dict[str, str], tmp_path: Path, edits: Edits | None, state: str
    ) -> None:
        core = build_wheel(tmp_path, edits=edits)
        outcome = cli(self._environment(environment, core), "check")
        line = next(line for line in outcome.out.splitlines() if line.split()[1] == "core")
        assert line.split()[0] == state
