"""Start the whole platform on one machine, watch its processes, and stop them in reverse order."""

import json
import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from alembic.util import CommandError

from apps.platform_cli.dev.address import Address, CannotStartError, check_ports, checked_url, choose_address, last_port
from apps.platform_cli.dev.console import complain, curl_command, say, shown_path
from apps.platform_cli.dev.environment import own_config_file, write_environment
from apps.platform_cli.dev.files import Catalog, custom_catalog, openai_catalog, real_openai_key, simulator_catalog
from apps.platform_cli.dev.paths import DevPaths
from apps.platform_cli.dev.signals import StopSignals
from apps.platform_cli.embedded.child import ChildFailedError, ChildProcess, describe_exit, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock, LockedError
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.private_file import NotPrivateError, check_data_directory
from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config, rule_files
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.db import migrations

EXIT_FAILED = 1
EXIT_CANNOT_START = 2
_DATABASE = "platform"
_GATEWAY = ("apps.platform_cli", "serve")
_OPENAI_URL = "https://api.openai.com/v1"
_GATEWAY_GRACE_SECONDS = 15.0
_READY_SECONDS = 60.0
_WATCH_SECONDS = 0.1


class _StopRequestedError(Exception):
    """A signal requested the stop, possibly before everything has started."""


def run_dev(
    port: int, metrics_port: int, data_dir: Path, provider_url: str | None, prometheus_port: int | None = None
) -> int:
    """Start everything, print the addresses, and watch the processes until SIGINT or SIGTERM.

    Args:
        port: the gateway's port.
        metrics_port: the port of its metrics.
        data_dir: the directory for data, keys and logs between runs; created if it is missing.
        provider_url: the address for every model, instead of the simulator or OpenAI.
        prometheus_port: start Prometheus on this port; None for no Prometheus.

    Returns:
        The exit code: 0 after a stop on request, 1 for a failure, 2 for invalid options or environment.
    """
    dev = _Dev(DevPaths(data_dir.absolute()))
    try:
        with dev.signals:
            return dev.run(port, metrics_port, provider_url, prometheus_port)
    except (CannotStartError, LockedError, NotPrivateError) as error:
        complain(error)
        return EXIT_CANNOT_START
    except (EmbeddedError, OSError) as error:
        complain(error)
        return EXIT_FAILED


