"""`flowbiz-platform dev`: the whole platform on one machine, with nothing to install beside this package."""

import contextlib
import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import typer
from alembic.util import CommandError

from apps.platform_cli.dev.address import Address, CannotStartError, check_ports, checked_url, choose_address
from apps.platform_cli.dev.files import (
    SIMULATED_KEY_PREFIX,
    Catalog,
    custom_catalog,
    first_model,
    new_simulated_key,
    openai_catalog,
    read_env,
    real_openai_key,
    simulator_catalog,
    write_env,
)
from apps.platform_cli.dev.keys import ensure_dev_keys
from apps.platform_cli.dev.signals import StopSignals
from apps.platform_cli.embedded import (
    ChildFailedError,
    ChildProcess,
    DirectoryLock,
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedValkey,
    LockedError,
    reap_leftover,
)
from apps.platform_cli.embedded.child import describe_exit
from apps.platform_cli.embedded.private_file import NotPrivateError, check_data_directory, replace_private
from platform_app.auth.pepper import parse_peppers
from platform_app.db import migrations
from platform_app.errors import SecretError

EXIT_FAILED = 1
EXIT_CANNOT_START = 2
_DATABASE = "platform"
_GATEWAY = ("apps.platform_cli", "serve")
_OPENAI_URL = "https://api.openai.com/v1"
_PEPPER = "PLATFORM_API_KEY_PEPPER"
_GATEWAY_GRACE_SECONDS = 15.0
_READY_SECONDS = 60.0
_WATCH_SECONDS = 0.1


class _StopRequestedError(Exception):
    """Somebody wants an end before everything is up."""


@dataclass(frozen=True)
class _Paths:
    """Where everything lies beneath the data directory."""

    root: Path

    @property
    def env(self) -> Path:
        return self.root / "dev.env"

    @property
    def config(self) -> Path:
        return self.root / "platform.yaml"

    @property
    def simulator_ready(self) -> Path:
        return self.root / "simulator.json"

    def pid(self, name: str) -> Path:
        return self.root / f"{name}.pid"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


def run_dev(port: int, metrics_port: int, data_dir: Path, provider_url: str | None) -> int:
    """Start everything, print where it is, and watch it until SIGINT or SIGTERM.

    Args:
        port: the gateway's port.
        metrics_port: the port of its metrics.
        data_dir: where data, keys and logs are kept between runs; made if it is missing.
        provider_url: send every model there instead of to the simulator or to OpenAI.

    Returns:
        The exit code: 0 after a stop on request, 1 if something failed, 2 if what was asked for cannot be.
    """
    dev = _Dev(_Paths(data_dir.absolute()))
    try:
        with dev.signals:
            return dev.run(port, metrics_port, provider_url)
    except (CannotStartError, LockedError, NotPrivateError) as error:
        _complain(error)
        return EXIT_CANNOT_START
    except (EmbeddedError, OSError) as error:
        _complain(error)
        return EXIT_FAILED


