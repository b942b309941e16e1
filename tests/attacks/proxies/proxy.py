"""Real proxies before the gateway: child processes with generated configs, on loopback, ended by their process ids."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.servers.network.ports import takes_connections

READY_SECONDS = 60.0

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{upstream}
  server {{
    listen 127.0.0.1:{port};
    location / {{
{location}
    }}
  }}
}}
"""
_NGINX_WEBSOCKET_UPSTREAM = """
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream gateway {{ server 127.0.0.1:{gateway_port}; keepalive 16; }}
"""
_NGINX_WEBSOCKET_LOCATION = """
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
"""
_HAPROXY = """
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
{options}
frontend public
  bind 127.0.0.1:{port}
  default_backend gateway
backend gateway
  server gateway 127.0.0.1:{gateway_port}
"""
_CADDY = """
{{
  admin off
  auto_https off
}}
:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{gateway_port}
}}
"""


@dataclass(frozen=True, slots=True)
class ProxyKind:
    """A program with one of its usual configurations."""

    name: str
    program: str
    config: Callable[[Path, int, int], str]
    arguments: Callable[[Path], Sequence[str]]

    @property
    def path(self) -> str | None:
        """Where the program is, None if it is not installed."""
        return shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

    def start(self, directory: Path, port: int, gateway_port: int) -> ChildProcess:
        """Start the proxy and wait until it takes connections.

        Raises:
            ChildFailedError: it ended, or took none in time.
        """
        config = directory / "config"
        config.write_text(self.config(directory, port, gateway_port))
        assert self.path is not None
        child = ChildProcess(
            self.name,
            [self.path, *self.arguments(config)],
            env={name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")},
            log_file=directory / "output.log",
            cwd=directory,
        )
        try:
            child.wait_ready(lambda: takes_connections(port), READY_SECONDS)
        except BaseException:
            child.kill()
            raise
        return child


def _nginx(directory: Path, port: int, gateway_port: int, upstream: str, location: str) -> str:
    # As root nginx gives its workers another account, which cannot write to the directory of a test.
    user = "user root;" if os.geteuid() == 0 else ""
    return _NGINX.format(
        directory=directory,
        port=port,
        user=user,
        upstream=upstream.format(gateway_port=gateway_port),
        location=location.format(gateway_port=gateway_port),
    )


def _nginx_arguments(config: Path) -> Sequence[str]:
    return ["-p", str(config.parent), "-e", str(config.parent / "error.log"), "-c", str(config)]


def _haproxy(port: int, gateway_port: int, *options: str) -> str:
    lines = "\n".join(f"  {option}" for option in options)
    return _HAPROXY.format(port=port, gateway_port=gateway_port, options=lines)


PROXIES: tuple[ProxyKind, ...] = (
    ProxyKind(
        "nginx",
        "nginx",
        lambda directory, port, gateway: _nginx(
            directory, port, gateway, "", "      proxy_pass http://127.0.0.1:{gateway_port};"
        ),
        _nginx_arguments,
    ),
    ProxyKind(
        "nginx-websocket",
        "nginx",
        lambda directory, port, gateway: _nginx(
            directory, port, gateway, _NGINX_WEBSOCKET_UPSTREAM, _NGINX_WEBSOCKET_LOCATION
        ),
        _nginx_arguments,
    ),
    ProxyKind(
        "haproxy",
        "haproxy",
        lambda _, port, gateway: _haproxy(port, gateway),
        lambda config: ["-db", "-f", str(config)],
    ),
    ProxyKind(
        "haproxy-forwardfor",
        "haproxy",
        lambda _, port, gateway: _haproxy(port, gateway, "option forwardfor", "http-reuse always"),
        lambda config: ["-db", "-f", str(config)],
    ),
    ProxyKind(
        "caddy",
        "caddy",
        lambda _, port, gateway: _CADDY.format(port=port, gateway_port=gateway),
        lambda config: ["run", "--adapter", "caddyfile", "--config", str(config)],
    ),
)
"""The default of each program, and the variants that share connections between clients."""
