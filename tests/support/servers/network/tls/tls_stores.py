"""PostgreSQL and Redis with their own TLS, from Debian's packages: the wheels' servers are built without it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from apps.platform_cli.embedded.account import Account, account_for
from apps.platform_cli.embedded.child import ChildProcess
from tests.support.servers.network.ports import free_port

_START_SECONDS = 120
_HBA = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all all reject\n"


def postgres_programs() -> Path | None:
    """Return the directory of the newest PostgreSQL that Debian installed; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else None


def redis_program() -> str | None:
    """Return the path of redis-server; None if it is not installed."""
    return shutil.which("redis-server")


@dataclass(frozen=True, slots=True)
class TlsPostgres:
    """A running server that takes TLS connections with a password only."""

    port: int
    password: str
    programs: Path
    sockets: Path

    def url(self, database: str = "postgres", **parameters: str) -> str:
        """Return libpq's URL, as an operator writes it."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}?{query}"

    def query(self, statement: str) -> str:
        """Run a statement over the Unix socket, which needs no password, and return what psql prints."""
        arguments = [
            "-h",
            str(self.sockets),
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-qtAc",
            statement,
        ]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        done = subprocess.run(
            [self.programs / "psql", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()


@contextmanager
def tls_postgres(programs: Path, certificate: tuple[Path, Path], password: str) -> Iterator[TlsPostgres]:
    """Run a new PostgreSQL with this certificate and key."""
    with ExitStack() as stack:
        # Short, and outside of pytest's directories, which other accounts cannot enter.
        home = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-postgres-", ignore_cleanup_errors=True))
        )
        account = account_for(home)
        data = home / "data"
        files = [Path(shutil.copy(path, home)) for path in certificate]
        (home / "password").write_text(password)
        _hand_over(account, [home, *files, home / "password"])
        _initialise(programs, data, home / "password", account)
        (data / "pg_hba.conf").write_text(_HBA)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(home), "ssl": "on",
            "ssl_cert_file": str(files[0]), "ssl_key_file": str(files[1]), "fsync": "off",
        }  # fmt: skip
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = ChildProcess(
            "PostgreSQL",
            [str(programs / "postgres"), "-D", str(data), *arguments],
            log_file=certificate[0].with_name("postgres.log"),
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd=Path("/"),
            account=account,
        )
        stack.callback(server.stop)
        ready = [str(programs / "pg_isready"), "-q", "-h", str(home), "-p", str(port)]
        server.wait_ready(lambda: subprocess.run(ready, check=False).returncode == 0, _START_SECONDS)
        yield TlsPostgres(port, password, programs, home)


@contextmanager
def tls_redis(program: str, certificate: tuple[Path, Path], password: str) -> Iterator[int]:
    """Run a new Redis that takes TLS connections with a password only; yield its port."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-redis-")))
        port = free_port()
        configuration = home / "redis.conf"  # a password has no place on a command line
        configuration.write_text(
            f'port 0\ntls-port {port}\nbind 127.0.0.1\ndir {home}\nsave ""\nrequirepass {password}\n'
            f"tls-cert-file {certificate[0]}\ntls-key-file {certificate[1]}\ntls-auth-clients no\n"
        )
        server = ChildProcess("Redis", [program, str(configuration)], log_file=home / "redis.log", cwd=home)
        stack.callback(server.stop)
        server.wait_ready(lambda: _listens(port), _START_SECONDS)
        yield port


def _initialise(programs: Path, data: Path, password_file: Path, account: Account | None) -> None:
    arguments = ["-D", str(data), "-U", "postgres", "--auth=scram-sha-256", "--pwfile", str(password_file)]
    subprocess.run(
        [str(programs / "initdb"), *arguments, "--encoding=UTF8", "--locale=C", "--no-sync"],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        capture_output=True,
        check=True,
        timeout=_START_SECONDS,
    )


def _hand_over(account: Account | None, paths: list[Path]) -> None:
    if account is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
