"""deploy/systemd: the units are valid, hardened, and fit the gateway's settings and exit codes."""

import re
from pathlib import Path

import pytest

from platform_app.config import Settings
from tests.support.deploy.host.programs import DEPLOY, output_of, program, run
from tests.support.paths import ROOT

UNITS = DEPLOY / "systemd"
SERVE, MIGRATE = UNITS / "flowbiz-platform@.service", UNITS / "flowbiz-platform-migrate.service"
MAX_EXPOSURE = 3.0
_RELEASE = "/srv/flowbiz/current/bin/flowbiz-platform"


def value_of(unit: Path, key: str) -> list[str]:
    """Return every value of a directive, in order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("unit", [SERVE, MIGRATE], ids=lambda unit: unit.stem)
def test_unit_exposure_is_below_three(unit: Path) -> None:
    """By systemd's own measure, from 0 (locked) to 10."""
    arguments = [program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", unit]
    last = output_of(arguments).splitlines()[-1]

    found = re.search(r"([\d.]+) \w+", last.partition(": ")[2])
    assert found is not None, last
    assert float(found[1]) < MAX_EXPOSURE


@pytest.mark.parametrize("unit", [SERVE, MIGRATE], ids=lambda unit: unit.stem)
def test_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    """systemd-analyze names each directive that it does not know; the release is replaced by a program that exists."""
    copy = tmp_path / unit.name.replace("@.", "@8100.")
    copy.write_text(unit.read_text(encoding="utf-8").replace(_RELEASE, "/bin/true"))

    done = run([program("systemd-analyze", "systemd"), "verify", "--man=no", copy])

    assert (done.returncode, [line for line in done.stderr.splitlines() if copy.name in line]) == (0, [])


def test_unit_stops_after_drain_and_grace() -> None:
    """systemd kills after TimeoutStopSec."""
    defaults = Settings.model_fields
    needed = defaults["shutdown_drain_seconds"].default + defaults["shutdown_grace_seconds"].default + 5

    assert float(value_of(SERVE, "TimeoutStopSec")[0]) > needed
    assert value_of(SERVE, "KillMode") == ["mixed"]


def test_unit_restarts_unless_configuration_is_invalid() -> None:
    """The exit codes of `serve` in docs/operations.md: 2 is a mistake that a restart does not correct."""
    codes = dict(re.findall(r"^\| (\d) \| (.+) \|$", (ROOT / "docs/operations.md").read_text(), re.M))
    assert "configuration is not valid" in codes["2"]

    assert value_of(SERVE, "Restart") == ["on-failure"]
    assert value_of(SERVE, "RestartPreventExitStatus") == ["2"]
    assert value_of(SERVE, "StartLimitIntervalSec") == ["0"]


def test_unit_keeps_secrets_out_of_the_environment() -> None:
    """Secrets are credentials with the names that the gateway looks up."""
    for unit in (SERVE, MIGRATE):
        names = {name for line in value_of(unit, "Environment") for name in re.findall(r"(\w+)=", line)}
        assert names <= {f"PLATFORM_{name.upper()}" for name in Settings.model_fields}
        for line in value_of(unit, "LoadCredential"):
            name, path = line.split(":")
            assert path.startswith("/etc/flowbiz/secrets/")
            assert name == path.rpartition("/")[2] or name == "PLATFORM_DATABASE_URL"
    example = (UNITS / "platform.env.example").read_text(encoding="utf-8")
    assert re.findall(r"^\w*(?:URL|KEY|TOKEN|PASSWORD)\w*=", example, re.M) == []


def test_unit_allows_the_connections_of_its_workers() -> None:
    """A worker uses at most three quarters of its open files for connections."""
    assert int(value_of(SERVE, "LimitNOFILE")[0]) * 3 / 4 >= Settings.model_fields["max_connections"].default
    assert value_of(SERVE, "StateDirectory") == ["flowbiz-platform/%i"]
    assert "PLATFORM_SPOOL_DIR=%S/flowbiz-platform/%i/spool" in value_of(SERVE, "Environment")[0]


def test_unit_gives_each_instance_its_metrics_port(tmp_path: Path) -> None:
    """Two instances on one host need two metrics ports."""
    command = value_of(SERVE, "ExecStart")[0].replace("$$", "$").replace("%i", "8101").replace(_RELEASE, "echo")
    shell, script = command.split(" -c ")

    assert output_of([shell, "-c", script.strip("'").removeprefix("exec ")]).split() == [
        "serve", "--port", "8101", "--metrics-port", "9101"
    ]  # fmt: skip
