"""deploy/compose: valid, hardened, pinned, and consistent with the files that it refers to."""

import asyncio
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.config import Settings, load_config
from tests.support.deploy.host.programs import DEPLOY, output_of, program, run
from tests.support.paths import ROOT

COMPOSE = DEPLOY / "compose"
TEXT = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OF_THE_GATEWAY = ("migrate", "gateway")
WITHOUT_HEALTHCHECK = {"migrate", "otel-collector", "tempo"}
SETTINGS = {f"PLATFORM_{name.upper()}" for name in Settings.model_fields}
_VARIABLE = re.compile(r"\$\{(\w+)(?::?[-?]([^}]*))?\}")


def test_compose_file_is_valid(tmp_path: Path) -> None:
    """By Compose itself, with every file that it names in place."""
    compose = program("docker-compose", "docker-compose")
    secrets = {name: str(tmp_path / name) for name in FILE["secrets"]}
    for path in secrets.values():
        Path(path).touch()
    override = tmp_path / "secrets.yaml"
    override.write_text(json.dumps({"version": "3.8", "secrets": {n: {"file": p} for n, p in secrets.items()}}))
    copy = tmp_path / "compose.yaml"
    copy.write_text('version: "3.8"\n' + TEXT)

    output_of(
        [compose, "--project-directory", COMPOSE, "-f", copy, "-f", override, "config", "-q"], {"FLOWBIZ_IMAGE": "a:1"}
    )


def test_compose_without_image_names_the_variable() -> None:
    """There is no default image, because an attacker could publish one of its name."""
    done = run([program("docker-compose", "docker-compose"), "-f", COMPOSE / "compose.yaml", "config", "-q"])

    assert done.returncode != 0
    assert "FLOWBIZ_IMAGE" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_compose_service_is_hardened_and_limited(name: str) -> None:
    """Read-only root, no capability but PostgreSQL's, and bounds for memory, processors and processes."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service or name == "postgres"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["healthcheck"].get("disable", False) is (name in WITHOUT_HEALTHCHECK)
    assert "privileged" not in service
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OF_THE_GATEWAY)))
def test_compose_image_is_pinned_by_version(name: str) -> None:
    """The variable takes a digest."""
    found = _VARIABLE.fullmatch(SERVICES[name]["image"])
    assert found is not None
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+(\.\d+)?(-bookworm)?(@sha256:[0-9a-f]{64})?", found[2]), found[2]
    assert f"#{found[1]}={found[2]}" in (COMPOSE / ".env.example").read_text().splitlines()


def test_compose_variables_are_in_the_example() -> None:
    """Each variable that an operator can set, and no other."""
    example = (COMPOSE / ".env.example").read_text(encoding="utf-8")
    listed = set(re.findall(r"^#?([A-Z_]+)=", example, re.M)) - {"COMPOSE_PROJECT_NAME"}

    assert listed == {found[1] for found in _VARIABLE.finditer(TEXT)}


def test_compose_names_only_settings() -> None:
    """A misspelt variable would be ignored."""
    for name in OF_THE_GATEWAY:
        variables = {key for key in SERVICES[name]["environment"] if key.startswith("PLATFORM_")}
        assert variables <= SETTINGS
    targets = {secret["target"] for name in OF_THE_GATEWAY for secret in SERVICES[name]["secrets"]}
    assert targets == {"PLATFORM_DATABASE_URL", "PLATFORM_REDIS_URL", "PLATFORM_API_KEY_PEPPER", "OPENAI_API_KEY"}


def test_compose_has_no_secret_in_environment() -> None:
    """Secrets are files: a variable may only name one."""
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            is_secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY|_URL", key) is not None
            assert not is_secret or str(value).startswith(("/run/secrets", "file")), f"{name}: {key}"


def test_compose_files_and_secrets_exist() -> None:
    """Each mounted file exists, and each secret is made, defined and used."""
    made = set(re.findall(r"^\s*write \"?([\w${}]+?)\"? ", (COMPOSE / "make-secrets").read_text(), re.M))
    made |= {"owner_database_url", "runtime_database_url"}
    used = {
        entry if isinstance(entry, str) else entry["source"]
        for service in SERVICES.values()
        for entry in service.get("secrets", [])
    }
    assert used == set(FILE["secrets"])
    assert used <= made
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = _VARIABLE.sub(lambda found: found[2], volume).split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).is_file(), source
            else:
                assert source in FILE["volumes"], source


def test_compose_stops_gateway_after_its_grace() -> None:
    """Docker kills after stop_grace_period."""
    gateway = SERVICES["gateway"]
    drain = float(gateway["environment"]["PLATFORM_SHUTDOWN_DRAIN_SECONDS"])
    grace = float(gateway["environment"]["PLATFORM_SHUTDOWN_GRACE_SECONDS"])

    assert float(gateway["stop_grace_period"].removesuffix("s")) >= drain + grace + 5
    assert gateway["ulimits"]["nofile"] * 3 / 4 >= Settings.model_fields["max_connections"].default
    assert gateway["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_compose_monitoring_configurations_are_valid() -> None:
    """By the programs that read them."""
    output_of([program("promtool", "prometheus"), "check", "config", "--syntax-only", COMPOSE / "prometheus.yml"])
    output_of([program("amtool", "prometheus-alertmanager"), "check-config", ROOT / "alerts/alertmanager.example.yml"])
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert jobs["flowbiz-platform"] == ["gateway:9100"]
    hosts = {target.rpartition(":")[0] for targets in jobs.values() for target in targets} - {"127.0.0.1"}
    assert hosts <= set(SERVICES)


def test_compose_grafana_has_every_dashboard_and_datasource() -> None:
    """The uids of the data sources are those that the dashboards name."""
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    provider = yaml.safe_load((ROOT / "dashboards/provisioning/dashboards.yml").read_text())["providers"][0]
    boards = {path for path in mounts if path.endswith(".json")}
    assert {(COMPOSE / path).resolve() for path in boards} == set((ROOT / "dashboards").glob("*.json"))
    assert {str(Path(mounts[path]).parent) for path in boards} == {provider["options"]["path"]}
    sources = {found["uid"]: found for found in _yaml("grafana/datasources.yml")["datasources"]}
    named = yaml.safe_load((ROOT / "dashboards/provisioning/datasources.yml").read_text())["datasources"]
    assert {uid: found["type"] for uid, found in sources.items()} == {one["uid"]: one["type"] for one in named}
    assert "grafana_reader_password" in sources["flowbiz-records"]["secureJsonData"]["password"]


def test_compose_collector_pipelines_are_consistent() -> None:
    """Each component of a pipeline is defined, each defined one is used, and addresses are those of services."""
    collector = _yaml("collector.yml")
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in collector["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == set(collector[kind])
    endpoint = SERVICES["gateway"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    receiver = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert endpoint == f"http://otel-collector:{receiver.rpartition(':')[2]}"
    tempo = _yaml("tempo.yml")["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert collector["exporters"]["otlp/tempo"]["endpoint"] == f"tempo:{tempo.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def made_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make-secrets writes, in a copy of the folder."""
    if os.geteuid() != 0:
        pytest.skip("make-secrets needs root")
    directory = tmp_path_factory.mktemp("compose")
    script = directory / "make-secrets"
    script.write_bytes((COMPOSE / "make-secrets").read_bytes())
    script.chmod(0o755)
    environment = {**os.environ, "OPENAI_API_KEY": "sk-compose-canary"}
    first = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    assert "canary" not in first.stdout + first.stderr
    before = {path.name: path.read_text() for path in (directory / "secrets").iterdir()}
    subprocess.run([script], capture_output=True, check=True)
    assert {path.name: path.read_text() for path in (directory / "secrets").iterdir()} == before
    return directory / "secrets"