class _Dev:
    """One run: the processes that have been started so far."""

    def __init__(self, paths: DevPaths) -> None:
        self._paths = paths
        self._started_at = time.monotonic()
        self._children: list[ChildProcess] = []
        self._servers: tuple[ChildProcess, ...] = ()
        self.signals = StopSignals(lambda: [child.pid for child in self._children])

    def run(self, port: int, metrics_port: int, provider_url: str | None, prometheus_port: int | None) -> int:
        """Start everything, wait for a stop, and stop everything. Return the exit code."""
        address = choose_address(os.environ, port, metrics_port, prometheus_port)
        if prometheus_port is not None and find_prometheus() is None:
            raise CannotStartError(
                "--observe needs Prometheus, and no program `prometheus` is in PATH; install it "
                "(Debian: apt-get install prometheus), or start without --observe"
            )
        upstream = checked_url(provider_url, "--provider-url") if provider_url is not None else None
        own_config = own_config_file(self._paths, os.environ)
        if own_config is not None and upstream is not None:
            raise CannotStartError("--provider-url changes nothing while PLATFORM_CONFIG_FILE is set; unset one")
        try:
            self._paths.root.mkdir(parents=True, exist_ok=True)
            check_data_directory(self._paths.root)
        except OSError as error:
            raise CannotStartError(
                f"{self._paths.root} cannot be used ({error.strerror}); choose another with --data-dir"
            ) from None
        # ExitStack stops in reverse order: gateway, Prometheus, simulator, Valkey, PostgreSQL, lock.
        with ExitStack() as stack:
            stack.enter_context(DirectoryLock(self._paths.root / "dev.lock"))
            leftovers = {name: self._paths.pid(name) for name in ("gateway", "simulator")}
            leftovers["Prometheus"] = self._paths.prometheus / EmbeddedPrometheus.pid_name
            for name, pid_file in leftovers.items():
                if (pid := reap_leftover(pid_file, grace_seconds=1.0)) is not None:
                    say(f"ended the {name} (process {pid}) of an earlier run")
            check_ports(address)
            try:
                self._start(stack, address, upstream, own_config)
                while True:
                    self._watch(may_end=self._servers)
                    time.sleep(_WATCH_SECONDS)
            except _StopRequestedError:
                code = 0
            except EmbeddedError as error:
                # Printed before the rest is stopped, because that may take a while.
                complain(error)
                code = EXIT_FAILED
            say("stopping (Ctrl-C again: kill at once)")
        say("stopped")
        return code

    def _start(self, stack: ExitStack, address: Address, upstream: str | None, own_config: Path | None) -> None:
        simulated = upstream is None and not real_openai_key(os.environ)
        postgres = EmbeddedPostgres(self._paths.root / "postgres", log_file=self._paths.log("postgres"), notify=say)
        valkey = EmbeddedValkey(self._paths.root / "valkey", log_file=self._paths.log("valkey"))
        stack.callback(postgres.stop)
        stack.callback(valkey.stop)
        # The simulator first: Python starts slowest, and the servers start meanwhile.
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
        prometheus = self._spawn_prometheus(stack, address)
        values = write_environment(
            self._paths, address, database_url, valkey.url, catalog, own_config, prometheus.url if prometheus else None
        )
        self._servers = tuple(self._children)
        gateway = self._spawn_gateway(stack, values)
        self._wait_for_gateway(gateway, f"{address.base_url}/readyz")
        if prometheus is not None:
            prometheus.wait_ready(_READY_SECONDS, self._watch)

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
        if prometheus is not None:
            rows.append(("prometheus", prometheus.url, f"pid {prometheus.pid}"))
        self._summarise(rows, address, values["PLATFORM_CHAT_KEY"])

    def _watch(self, may_end: Collection[ChildProcess] = ()) -> None:
        """Raise if a stop was requested, or if a process ended by itself.

        The end of a process in `may_end` is only printed: the gateway keeps running without it, which a developer who
        kills one wants to see.
        """
        if self.signals.requested is not None:
            raise _StopRequestedError
        for child in list(self._children):
            if child.poll() is not None:
                # Ctrl-C reaches only this process, but a shutdown of the machine reaches all at once.
                time.sleep(_WATCH_SECONDS)
                if self.signals.requested is not None:
                    raise _StopRequestedError
                if child not in may_end:
                    raise child.failure()
                self._children.remove(child)
                how = describe_exit(child.poll())
                say(f"{child.name} ended: {how}; the gateway runs without it, the next start of dev restarts it")

    def _spawn_simulator(self, stack: ExitStack) -> ChildProcess:
        ready = self._paths.simulator_ready
        port = last_port(ready)
        ready.unlink(missing_ok=True)
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--ready-file", str(ready)]
        child = ChildProcess(
            "the simulator",
            [sys.executable, "-m", "apps.provider_simulator", *arguments],
            log_file=self._paths.log("simulator"),
            pid_file=self._paths.pid("simulator"),
        )
        stack.callback(child.stop)
        self._children.append(child)
        return child

    def _spawn_prometheus(self, stack: ExitStack, address: Address) -> EmbeddedPrometheus | None:
        if address.prometheus_port is None:
            return None
        rules = rule_files(self._paths.rules)
        if not rules:
            say(f"Prometheus evaluates no alert rules: {self._paths.rules} has none")
        prometheus = EmbeddedPrometheus(
            self._paths.prometheus,
            gateway_config(address.metrics_target, rules),
            port=address.prometheus_port,
            log_file=self._paths.log("prometheus"),
        )
        stack.callback(prometheus.stop)
        prometheus.spawn()
        self._children.append(prometheus.child)
        return prometheus

    def _simulator_url(self) -> str:
        urls = json.loads(self._paths.simulator_ready.read_text())
        return str(urls["base_url"])

    def _spawn_gateway(self, stack: ExitStack, values: Mapping[str, str]) -> ChildProcess:
        # Its grace period for open streams ends before the one here, and there is no load balancer to wait for.
        defaults = {
            "PLATFORM_LOG_FORMAT": "console",
            "PLATFORM_SHUTDOWN_GRACE_SECONDS": str(int(_GATEWAY_GRACE_SECONDS) - 5),
            "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
        }
        child = ChildProcess(
            "the gateway",
            [sys.executable, "-m", *_GATEWAY],
            env={**defaults, **os.environ, **values},
            pid_file=self._paths.pid("gateway"),
        )
        stack.callback(child.stop, _GATEWAY_GRACE_SECONDS)
        self._children.append(child)
        return child

    def _wait_for_gateway(self, gateway: ChildProcess, url: str) -> None:
        last_response = "none"
        # The environment is ignored, because its proxy is not for this machine.
        with httpx.Client(timeout=2.0, trust_env=False, verify=False) as client:  # noqa: S501 - plain http, and certificates are slow to load

            def ready() -> bool:
                nonlocal last_response
                try:
                    response = client.get(url)
                except httpx.HTTPError:
                    return False
                last_response = f"{response.status_code} {response.text[:1000]}"
                return response.status_code == httpx.codes.OK

            try:
                gateway.wait_ready(ready, _READY_SECONDS, self._watch)
            except ChildFailedError as error:
                raise ChildFailedError(f"{error}\nIts last response to GET {url}: {last_response}") from None

    def _catalog(self, simulator: ChildProcess | None, upstream: str | None) -> Catalog:
        if simulator is not None:
            simulator.wait_ready(self._paths.simulator_ready.exists, _READY_SECONDS, self._watch)
            return simulator_catalog(self._simulator_url())
        if upstream is not None:
            return custom_catalog(upstream)
        base = os.environ.get("PLATFORM_OPENAI_BASE_URL") or _OPENAI_URL
        return openai_catalog(checked_url(base, "PLATFORM_OPENAI_BASE_URL"))

    def _summarise(self, rows: list[tuple[str, str, str]], address: Address, chat_key: str) -> None:
        width = max(len(where) for _, where, _ in rows)
        for name, where, rest in rows:
            say(f"{name:<12} {where:<{width}}   {rest}".rstrip())
        source = f"set -a; . {shlex.quote(shown_path(self._paths.env))}; set +a"
        say(f"{'keys':<12} {source}   (PLATFORM_ADMIN_KEY, PLATFORM_CHAT_KEY)")
        say(f"{'logs':<12} {shown_path(self._paths.log('*'))}; the gateway's follow here")
        say("\nTry it:")
        say(f"  {curl_command(address, chat_key, os.environ)}")
        say(f"ready in {time.monotonic() - self._started_at:.1f} s")


@contextmanager
def _migration_errors(paths: DevPaths) -> Iterator[None]:
    """Add a remedy to Alembic's errors: other code may have created the data."""
    try:
        yield
    except CommandError as error:
        raise EmbeddedError(
            f"the database cannot be migrated: {error}; if other code created {shown_path(paths.root)}, "
            "move or delete it, or choose another with --data-dir"
        ) from error
