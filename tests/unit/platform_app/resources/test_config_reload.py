"""The config file's watcher: all or nothing, and the old configuration on any error."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from platform_app.config import PlatformConfig, Settings, load_settings
from platform_app.config.reading.last_config import LastConfig
from platform_app.errors import ConfigurationError
from platform_app.resources import config_reload
from platform_app.resources.config_reload import ConfigReload, load_config_of
from tests.support.fakes.core import Count


def text(*models: str) -> str:
    return yaml.safe_dump(
        {
            "providers": {"sim": {"base_url": "http://x/v1", "api_key_secret": "SIM_KEY"}},
            "models": {name: {"routes": [{"provider": "sim", "model": name}]} for name in models},
        }
    )


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(text("small"))
        self.applied: list[list[str]] = []
        self.problems: list[str] = []
        self.reload = ConfigReload(
            self.settings(), self.check, self.apply, load_config_of(self.settings(), LastConfig(None))
        )

    def settings(self) -> Settings:
        return load_settings(
            database_url="postgresql://x/y", redis_url="redis://localhost", config_file=self.path, default_model="small"
        )

    async def check(self, _: PlatformConfig) -> list[str]:
        return self.problems

    def apply(self, config: PlatformConfig) -> None:
        self.applied.append(sorted(config.models))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "platform.yaml")


async def test_valid_file_is_applied(world: World) -> None:
    applied = Count("platform_config_reloads_total", outcome="applied")
    world.path.write_text(text("small", "big"))
    assert await world.reload.reload()
    assert world.applied == [["big", "small"]]
    assert applied.grown == 1


@pytest.mark.parametrize("broken", ["models: [", "providers: {}\nmodels: {}", text("other"), ""])
async def test_invalid_file_changes_nothing(world: World, broken: str) -> None:
    refused = Count("platform_config_reloads_total", outcome="refused")
    world.path.write_text(broken)
    with capture_logs() as lines:
        assert not await world.reload.reload()
    assert world.applied == []
    assert refused.grown == 1
    [line] = lines
    assert line["event"] == "config_reload_refused"
    assert line["problems"]


async def test_missing_file_changes_nothing(world: World) -> None:
    world.path.unlink()
    assert not await world.reload.reload()
    assert world.applied == []


async def test_missing_secret_changes_nothing(world: World) -> None:
    world.problems = ["provider 'new', secret 'NEW_KEY': not found"]
    world.path.write_text(text("small", "big"))
    with capture_logs() as lines:
        assert not await world.reload.reload()
    assert lines[0]["problems"] == world.problems
    assert world.applied == []


@pytest.mark.parametrize("step", ["load_config_file", "check", "apply"])
async def test_file_that_the_gateway_fails_on_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It raises the gauge of the alert, and is tried again; the next correct file is applied."""

    def failing(*_: object) -> None:
        raise OverflowError

    refused = Count("platform_config_reloads_total", outcome="refused")
    world.path.write_text(text("small", "big"))
    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(config_reload if step == "load_config_file" else world.reload, _PATCHED.get(step, step), failing)
        for _ in range(2):
            assert not await world.reload.reload()
    assert [line["event"] for line in lines][:2] == ["config_reload_bug", "config_reload_refused"]
    assert sum(line["event"] == "config_reload_bug" for line in lines) == 1
    assert REGISTRY.get_sample_value("platform_config_refused") == 1
    assert refused.grown > 0
    assert world.reload._refused
    assert await world.reload.reload()
    assert REGISTRY.get_sample_value("platform_config_refused") == 0


_PATCHED = {"check": "_check", "apply": "_apply"}


async def test_changed_file_is_applied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_reload, "WATCH_SECONDS", 0.01)
    task = asyncio.create_task(world.reload.run())
    try:
        await asyncio.sleep(0.1)
        assert world.applied == []  # nothing changed
        world.path.write_text(text("small", "one"))
        await _applied(world, 1)
        # As Kubernetes and editors do it: another file takes the name.
        other = world.path.with_suffix(".new")
        other.write_text(text("small", "two"))
        os.replace(other, world.path)
        await _applied(world, 2)
        world.reload.request()
        await _applied(world, 3)
    finally:
        task.cancel()
    assert world.applied == [["one", "small"], ["small", "two"], ["small", "two"]]


async def test_file_that_is_being_written_is_applied_once_and_whole(world: World) -> None:
    """A writer empties the file, writes a part that is a valid configuration, and later the rest."""
    applied = Count("platform_config_reloads_total", outcome="applied")
    refused = Count("platform_config_reloads_total", outcome="refused")
    for state in ("", text("small"), text("small", "big")):
        world.path.write_text(state)
        await world.reload._look()
        assert world.applied == []
    await world.reload._look()
    await world.reload._look()
    assert world.applied == [["big", "small"]]
    assert (applied.grown, refused.grown) == (1, 0)


