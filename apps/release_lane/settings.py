"""lane.toml: where releases, instances and keys of this host are. `deploy/lane.example.toml` explains each key."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from apps.release_lane.errors import UsageError

DEFAULT_FILE = Path("/etc/flowbiz/lane.toml")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """The reverse proxy in front of the instances."""

    kind: Literal["nginx", "command", "none"] = "none"
    upstream_file: Path = Path("/etc/nginx/flowbiz-upstream.conf")
    test: tuple[str, ...] = ("nginx", "-t", "-q")
    reload: tuple[str, ...] = ("systemctl", "reload", "nginx")
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The Deployment that is released."""

    namespace: str = "flowbiz-production"
    deployment: str = "flowbiz-platform"
    container: str = "gateway"
    image: str = ""
    """The image without its tag; the tag is the SHA."""
    overlay: str = ""
    """The kustomize folder whose Job of the name `migration_job` migrates the schema."""
    migration_job: str = "flowbiz-platform-migrate"
    context: str = ""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Everything that the lane has to know about its host or cluster."""

    kind: Literal["host", "kubernetes"] = "host"
    root: Path = Path("/srv/flowbiz")
    runner: Literal["systemd", "process"] = "systemd"
    unit: str = "flowbiz-platform@{port}.service"
    environment_file: Path = Path("/etc/flowbiz/platform.env")
    check_environment_file: Path | None = None
    migration_environment_file: Path | None = None
    smoke_key_file: Path = Path("/etc/flowbiz/smoke.key")
    artifacts: Path | None = None
    source: Path | None = None
    python: str = "python3"
    slots: tuple[tuple[int, int], ...] = ((8101, 8111), (8102, 8112))
    metrics_offset: int = 1000
    check_live: bool = True
    start_seconds: float = 120.0
    smoke_seconds: float = 60.0
    settle_seconds: float = 2.0
    finish_seconds: float = 300.0
    stop_seconds: float = 60.0
    scrape_targets_file: Path | None = None
    """Where the lane lists the instances that run, for file_sd_configs of Prometheus."""
    scrape_host: str = ""
    """This host's name or address in that list; empty: the metrics address of the environment file."""
    keep_releases: int = 5
    """Built releases that stay on the disk after a release."""
    front: FrontSettings = FrontSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    def metrics_port(self, port: int) -> int:
        """Return the metrics port of an instance."""
        return port + self.metrics_offset


def read_settings(path: Path) -> LaneSettings:
    """Read lane.toml.

    Raises:
        UsageError: the file cannot be read, or a key or value in it is wrong.
    """
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}. Copy deploy/lane.example.toml to it, or name the file with --config."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    settings = cast(LaneSettings, _make(LaneSettings, found, str(path)))
    _check_slots(settings, path)
    if settings.keep_releases < 2:
        raise UsageError(f"{path}: keep_releases is {settings.keep_releases!r}; expected a whole number of at least 2")
    if "{port}" not in settings.unit:
        raise UsageError(f"{path}: unit is {settings.unit!r}; expected a text with {{port}}")
    if settings.front.kind == "command" and not settings.front.command:
        raise UsageError(f"{path}, [front]: kind is 'command'; set command, a list of texts")
    return settings


def _make(kind: type[Any], found: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from a table; every unknown key and wrong type is refused by name."""
    known = {field.name: field for field in fields(kind)}
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in found.items():
        if name not in known:
            raise UsageError(f"{where}: unknown key '{name}'; known keys: {', '.join(known)}")
        default = known[name].default
        assert default is not MISSING  # noqa: S101 - every field has a default
        if hasattr(default, "__dataclass_fields__"):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: {name} is {value!r}; expected a table [{name}]")
            values[name] = _make(type(default), value, f"{where}, [{name}]")
        elif get_origin(hints[name]) is Literal:
            values[name] = _choice(name, value, get_args(hints[name]), where)
        else:
            values[name] = _value(name, value, default, where)
    return kind(**values)


def _choice(name: str, value: Any, choices: tuple[str, ...], where: str) -> str:
    """Return the word that the value is, in any case."""
    if isinstance(value, str) and value.strip().lower() in choices:
        return value.strip().lower()
    raise UsageError(f"{where}: {name} is {value!r}; expected one of {', '.join(choices)}")


def _value(name: str, value: Any, default: Any, where: str) -> Any:
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(default, float | int):
        return _number(name, value, default, where)
    if name == "slots":
        return _slots(value, where)
    if isinstance(default, tuple):
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise UsageError(f"{where}: {name} is {value!r}; expected a list of texts")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name} is {value!r}; expected a text")
    return _path(name, value, where) if default is None or isinstance(default, Path) else value


def _number(name: str, value: Any, default: float, where: str) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{where}: {name} is {value!r}; expected a number of at least 0")
    if isinstance(default, int) and value != int(value):
        raise UsageError(f"{where}: {name} is {value!r}; expected a whole number")
    return int(value) if isinstance(default, int) else value


def _path(name: str, value: str, where: str) -> Path:
    """Return a path. It must not depend on the folder and the user that the lane runs in."""
    if not value.startswith("/") or "\0" in value:
        raise UsageError(f"{where}: {name} is {value!r}; expected an absolute path, which begins with /")
    return Path(value)


def _slots(value: Any, where: str) -> tuple[tuple[int, int], ...]:
    pairs = value if isinstance(value, list) else []
    if not pairs or not all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_port, pair)) for pair in pairs):
        raise UsageError(f"{where}: slots is {value!r}; expected pairs of ports, such as [[8101, 8111], [8102, 8112]]")
    return tuple((first, second) for first, second in pairs)


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LAST_PORT


def _check_slots(settings: LaneSettings, path: Path) -> None:
    ports = [port for slot in settings.slots for port in slot]
    used = ports + [settings.metrics_port(port) for port in ports]
    if len(set(used)) != len(used):
        raise UsageError(f"{path}: slots: the ports and their metrics ports (+{settings.metrics_offset}) must differ")
    if max(used) > _LAST_PORT:
        raise UsageError(f"{path}: slots: the metrics port {max(used)} is above {_LAST_PORT}; lower metrics_offset")
