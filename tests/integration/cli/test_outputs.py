"""Commands whose output cannot be written: a message and an exit code, and 0 only if nothing was lost."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from apps.platform_cli.terminal.entry import CLOSED_PIPE
from tests.conftest import Platform
from tests.support.commands.command_line import Destination, cli, run_command
from tests.support.gateway.http import until
from tests.support.gateway.keys_api import sql
from tests.support.servers.network.ports import free_port

CREATE = ["keys", "create", "--owner", "outputs", "--scope", "platform:chat", "--name"]
COMMANDS = (
    ["--version"], ["--help"], ["check", "--no-live"], ["keys", "list"], ["keys", "list", "--json"], ["audit"],
    ["usage", "--format", "csv"], ["migrate", "up"], ["migrate", "status"],
)  # fmt: skip
SILENT = ["audit"]
"""The commands that may have nothing to write."""
FAILING = (
    ["keys", "--nonsense"],
    ["keys", "show", "none"],
    ["keys", "list", "--owner", "none"],
    ["migrate", "down", "x"],
)


@pytest.fixture(scope="module")
def environment(platform: Platform) -> dict[str, str]:
    platform.key(owner="outputs")
    return {**platform.environment, "COLUMNS": "200", "PLATFORM_DATABASE_TIMEOUT_SECONDS": "30"}


def test_lost_output_is_never_success(environment: dict[str, str]) -> None:
    places: tuple[Destination, ...] = ("full", "gone")
    cases = [(each, place) for place in places for each in COMMANDS]
    for arguments, place in [*cases, (["check", "--no-live"], "closed")]:
        done = run_command(environment, *arguments, stdout=place)
        assert "Traceback" not in done.stderr, (arguments, done)
        if arguments == SILENT and done.returncode == 0:
            continue
        problem = {"closed": "stdout is closed", "full": "No space left on device", "gone": ""}[place]
        assert done.returncode == (CLOSED_PIPE if place == "gone" else 1), (arguments, done)
        expected = f"The output cannot be written: {problem}." if problem else ""
        assert done.stderr.startswith(expected), arguments
        assert len(done.stderr.splitlines()) == bool(problem), (arguments, done)


def test_lost_messages_change_no_exit_code(environment: dict[str, str]) -> None:
    places: tuple[Destination, ...] = ("file", "closed", "full")
    done = [run_command(environment, *each, stderr=place) for each in FAILING for place in places]
    assert [each.returncode for each in done] == [2] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert all("Traceback" not in each.stdout + each.stderr for each in done)


def test_key_that_cannot_be_shown_is_not_created(environment: dict[str, str]) -> None:
    """A full disk is noticed only after the change; then the message has the key and the way to a new secret."""
    database = environment["PLATFORM_DATABASE_URL"]
    key_id = cli(environment, *CREATE, "rotated", "--json").json["api_key"]["key_id"]
    rotate = ["keys", "rotate", key_id]
    lost_in: tuple[Destination, ...] = ("closed", "full", "gone")
    done = {
        (lost, each[1]): run_command(environment, *each, stdout=lost)
        for lost in lost_in
        for each in ([*CREATE, f"lost-{lost}"], rotate)
    }
    assert {each.returncode for each in done.values()} == {1}
    created = {str(row["name"]): row["key_id"] for row in sql(database, "SELECT name, key_id FROM api_keys")}
    assert {name for name in created if name.startswith("lost-")} == {"lost-full"}
    of = {case: each.stderr for case, each in done.items()}
    for lost in ("closed", "gone"):
        assert of[lost, "create"].endswith("No key was created, because it is shown only once.\n")
        assert of[lost, "rotate"].endswith("The key was not rotated, because its new secret is shown only once.\n")
    assert f"flowbiz-platform keys rotate {created['lost-full']}" in of["full", "create"]
    assert "No client has it." in of["full", "create"]
    assert "which ends the old secret at once" in of["full", "rotate"]


def serve(environment: dict[str, str], directory: Path, line: str) -> tuple["subprocess.Popen[bytes]", str]:
    """Start `serve` as a line of the shell has it, with `{0}` for the command."""
    port, metrics_port = free_port(), free_port()
    command = (
        f"exec {sys.executable} -m apps.platform_cli serve --port {port} --metrics-port {metrics_port} --workers 1"
    )
    child = subprocess.Popen(
        ["/bin/sh", "-c", line.format(command)], env={**environment, "PLATFORM_SPOOL_DIR": str(directory / "spool")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return child, f"http://127.0.0.1:{port}"


def is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("line", ["{0} >&-", "{0} 2>&-"])
async def test_gateway_serves_without_its_outputs(
    environment: dict[str, str], client: httpx.AsyncClient, tmp_path: Path, line: str
) -> None:
    """Without stdout, or with a reader of stdout that ends after one line, as `| head -1` does, and without stderr."""
    child, url = serve(environment, tmp_path, line)
    assert child.stdout is not None
    assert child.stderr is not None
    with child, child.stdout, child.stderr:
        child.stdout.readline()
        child.stdout.close()
        try:
            await until(lambda: is_live(url))
            for _ in range(3):
                assert (await client.get(f"{url}/v1/models")).status_code == 401
        finally:
            child.terminate()
        assert child.wait(300) == 0
        said = child.stderr.read().decode()
    assert said == (
        "" if "2>&-" in line else "stdout cannot be written: log lines are dropped, and only counted in a metric.\n"
    )


def test_missing_temporary_directory_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nonexistent']\n"
    )
    missing = {**environment, "TMPDIR": "/nonexistent", "PYTHONPATH": str(tmp_path)}
    child, _ = serve(missing, tmp_path, "{0}")
    _, said = child.communicate(timeout=300)
    assert child.returncode == 2, said
    assert b"TMPDIR: no temporary directory can be written (tried /nonexistent)" in said
    assert b"Traceback" not in said
    assert cli(missing, "keys", "list").code == 0