class _Dev:
    """One run: the processes that were started so far, and what they are told."""

    def __init__(self, paths: _Paths) -> None:
        self._paths = paths
        self._started_at = time.monotonic()
        self._children: list[ChildProcess] = []
        self._servers: tuple[ChildProcess, ...] = ()
        self.signals = StopSignals(lambda: [child.pid for child in self._children])

    def run(self, port: int, metrics_port: int, provider_url: str | None) -> int:
        """Start everything, wait for the end, stop everything; the exit code."""
        address = choose_address(os.environ, port, metrics_port)
        upstream = checked_url(provider_url, "--provider-url") if provider_url is not None else None
        own_config = self._own_config(os.environ)
        if own_config is not None and upstream is not None:
            raise CannotStartError("--provider-url changes nothing while PLATFORM_CONFIG_FILE is set; unset one")
        try:
            self._paths.root.mkdir(parents=True, exist_ok=True)
            check_data_directory(self._paths.root)
        except OSError as error:
            raise CannotStartError(
                f"{self._paths.root} cannot be used ({error.strerror}); choose another with --data-dir"
            ) from None
        # Left by ExitStack in reverse: gateway, simulator, Valkey, PostgreSQL, lock.
        with ExitStack() as stack:
            stack.enter_context(DirectoryLock(self._paths.root / "dev.lock"))
            for name in ("gateway", "simulator"):
                if (pid := reap_leftover(self._paths.pid(name), grace_seconds=1.0)) is not None:
                    _say(f"ended the {name} (process {pid}) that an earlier run left behind")
            check_ports(address)
            try:
                self._start(stack, address, upstream, own_config)
                while True:
                    self._watch(may_end=self._servers)
                    time.sleep(_WATCH_SECONDS)
            except _StopRequestedError:
                code = 0
            except EmbeddedError as error:
                # Said before the rest is stopped, since that may take a while.
                _complain(error)
                code = EXIT_FAILED
            _say("stopping (Ctrl-C again: kill at once)")
        _say("stopped")
        return code

    def _start(self, stack: ExitStack, address: Address, upstream: str | None, own_config: Path | None) -> None:
        simulated = upstream is None and not real_openai_key(os.environ)
        postgres = EmbeddedPostgres(self._paths.root / "postgres", log_file=self._paths.log("postgres"), notify=_say)
        valkey = EmbeddedValkey(self._paths.root / "valkey", log_file=self._paths.log("valkey"))
        stack.callback(postgres.stop)
        stack.callback(valkey.stop)
        # The simulator first: Python needs longest to start, and meanwhile the servers do.
        simulator = self._spawn_simulator(stack) if simulated else None
        valkey.spawn()
        self._children.append(valkey.child)
        postgres.spawn()
        self._children.append(postgres.child)
        postgres.wait_ready(_READY_SECONDS, self._watch)
        valkey.wait_ready(_READY_SECONDS, self._watch)

        postgres.create_database(_DATABASE)
        database_url = postgres.url(_DATABASE)
        with _migration_errors(self._paths):
            migrations.upgrade(database_url)
        self._watch()

        catalog = self._catalog(simulator, upstream)
        values = self._values(address, database_url, valkey.url, catalog, own_config)
        self._servers = tuple(self._children)
        gateway = self._spawn_gateway(stack, values)
        self._wait_for_gateway(gateway, f"{address.base_url}/readyz")

        rows = [
            ("postgresql", f"unix socket {postgres.socket_directory}", f"pid {postgres.pid}"),
            ("valkey", f"unix socket {valkey.socket}", f"pid {valkey.pid}"),
        ]
        if simulator is not None:
            rows.append(("simulator", self._simulator_url(), f"pid {simulator.pid}"))
        else:
            rows.append(("provider", ", ".join(catalog.addresses) if not own_config else "", ""))
        if own_config is not None:
            rows.append(("config", f"{own_config} (PLATFORM_CONFIG_FILE)", ""))
        rows.append(("gateway", address.base_url, f"pid {gateway.pid}   metrics {address.metrics_url}"))
        self._summarise(rows, address, values["PLATFORM_CHAT_KEY"])

    def _watch(self, may_end: Collection[ChildProcess] = ()) -> None:
        """Raise if it is time to stop: on request, or because a process ended by itself.

        Those that `may_end` are only said to have ended: the gateway is built to go on without them, and to see that
        is what somebody wants who kills one.
        """
        if self.signals.requested is not None:
            raise _StopRequestedError
        for child in list(self._children):
            if child.poll() is not None:
                # Ctrl-C reaches only us, but a shutdown of the machine all at once.
                time.sleep(_WATCH_SECONDS)
                if self.signals.requested is not None:
                    raise _StopRequestedError
                if child not in may_end:
                    raise child.failure()
                self._children.remove(child)
                how = describe_exit(child.poll())
                _say(f"{child.name} ended: {how}; the gateway goes on without it, the next start of dev brings it back")

    def _spawn_simulator(self, stack: ExitStack) -> ChildProcess:
        ready = self._paths.simulator_ready
        ready.unlink(missing_ok=True)
        arguments = ["--host", "127.0.0.1", "--port", "0", "--ready-file", str(ready)]
        child = ChildProcess(
            "the simulator",
            [sys.executable, "-m", "apps.provider_simulator", *arguments],
            log_file=self._paths.log("simulator"),
            pid_file=self._paths.pid("simulator"),
        )
        stack.callback(child.stop)
        self._children.append(child)
        return child

    def _simulator_url(self) -> str:
        urls = json.loads(self._paths.simulator_ready.read_text())
        return str(urls["base_url"])

    def _spawn_gateway(self, stack: ExitStack, values: Mapping[str, str]) -> ChildProcess:
        # Its own patience with open streams ends before ours with it, and no load balancer has to notice its end.
        patience = {
            "PLATFORM_SHUTDOWN_GRACE_SECONDS": str(int(_GATEWAY_GRACE_SECONDS) - 5),
            "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
        }
        child = ChildProcess(
            "the gateway",
            [sys.executable, "-m", *_GATEWAY],
            env={**patience, **os.environ, **values},
            pid_file=self._paths.pid("gateway"),
        )
        stack.callback(child.stop, _GATEWAY_GRACE_SECONDS)
        self._children.append(child)
        return child

    def _wait_for_gateway(self, gateway: ChildProcess, url: str) -> None:
        answer = "none"
        # The environment is left out, for a proxy set there is not for this machine.
        with httpx.Client(timeout=2.0, trust_env=False, verify=False) as client:  # noqa: S501 - plain http, and certificates are slow to load

            def ready() -> bool:
                nonlocal answer
                try:
                    response = client.get(url)
                except httpx.HTTPError:
                    return False
                answer = f"{response.status_code} {response.text[:1000]}"
                return response.status_code == httpx.codes.OK

            try:
                gateway.wait_ready(ready, _READY_SECONDS, self._watch)
            except ChildFailedError as error:
                raise ChildFailedError(f"{error}\nIts last answer to GET {url}: {answer}") from None

    def _own_config(self, environ: Mapping[str, str]) -> Path | None:
        """The config file that the user chose; not ours, which a sourced dev.env names too."""
        name = environ.get("PLATFORM_CONFIG_FILE")
        if not name or Path(name).resolve() == self._paths.config.resolve():
            return None
        return Path(name).absolute()

    def _catalog(self, simulator: ChildProcess | None, upstream: str | None) -> Catalog:
        if simulator is not None:
            simulator.wait_ready(self._paths.simulator_ready.exists, _READY_SECONDS, self._watch)
            return simulator_catalog(self._simulator_url())
        if upstream is not None:
            return custom_catalog(upstream)
        base = os.environ.get("PLATFORM_OPENAI_BASE_URL") or _OPENAI_URL
        return openai_catalog(checked_url(base, "PLATFORM_OPENAI_BASE_URL"))

    def _values(
        self, address: Address, database_url: str, redis_url: str, catalog: Catalog, own_config: Path | None
    ) -> dict[str, str]:
        """What the gateway is told, secrets and keys included; writes both files."""
        remembered = read_env(self._paths.env)
        chosen = os.environ.get("PLATFORM_DEFAULT_MODEL")
        if own_config is not None:
            default_model = chosen or first_model(own_config) or catalog.default_model
        else:
            default_model = chosen if chosen and chosen in catalog.models else catalog.default_model
            replace_private(self._paths.config, catalog.to_yaml())
        values = {
            "PLATFORM_BASE_URL": address.base_url,
            "PLATFORM_METRICS_URL": address.metrics_url,
            "PLATFORM_ENV": "dev",
            "PLATFORM_HOST": address.host,
            "PLATFORM_PORT": str(address.port),
            "PLATFORM_METRICS_PORT": str(address.metrics_port),
            "PLATFORM_DATABASE_URL": database_url,
            "PLATFORM_REDIS_URL": redis_url,
            "PLATFORM_CONFIG_FILE": str(own_config or self._paths.config),
            "PLATFORM_DEFAULT_MODEL": default_model,
            # Beside the database whose records it holds: another directory's spool belongs to another database.
            "PLATFORM_SPOOL_DIR": str((self._paths.root / "spool").absolute()),
            "PLATFORM_SECRET_PROVIDER": "env",
            _PEPPER: _pepper(remembered),
        }
        comments = [
            "Written by `flowbiz-platform dev` at every start, and read by it: without this file it makes new keys.",
            f"Use it: set -a; . {shlex.quote(str(self._paths.env))}; set +a",
        ]
        if real_openai_key(os.environ):
            comments.append("OPENAI_API_KEY is the one of the shell that ran `dev`; it is not stored here.")
        else:
            old = remembered.get("OPENAI_API_KEY", "")
            values["OPENAI_API_KEY"] = old if old.startswith(SIMULATED_KEY_PREFIX) else new_simulated_key()
        values |= self._keys(values, remembered)
        write_env(self._paths.env, values, comments)
        return values

    def _keys(self, values: Mapping[str, str], remembered: Mapping[str, str]) -> dict[str, str]:
        """The two keys: those of the last run if the database still knows them."""
        old = [remembered.get(name) or None for name in ("PLATFORM_ADMIN_KEY", "PLATFORM_CHAT_KEY")]
        new = ensure_dev_keys({**os.environ, **values}, *old)
        for what, before, now in zip(("admin", "chat"), old, new, strict=True):
            if before is not None and before != now:
                _say(f"the {what} key in {_shown(self._paths.env)} is not valid in this database; made a new one")
        return {"PLATFORM_ADMIN_KEY": new[0], "PLATFORM_CHAT_KEY": new[1]}

    def _summarise(self, rows: list[tuple[str, str, str]], address: Address, chat_key: str) -> None:
        width = max(len(where) for _, where, _ in rows)
        for name, where, rest in rows:
            _say(f"{name:<12} {where:<{width}}   {rest}".rstrip())
        source = f"set -a; . {shlex.quote(_shown(self._paths.env))}; set +a"
        _say(f"{'keys':<12} {source}   (PLATFORM_ADMIN_KEY, PLATFORM_CHAT_KEY)")
        _say(f"{'logs':<12} {_shown(self._paths.log('*'))}; the gateway's follow here")
        _say("\nTry it:")
        _say(f"  {_curl(address, chat_key, os.environ)}")
        _say(f"ready in {time.monotonic() - self._started_at:.1f} s")


