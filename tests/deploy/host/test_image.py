"""The image, really built and run: what is in it, and a smoke run against it as a uid that no file knows."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.postgres import SUPERUSER, EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.conftest import Platform
from tests.support.deploy.host.image import BUILD_SECONDS, BuiltImage, built_image
from tests.support.deploy.host.programs import run
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tls.postgres_tls import postgres_tls_front

pytestmark = [pytest.mark.proof, pytest.mark.timeout(BUILD_SECONDS)]

UID = 1_234_560_000
"""As OpenShift assigns it: above every uid of /etc/passwd, in group 0."""
MAX_MEGABYTES = 300
FORBIDDEN = ("pip", "pip3", "gcc", "cc", "ld", "strip", "make", "curl", "wget", "git")


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    """The image of this checkout; it takes minutes, so all tests share it."""
    with built_image() as built:
        yield built


@pytest.fixture(scope="module")
async def serving(
    image: BuiltImage, platform: Platform, postgres: EmbeddedPostgres
) -> AsyncIterator[tuple[str, ChildProcess, Path]]:
    """A gateway in the image as a random uid: its URL, its process, and its spool's directory. Secrets are files."""
    with TemporaryDirectory(prefix="fb-run-") as name:
        directory = Path(name)
        port, metrics_port, valkey_port = free_port(), free_port(), free_port()
        valkey = EmbeddedValkey(directory / "valkey", port=valkey_port)
        await asyncio.to_thread(valkey.start)
        async with postgres_tls_front(postgres, None) as front:
            database = f"postgresql://{SUPERUSER}@127.0.0.1:{front.port}/platform?sslmode=disable"
            volumes = _mounts(directory, platform, database)
            environment = {
                "PLATFORM_ENV": "staging", "PLATFORM_HOST": "127.0.0.1", "PLATFORM_PORT": str(port),
                "PLATFORM_METRICS_PORT": str(metrics_port), "PLATFORM_REDIS_URL": f"redis://127.0.0.1:{valkey_port}/0",
                "PLATFORM_REDIS_TIMEOUT_MS": "2000", "PLATFORM_CONFIG_FILE": "/etc/flowbiz/platform.yaml",
                "PLATFORM_DEFAULT_MODEL": "sim-ok", "PLATFORM_SECRET_PROVIDER": "file",
                "PLATFORM_SECRET_FILE_DIR": "/run/secrets", "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
            }  # fmt: skip
            command = image.command(
                "flowbiz-platform", "serve", user=f"{UID}:0", environment=environment, volumes=volumes
            )
            child = image.start(command, directory / "gateway.log")
            url = f"http://127.0.0.1:{port}"
            try:
                await asyncio.to_thread(child.wait_ready, lambda: _is_ready(url), 300)
                yield url, child, directory
            finally:
                await asyncio.to_thread(_stop, child)
        await asyncio.to_thread(valkey.stop)


