"""The gateway's image, built with buildah on a base of Debian's packages, in storage that only this test uses."""

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.deploy.host.programs import DEPLOY, output_of, program, run

BUILD_SECONDS = 2400
_BASE = "localhost/debian:bookworm"
_IMAGE = "localhost/flowbiz-platform:test"


@dataclass(frozen=True)
class BuiltImage:
    """A container of the image. `environment` selects the storage for buildah; `root` is its root file system."""

    environment: Mapping[str, str]
    container: str
    root: Path
    commit: str
    buildah: str

    def configuration(self) -> dict[str, Any]:
        """Return the image's configuration in Docker's format."""
        inspected = json.loads(output_of([self.buildah, "inspect", "--type", "image", _IMAGE], self.environment))
        found: dict[str, Any] = inspected["Docker"]["config"]
        return found

    def size(self) -> int:
        """Return the bytes of the image's files."""
        listed = json.loads(output_of([self.buildah, "images", "--json", _IMAGE], self.environment))
        number, unit = listed[0]["size"].split()
        return int(float(number) * {"MB": 1_000_000, "GB": 1_000_000_000}[unit])

    def command(
        self, *arguments: str, user: str, environment: Mapping[str, str] | None = None, volumes: Mapping[Path, str]
    ) -> list[str]:
        """Return the arguments that run a program in the container, as buildah takes them."""
        options = [option for name, value in (environment or {}).items() for option in ("--env", f"{name}={value}")]
        options += [option for path, target in volumes.items() for option in ("--volume", f"{path}:{target}")]
        return [
            self.buildah,
            "run",
            "--isolation",
            "chroot",
            "--user",
            user,
            *options,
            self.container,
            "--",
            *arguments,
        ]

    def start(self, command: list[str], log_file: Path) -> ChildProcess:
        """Start one of these commands."""
        return ChildProcess("the image", command, log_file=log_file, env={**os.environ, **self.environment})

    def output(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run one of these commands to its end."""
        return run(command, self.environment)


@contextmanager
def built_image() -> Iterator[BuiltImage]:
    """Build the base and the image with the scripts of deploy/image; remove both afterwards."""
    buildah = program("buildah", "buildah")
    program("debootstrap", "debootstrap")
    if os.geteuid() != 0:
        pytest.skip("debootstrap needs root")
    # Outside of pytest's directories, which keep the last three runs.
    with TemporaryDirectory(prefix="fb-image-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        environment = {
            "BUILDAH_ISOLATION": "chroot", "BUILDER": buildah, "TMPDIR": name,
            "CONTAINERS_STORAGE_CONF": str(_storage(directory)),
        }  # fmt: skip
        output_of([DEPLOY / "image/base", _BASE], environment, BUILD_SECONDS)
        built = output_of(
            [DEPLOY / "image/build", "--base", _BASE, "--tag", _IMAGE, *_registry_of_pip(directory)],
            environment,
            BUILD_SECONDS,
        )
        commit = built.split()[-1]
        container = output_of([buildah, "from", _IMAGE], environment).strip()
        try:
            root = Path(output_of([buildah, "mount", container], environment).strip())
            yield BuiltImage(environment, container, root, commit, buildah)
        finally:
            run([buildah, "umount", container], environment)
            run([buildah, "rm", "--all"], environment)
            run([buildah, "rmi", "--all", "--force"], environment)


def _storage(directory: Path) -> Path:
    """Write the configuration of buildah's storage. The driver vfs works everywhere, without kernel modules."""
    path = directory / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/storage"\nrunroot = "{directory}/run"\n', encoding="utf-8"
    )
    return path


def _registry_of_pip(directory: Path) -> list[str]:
    """Return the build secrets that give pip in the build the registry and the CA of pip on this machine."""
    settings = {name: _setting_of_pip(name) for name in ("index-url", "cert")}
    options = []
    parser = configparser.ConfigParser()
    parser["global"] = {}
    if settings["index-url"]:
        parser["global"]["index-url"] = settings["index-url"]
    if settings["cert"]:
        parser["global"]["cert"] = "/run/secrets/ca.pem"
        options += ["--secret", f"id=ca.pem,src={settings['cert']}"]
    with (directory / "pip.conf").open("w", encoding="utf-8") as file:
        parser.write(file)
    return [*options, "--secret", f"id=pip.conf,src={directory / 'pip.conf'}"]


def _setting_of_pip(name: str) -> str | None:
    """Return a setting of pip on this machine, of its variables or else of its configuration files."""
    variable = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
    listed = output_of([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    found = [value.strip("'") for key, _, value in (line.partition("=") for line in listed) if key == f"global.{name}"]
    return variable or (found[-1] if found else None)