@contextmanager
def _migration_errors(paths: _Paths) -> Iterator[None]:
    """Alembic's complaints, with what to do: the data may come from other code."""
    try:
        yield
    except CommandError as error:
        raise EmbeddedError(
            f"the database cannot be migrated: {error}; if other code made {_shown(paths.root)}, "
            "move or delete it, or choose another with --data-dir"
        ) from error


def _pepper(remembered: Mapping[str, str]) -> str:
    text = remembered.get(_PEPPER, "")
    if text:
        try:
            parse_peppers(_PEPPER, text)
        except SecretError as error:
            _say(f"{error}: made a new pepper")
        else:
            return text
    return f"1:{secrets.token_hex(32)}"


def _curl(address: Address, chat_key: str, environ: Mapping[str, str]) -> str:
    proxied = any(environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))
    words = ["curl", "-s", *(["--noproxy", "*"] if proxied else []), f"{address.base_url}/v1/platform/chat"]
    for header in (f"Authorization: Bearer {chat_key}", "Content-Type: application/json"):
        words += ["-H", header]
    return shlex.join([*words, "-d", json.dumps({"prompt": "Hello"})])


def _shown(path: Path) -> str:
    """The path as short as it can be typed here, with a slash: without one a shell's `.` searches PATH."""
    try:
        short = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
    return short if "/" in short else f"./{short}"


def _say(line: str) -> None:
    # Whoever reads may be gone (a closed terminal, `| head`); that must not keep us from stopping things.
    with contextlib.suppress(OSError):
        typer.echo(line)


def _complain(error: Exception) -> None:
    what = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
    with contextlib.suppress(OSError):
        typer.echo(f"error: {what}", err=True)