def test_image_declares_user_volumes_labels_and_health_check(image: BuiltImage) -> None:
    """An orchestrator reads these from the image."""
    configuration = image.configuration()

    assert configuration["User"] == "10001:0"
    assert sorted(configuration["Volumes"]) == ["/tmp", "/var/lib/flowbiz"]
    assert configuration["Labels"]["org.opencontainers.image.revision"] == image.commit
    assert configuration["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    assert configuration["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    assert configuration["Entrypoint"] == ["flowbiz-platform"]
    assert configuration["Cmd"] == ["serve"]


def test_image_has_no_build_tools_and_is_small(image: BuiltImage, show_figure: Callable[[str], None]) -> None:
    """Neither pip nor a compiler, no secret of the build, and no file that another user can change."""
    folders = [image.root / folder for folder in ("opt/flowbiz/bin", "usr/bin", "usr/local/bin", "usr/sbin")]
    assert [tool for tool in FORBIDDEN if any((folder / tool).exists() for folder in folders)] == []
    assert list(image.root.glob("opt/flowbiz/lib/python3*/site-packages/pip")) == []
    assert list(image.root.glob("usr/lib/python3*/**/pip")) == []
    assert not (image.root / "etc/pip.conf").exists()
    assert not (image.root / "run/secrets/ca.pem").exists()
    writable = [
        path
        for path in (image.root / "opt/flowbiz").rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o022
    ]
    assert writable == []
    show_figure(f"image: {image.size() / 1e6:.0f} MB")
    assert image.size() < MAX_MEGABYTES * 1_000_000


def test_image_knows_aws_services_of_the_secret_store(image: BuiltImage) -> None:
    """The image leaves out the other services' descriptions."""
    script = (
        "import botocore.session as s; session = s.get_session()\n"
        "for name in ('secretsmanager', 'sts', 'sso', 'sso-oidc'):\n"
        "    session.create_client(name, region_name='eu-central-1', aws_access_key_id='a', aws_secret_access_key='b')"
    )

    done = image.output(image.command("python", "-c", script, user=f"{UID}:0", volumes={}))

    assert done.returncode == 0, done.stderr


async def test_image_passes_smoke_as_random_uid(
    image: BuiltImage, serving: tuple[str, ChildProcess, Path], platform: Platform
) -> None:
    """The commit reaches /v1/meta, and the gateway has written to its volumes only."""
    url, _, directory = serving
    key = platform.key("platform:chat", "platform:embeddings", "platform:models:read", "platform:audit:read")
    arguments = [
        sys.executable, "-m", "apps.platform_cli", "smoke", "--base-url", url, "--expect-sha", image.commit,
        "--timeout", "300", "--record-seconds", "120",
    ]  # fmt: skip

    done = await asyncio.to_thread(run, arguments, {"PLATFORM_CHAT_KEY": key}, 400)

    assert done.returncode == 0, done.stdout + done.stderr + (directory / "gateway.log").read_text()[-3000:]
    assert [path for path in image.root.rglob("*") if path.lstat().st_uid == UID] == []


def test_image_user_can_write_to_volumes_only(image: BuiltImage) -> None:
    """A read-only root changes nothing: apart from Debian's shared folders, only the volumes are writable."""
    command = image.command("sh", "-c", "find / -xdev -type d -writable 2>/dev/null; true", user=f"{UID}:0", volumes={})

    found = set(image.output(command).stdout.split())

    assert {"/var/lib/flowbiz", "/tmp"} <= found
    outside = {path for path in found if not path.startswith(("/var/lib/flowbiz", "/tmp"))}
    assert outside <= {"/var/tmp", "/var/mail", "/var/local", "/run/lock"}


async def test_healthcheck_exits_with_zero_only_if_ready(
    image: BuiltImage, serving: tuple[str, ChildProcess, Path]
) -> None:
    """Without curl, for Docker and Compose."""
    url, _, _ = serving
    port = url.rpartition(":")[2]

    def check(*arguments: str, port: str) -> tuple[int, str]:
        environment = {"PLATFORM_HOST": "0.0.0.0", "PLATFORM_PORT": port}
        command = image.command("healthcheck", *arguments, user=f"{UID}:0", environment=environment, volumes={})
        done = image.output(command)
        return done.returncode, done.stderr

    assert (await asyncio.to_thread(lambda: check(port=port)))[0] == 0
    assert (await asyncio.to_thread(lambda: check("/livez", port=port)))[0] == 0
    code, message = await asyncio.to_thread(lambda: check("/nothing", port=port))
    assert (code, "404" in message) == (1, True), message
    code, message = await asyncio.to_thread(lambda: check(port=str(free_port())))
    assert (code, "refused" in message) == (1, True), message


async def test_image_exits_with_zero_on_sigterm(serving: tuple[str, ChildProcess, Path]) -> None:
    """The last test, because it stops the gateway."""
    _, child, directory = serving

    code = await asyncio.to_thread(_stop, child)

    assert code == 0, (directory / "gateway.log").read_text()[-3000:]


def _mounts(directory: Path, platform: Platform, database: str) -> dict[Path, str]:
    """Write the secrets and the config file; return what is mounted where."""
    stored = directory / "secrets"
    stored.mkdir(mode=0o750)
    values = {
        "PLATFORM_API_KEY_PEPPER": platform.environment["PLATFORM_API_KEY_PEPPER"],
        "PLATFORM_DATABASE_URL": database,
        "OPENAI_API_KEY": platform.environment["OPENAI_API_KEY"],
    }
    for name, value in values.items():
        (stored / name).write_text(value)
        (stored / name).chmod(0o440)
    config = directory / "platform.yaml"
    config.write_bytes(Path(platform.environment["PLATFORM_CONFIG_FILE"]).read_bytes())
    config.chmod(0o644)
    for folder in ("data", "tmp"):
        (directory / folder).mkdir()
        (directory / folder).chmod(0o770)
    return {
        stored: "/run/secrets:ro", config: "/etc/flowbiz/platform.yaml:ro", directory / "data": "/var/lib/flowbiz",
        directory / "tmp": "/tmp",
    }  # fmt: skip


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _stop(child: ChildProcess) -> int | None:
    """Send SIGTERM to the gateway's parent, because buildah passes no signal on; return the exit code."""
    gateways = [pid for pid in processes.descendants(child.pid) if _runs_serve(pid)]
    if gateways:
        os.kill(gateways[0], signal.SIGTERM)
    deadline = time.monotonic() + 120
    while (code := child.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if code is None:
        child.kill()
    return code


def _runs_serve(pid: int) -> bool:
    """Return whether this is `flowbiz-platform serve` itself, and none of buildah's processes around it."""
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"serve" in arguments and not arguments[0].startswith(b"buildah")
