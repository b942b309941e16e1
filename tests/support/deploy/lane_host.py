"""A host of the lane below one directory: no root, no systemd, a real nginx, releases that are built beforehand."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.paths import ROOT
from tests.support.servers.network.ports import free_port

METRICS_OFFSET = 1000
LANE_SECONDS = 300.0
_NGINX = """
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
daemon off;
{user}
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  upstream flowbiz {{ include {upstreams}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://flowbiz;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 75s;
      proxy_next_upstream error timeout;
    }}
  }}
}}
"""


@dataclass
class LaneHost:
    """The directory and the ports of one host."""

    directory: Path
    environment: Mapping[str, str]
    smoke_key: str
    slots: list[list[int]] = field(default_factory=lambda: [_pair(), _pair()])
    port: int = field(default_factory=free_port)
    """nginx's port."""
    front: str = "nginx"
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.directory / "srv"

    @property
    def config(self) -> Path:
        return self.directory / "lane.toml"

    @property
    def upstreams(self) -> Path:
        return self.directory / "upstreams.conf"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self) -> None:
        """Write lane.toml and the files that it names."""
        environment_file, key_file = self.directory / "platform.env", self.directory / "smoke.key"
        lines = {"PLATFORM_SPOOL_DIR": str(self.directory / "spool"), **self.environment}
        environment_file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        key_file.write_text(self.smoke_key + "\n")
        reload = ["/bin/sh", "-c", f"kill -HUP $(cat {self.directory}/nginx.pid)"]
        bounds = dict.fromkeys(("start_seconds", "smoke_seconds", "finish_seconds", "stop_seconds"), 300)
        numbers = {"settle_seconds": 1, **bounds, **self.options}
        text = f"""
root = "{self.root}"
runner = "process"
environment_file = "{environment_file}"
smoke_key_file = "{key_file}"
slots = {self.slots}
metrics_offset = {METRICS_OFFSET}
check_live = false
{"".join(f"{name} = {value}" + chr(10) for name, value in numbers.items())}
[front]
kind = "{self.front}"
upstream_file = "{self.upstreams}"
test = ["nginx", "-t", "-q", "-c", "{self.directory}/nginx.conf"]
reload = {reload}
"""
        self.config.write_text(text.replace("'", '"'))

    def add_release(self, commit: str, source: Path) -> None:
        """Put a release of a checkout's commit into its place, which runs with the packages of this interpreter."""
        release = self.root / "releases" / commit
        (release / "bin").mkdir(parents=True)
        (release / "source").mkdir()
        archive = subprocess.run(["git", "-C", str(source), "archive", commit], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(release / "source")], input=archive.stdout, check=True)
        script = release / "bin" / "flowbiz-platform"
        # From its folder: with -m that comes first in the path, before the checkout that is installed editable.
        script.write_text(f'#!/bin/sh\ncd {release}/source && exec {sys.executable} -m apps.platform_cli "$@"\n')
        script.chmod(0o755)
        (release / "complete").touch()

    def lane(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `deploy/release` or `deploy/rollback`."""
        program, *rest = arguments
        return subprocess.run(
            [str(ROOT / "deploy" / program), *rest, "--config", str(self.config)],
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            timeout=LANE_SECONDS * 2,
            check=False,
        )

    def build_sha(self, url: str | None = None) -> str | None:
        """Return the commit that serves at a URL, nginx's by default."""
        found = httpx.get(f"{url or self.url}/v1/meta", timeout=60, trust_env=False).json()["build_sha"]
        return None if found is None else str(found)

    def stop_instances(self) -> None:
        """End every instance that the lane started."""
        for file in self.root.glob("instances/*/pid"):
            pid = int(file.read_text())
            arguments = _arguments_of(pid)
            if file.parent.name in arguments:
                os.kill(pid, signal.SIGTERM)

    @contextmanager
    def nginx(self) -> Iterator[None]:
        """Run nginx until the block ends."""
        first = self.slots[0][0]
        if not self.upstreams.exists():
            self.upstreams.write_text(f"server 127.0.0.1:{first};\n")
        user = "user root;" if os.getuid() == 0 else ""
        config = self.directory / "nginx.conf"
        config.write_text(_NGINX.format(directory=self.directory, user=user, upstreams=self.upstreams, port=self.port))
        program = shutil.which("nginx")
        assert program is not None
        child = ChildProcess("nginx", [program, "-c", str(config), "-p", str(self.directory)], env=os.environ)
        try:
            child.wait_ready(lambda: (self.directory / "nginx.pid").exists(), LANE_SECONDS)
            yield
        finally:
            child.stop(grace_seconds=20)


def _pair() -> list[int]:
    """Two ports whose metrics ports are free too."""
    found: list[int] = []
    while len(found) < 2:
        port = free_port()
        if port + METRICS_OFFSET < 65536 and port not in found:
            found.append(port)
    return found


def _arguments_of(pid: int) -> list[str]:
    try:
        return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []
