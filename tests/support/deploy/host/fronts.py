"""The nginx and HAProxy of deploy/, as they are, except for ports, certificate and directories."""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.deploy.host.programs import DEPLOY, output_of, program
from tests.support.servers.network.ports import takes_connections

NGINX = DEPLOY / "nginx/flowbiz-platform.conf"
HAPROXY = DEPLOY / "haproxy/haproxy.cfg"
PORTS = ("8100", "8101")
"""Those of the two gateways in both files."""
_READY_SECONDS = 60.0
_NGINX_MAIN = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 1024; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  include {directory}/flowbiz-platform.conf;
}}
"""


@dataclass(frozen=True)
class Front:
    """A running front with its port, which speaks TLS."""

    name: str
    port: int
    child: ChildProcess

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def start_front(
    name: str, directory: Path, port: int, gateways: tuple[int, int], certificate: tuple[Path, Path]
) -> Front:
    """Check the file with its program, and start it; skip the test where it is not installed."""
    if name == "nginx":
        path = program("nginx", "nginx-light")
        config = _nginx_files(directory, port, gateways, certificate)
        arguments = [path, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]
        check = [*arguments, "-t"]
    else:
        path = program("haproxy", "haproxy")
        config = _haproxy_file(directory, port, gateways, certificate)
        arguments = [path, "-db", "-f", str(config)]
        check = [*arguments, "-c"]
    output_of(check)
    child = ChildProcess(name, arguments, log_file=directory / "output.log", cwd=directory)
    try:
        child.wait_ready(lambda: takes_connections(port), _READY_SECONDS)
    except BaseException:
        child.kill()
        raise
    return Front(name, port, child)


def _nginx_files(directory: Path, port: int, gateways: tuple[int, int], certificate: tuple[Path, Path]) -> Path:
    text = _with_gateways(NGINX.read_text(encoding="utf-8"), gateways)
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("    listen [::]:443 ssl http2;", f"    listen [::1]:{port} ssl http2;" if has_ipv6() else ""),
        ("/etc/nginx/flowbiz/fullchain.pem", str(certificate[0])),
        ("/etc/nginx/flowbiz/privkey.pem", str(certificate[1])),
    ):
        assert old in text
        text = text.replace(old, new)
    (directory / "flowbiz-platform.conf").write_text(text, encoding="utf-8")
    main = directory / "nginx.conf"
    # As root nginx gives its workers another account, which cannot write to the directory of a test.
    own = _NGINX_MAIN if os.geteuid() == 0 else _NGINX_MAIN.replace("user root;\n", "")
    main.write_text(own.format(directory=directory), encoding="utf-8")
    return main


def _haproxy_file(directory: Path, port: int, gateways: tuple[int, int], certificate: tuple[Path, Path]) -> Path:
    combined = directory / "flowbiz.pem"
    shutil.copy(certificate[0], combined)
    with combined.open("ab") as file:
        file.write(certificate[1].read_bytes())
    text = _with_gateways(HAPROXY.read_text(encoding="utf-8"), gateways)
    for old, new in (
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("bind [::]:443 v6only", f"bind [::1]:{port} v6only" if has_ipv6() else "# bind"),
        ("/etc/haproxy/flowbiz.pem", str(combined)),
        ("maxconn 8000", "maxconn 200"),  # a test may open fewer files
    ):
        assert old in text
        text = text.replace(old, new)
    config = directory / "haproxy.cfg"
    config.write_text(text, encoding="utf-8")
    return config


def has_ipv6() -> bool:
    """Return whether this machine has the loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _with_gateways(text: str, gateways: tuple[int, int]) -> str:
    for old, new in zip(PORTS, gateways, strict=True):
        assert f"127.0.0.1:{old}" in text
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return text