def test_make_secrets_writes_each_file_for_its_reader(made_secrets: Path) -> None:
    """Only the user of the container reads it; the gateway's are accepted by its settings."""
    assert {path.name for path in made_secrets.iterdir()} == set(FILE["secrets"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in made_secrets.iterdir()} == {0o400}
    users = {name: (made_secrets / name).stat().st_uid for name in FILE["secrets"]}
    for service, uid in (("gateway", 10001), ("migrate", 10001), ("postgres", 999), ("valkey", 999), ("grafana", 472)):
        sources = [entry if isinstance(entry, str) else entry["source"] for entry in SERVICES[service]["secrets"]]
        if service == "postgres":
            sources.remove("postgres_password")  # its entry point reads this one as root
        assert {users[source] for source in sources} == {uid}, service
    settings = Settings(
        database_url=(made_secrets / "runtime_database_url").read_text(),
        redis_url=(made_secrets / "redis_url").read_text(),
        config_file=COMPOSE / "platform.yaml",
    )
    assert settings.insecure_connections() == []
    assert list(load_config(settings).models) == ["gpt-4o-mini"]


async def test_make_secrets_gives_valkey_the_documented_user(made_secrets: Path, tmp_path: Path) -> None:
    """The commands of docs/operations.md; without a password only PING works."""
    documented = " ".join(re.findall(r"ACL SETUSER (gateway .*?)```", (ROOT / "docs/operations.md").read_text(), re.S))
    users = tmp_path / "users.acl"
    users.write_text((made_secrets / "valkey_users").read_text())
    url = (made_secrets / "redis_url").read_text()
    password = url.partition("gateway:")[2].partition("@")[0]
    assert documented.replace("PASSWORD", password).split() == users.read_text().splitlines()[1].split()[1:]
    server = EmbeddedValkey(tmp_path / "valkey", extra=("--aclfile", str(users)))
    await asyncio.to_thread(server.start)
    try:
        async with Redis.from_url(f"unix://gateway:{password}@{server.socket}") as gateway:
            assert await gateway.set("fbp:test", "1")
        async with Redis.from_url(server.url) as anonymous:
            assert await anonymous.ping()
            with pytest.raises(NoPermissionError):
                await anonymous.get("fbp:test")
    finally:
        await asyncio.to_thread(server.stop)


def _yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
    return found
