"""Real proxies between the gateway and its providers: tinyproxy, and mitmproxy, which reads inside of TLS."""

import base64
import shutil
import socket
from pathlib import Path

import pytest

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.servers.network.ports import free_port

READY_SECONDS = 60.0
USER, PASSWORD = "gateway", "egress-canary-7f3a91"
"""What the proxies ask for; the password is looked for wherever it must not be."""
ENCODED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.1
MaxClients 50
LogLevel Connect
LogFile "{log}"
BasicAuth {user} {password}
"""


class EgressProxyProcess:
    """One proxy with its own port; `stop` ends it."""

    def __init__(self, child: ChildProcess, port: int, log: Path, ca: Path | None = None) -> None:
        self._child = child
        self.port = port
        self.log = log
        self.ca = ca
        """The CA that signs for the servers behind it, where it reads inside of TLS."""
        child.wait_ready(self._listens, READY_SECONDS)

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def tunnels_to(self, port: int) -> int:
        """How many tunnels it opened to this port so far, by its log."""
        return sum(f":{port}" in line and "CONNECT" in line.upper() for line in self.log.read_text().splitlines())

    def stop(self) -> None:
        self._child.stop(grace_seconds=5)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 and (self.ca is None or self.ca.exists())


def start_tinyproxy(directory: Path) -> EgressProxyProcess:
    """Skips the test where it is not installed."""
    program = _installed("tinyproxy", "tinyproxy")
    port, log, config = free_port(), directory / "tinyproxy.log", directory / "tinyproxy.conf"
    log.touch()
    config.write_text(_TINYPROXY.format(port=port, log=log, user=USER, password=PASSWORD))
    child = ChildProcess("tinyproxy", [program, "-d", "-c", str(config)], log_file=directory / "tinyproxy.out")
    return EgressProxyProcess(child, port, log)


def start_mitmproxy(directory: Path, upstream_ca: Path) -> EgressProxyProcess:
    """Skips the test where it is not installed. It trusts servers that `upstream_ca` signed."""
    program = _installed("mitmdump", "mitmproxy")
    port, log = free_port(), directory / "mitmdump.out"
    arguments = [
        program, "--listen-host", "127.0.0.1", "--listen-port", str(port), "--proxyauth", f"{USER}:{PASSWORD}",
        "--set", f"confdir={directory}", "--set", f"ssl_verify_upstream_trusted_ca={upstream_ca}",
        "--set", "flow_detail=1", "--set", "connection_strategy=lazy",
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C.UTF-8"}
    child = ChildProcess("mitmdump", arguments, env=environment, log_file=log)
    return EgressProxyProcess(child, port, log, directory / "mitmproxy-ca-cert.pem")


def _installed(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    return found