async def test_change_during_the_start_is_applied(world: World) -> None:
    """A worker reads the file, the file changes, and only then the worker begins to watch it."""
    loaded = load_config_of(world.settings(), LastConfig(None))
    world.path.write_text(text("small", "big"))
    reload = ConfigReload(world.settings(), world.check, world.apply, loaded)
    for _ in range(2):
        await reload._look()
    assert world.applied == [["big", "small"]]


async def test_bug_in_apply_does_not_end_the_watching(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_reload, "WATCH_SECONDS", 0.01)
    failures = iter([ZeroDivisionError()])
    failed = asyncio.Event()

    def apply(config: PlatformConfig) -> None:
        for error in failures:
            failed.set()
            raise error
        world.apply(config)

    reload = ConfigReload(world.settings(), world.check, apply, load_config_of(world.settings(), LastConfig(None)))
    task = asyncio.create_task(reload.run())
    try:
        reload.request()
        async with asyncio.timeout(300):
            await failed.wait()
        reload.request()
        await _applied(world, 1)
    finally:
        task.cancel()


async def _applied(world: World, times: int) -> None:
    async with asyncio.timeout(300):
        while len(world.applied) < times:
            await asyncio.sleep(0.01)


async def test_reload_logs_the_names_that_changed(world: World) -> None:
    world.path.write_text(text("small", "big") + "log_level: debug\n")
    before = hashlib.sha256(text("small").encode()).hexdigest()
    with capture_logs() as lines:
        assert await world.reload.reload("sighup")
    [line] = lines
    assert (line["event"], line["reason"], line["sha256_before"]) == ("config_reloaded", "sighup", before)
    assert line["sha256_after"] == hashlib.sha256(world.path.read_bytes()).hexdigest()
    assert line["changes"] == {"models": {"added": ["big"]}, "settings": {"changed": ["log_level"]}}
    with capture_logs() as lines:
        assert await world.reload.reload()
    assert lines[0]["changes"] == {}


async def test_refused_file_is_tried_again_without_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file lacked, such as a secret, may be there later. Only the first attempt is reported."""
    monkeypatch.setattr(config_reload, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(config_reload, "RETRY_SECONDS", 0.01)
    refused = Count("platform_config_reloads_total", outcome="refused")
    checks = 0

    async def check(_: PlatformConfig) -> list[str]:
        nonlocal checks
        checks += 1
        return world.problems

    reload = ConfigReload(world.settings(), check, world.apply, load_config_of(world.settings(), LastConfig(None)))
    world.problems = ["provider 'sim', secret 'SIM_KEY': not found"]
    world.path.write_text(text("small", "big"))
    task = asyncio.create_task(reload.run())
    try:
        async with asyncio.timeout(300):
            while checks < 3:
                await asyncio.sleep(0.01)
        assert world.applied == []
        assert refused.grown == 1
        world.problems = []
        await _applied(world, 1)
    finally:
        task.cancel()
    assert world.applied == [["big", "small"]]


async def test_worker_with_an_invalid_file_uses_the_last_one(world: World, tmp_path: Path) -> None:
    """It is the configuration that the other workers use. The file is tried again, and applied when it is valid."""
    last = LastConfig(tmp_path)
    world.path.write_text("models: [")
    with pytest.raises(ConfigurationError):
        load_config_of(world.settings(), last)
    world.path.write_text(text("small"))
    first = ConfigReload(world.settings(), world.check, world.apply, load_config_of(world.settings(), last), last=last)
    world.path.write_text(text("small", "big"))
    await first.reload()
    world.path.write_text("models: [")
    with capture_logs() as lines:
        loaded = load_config_of(world.settings(), last)
        second = ConfigReload(world.settings(), world.check, world.apply, loaded, last=last)
    assert sorted(loaded.config.models) == ["big", "small"]
    assert loaded.digest == hashlib.sha256(text("small", "big").encode()).hexdigest()
    assert [line["event"] for line in lines] == ["config_reload_refused"]
    assert REGISTRY.get_sample_value("platform_config_refused") == 1
    world.path.write_text(text("small", "later"))
    for _ in range(2):
        await second._look()
    assert world.applied[-1] == ["later", "small"]
    assert REGISTRY.get_sample_value("platform_config_refused") == 0


async def test_refused_file_is_not_remembered(world: World, tmp_path: Path) -> None:
    last = LastConfig(tmp_path)
    last.store(text("small").encode())
    reload = ConfigReload(world.settings(), world.check, world.apply, load_config_of(world.settings(), last), last=last)
    world.problems = ["provider 'new', secret 'NEW_KEY': not found"]
    world.path.write_text(text("small", "big"))
    assert not await reload.reload()
    assert last.read() == text("small").encode()


def test_directory_that_cannot_be_written_remembers_nothing(world: World, tmp_path: Path) -> None:
    last = LastConfig(tmp_path / "missing")
    assert load_config_of(world.settings(), last).problems == ()
    assert last.read() is None
