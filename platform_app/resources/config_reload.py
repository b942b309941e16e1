"""The config file while the process runs: a change is taken over as a whole, or not at all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from platform_app.config import PlatformConfig, Settings, load_config_file, parse_config_file
from platform_app.config.reading.file_stamp import FileStamp, file_stamp
from platform_app.config.reading.last_config import LastConfig
from platform_app.errors import ConfigurationError
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.resources.config_audit import ConfigAudit
from platform_app.resources.config_changes import ConfigChange, changed_names

WATCH_SECONDS = 1.0
RETRY_SECONDS = 2.0
"""The wait before a refused file is tried again; it doubles up to MAX_RETRY_SECONDS."""
MAX_RETRY_SECONDS = 10.0

_log = get_logger("config")

Check = Callable[[PlatformConfig], Awaitable[list[str]]]
"""Returns the problems of a configuration, one sentence each."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration, and which state of the file it is."""

    config: PlatformConfig
    digest: str
    """The SHA-256 of the file's content; empty without a file."""
    content: bytes
    stamp: FileStamp
    """Taken before the file was read, so that a change during the start of a process is noticed."""
    problems: Sequence[str] = ()
    """Those of the file as it is now, if the configuration is the one that other workers use."""


def load_config_of(settings: Settings, last: LastConfig) -> LoadedConfig:
    """Return the configuration of the file as it is now. If it is not valid, return the one that the workers of this
    gateway used last, if there is one.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    stamp = file_stamp(settings.config_file)
    try:
        return LoadedConfig(*load_config_file(settings), stamp)
    except ConfigurationError as error:
        if (content := last.read()) is None:
            raise
        return LoadedConfig(*parse_config_file(settings, content), stamp, error.problems)


def earlier_config_of(
    settings: Settings, last: LastConfig, refused: LoadedConfig, problems: Sequence[str]
) -> LoadedConfig:
    """Return the configuration that the workers of this gateway used last, instead of one that has these problems.

    Raises:
        ConfigurationError: there is no other one.
    """
    content = last.read()
    if content is None or content == refused.content:
        raise ConfigurationError(list(problems))
    return LoadedConfig(*parse_config_file(settings, content), refused.stamp, problems)


class ConfigReload:
    """Watch the config file, and apply a changed file as a whole once it is valid.

    Until then the previous configuration stays in use; a gauge and one log line report a refused file. A refused file
    is tried again, because what it lacked may be there later: a secret, or a file that it names.
    """

    def __init__(
        self,
        settings: Settings,
        check: Check,
        apply: Callable[[PlatformConfig], None],
        current: LoadedConfig,
        audit: ConfigAudit | None = None,
        afterwards: Callable[[PlatformConfig], Awaitable[None]] | None = None,
        *,
        last: LastConfig | None = None,
    ) -> None:
        """
        Args:
            settings: where the config file is.
            check: returns one sentence for each problem of a configuration.
            apply: puts a checked configuration into use; it must not fail halfway.
            current: the configuration in use.
            audit: writes the audit events; None for none.
            afterwards: looks at a configuration that was applied; it cannot refuse it.
            last: remembers what was applied, for workers that start later.
        """
        self._settings = settings
        self._check = check
        self._apply = apply
        self._config, self._digest = current.config, current.digest
        self._audit = audit
        self._afterwards = afterwards
        self._asked = False
        self._seen = self._last_look = current.stamp
        self._refused: list[str] = []
        """The problems of the last attempt."""
        self._reason = "file_changed"
        self._retry_at, self._retry_wait = 0.0, RETRY_SECONDS
        self._last = last or LastConfig(None)
        if current.problems:
            self._refuse(list(current.problems), self._reason)

    def request(self) -> None:
        """Read the file again within a second, changed or not. Safe in a signal handler."""
        self._asked = True

    async def run(self) -> None:
        """Check the file every second, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._look()
                if self._audit is not None:
                    await self._audit.write_waiting()
            except Exception:  # noqa: BLE001 - a bug here must not end the watching
                _log.exception("config_reload_bug")

    async def _look(self) -> None:
        now = await asyncio.to_thread(file_stamp, self._settings.config_file)
        asked, self._asked = self._asked, False
        # A changed file is read once it has not changed for a whole look: half of a file may be a valid configuration.
        settled, self._last_look = now == self._last_look, now
        if asked or (now != self._seen and settled):
            self._seen, self._retry_wait = now, RETRY_SECONDS
            await self.reload("sighup" if asked else "file_changed")
        elif now == self._seen and self._refused and time.monotonic() >= self._retry_at:
            self._retry_wait = min(2 * self._retry_wait, MAX_RETRY_SECONDS)
            await self.reload(self._reason)

    async def reload(self, reason: str = "file_changed") -> bool:
        """Read, check and apply the file. Return whether it was applied."""
        try:
            config, digest, content = await self._take_over()
        except ConfigurationError as error:
            self._refuse(error.problems, reason)
            return False
        except Exception as error:  # noqa: BLE001 - a file that the gateway fails on is refused like any other
            problems = [f"the gateway failed with {type(error).__name__}; the log line config_reload_bug says where"]
            if problems != self._refused:
                _log.exception("config_reload_bug")
            self._refuse(problems, reason)
            return False
        self._refused = []
        await asyncio.to_thread(self._last.store, content)
        metrics.CONFIG_RELOADS.labels("applied").inc()
        metrics.CONFIG_REFUSED.set(0)
        change = ConfigChange(reason, self._digest, digest, changed_names(self._config, config))
        self._config, self._digest = config, digest
        _log.warning("config_reloaded", **asdict(change))
        if self._audit is not None:
            self._audit.note(change)
        if self._afterwards is not None:
            await self._afterwards(config)
        return True

    async def _take_over(self) -> tuple[PlatformConfig, str, bytes]:
        """Read, check and apply the file. Return the configuration, the digest of the file, and its content."""
        config, digest, content = await asyncio.to_thread(load_config_file, self._settings)
        if problems := await self._check(config):
            raise ConfigurationError(problems)
        self._apply(config)
        return config, digest, content

    def _refuse(self, problems: list[str], reason: str) -> None:
        """Report a refused file; a retry only if it finds other problems."""
        repeated = problems == self._refused
        self._refused, self._reason = problems, reason
        self._retry_at = time.monotonic() + self._retry_wait
        if repeated and self._retry_wait > RETRY_SECONDS:
            return
        metrics.CONFIG_RELOADS.labels("refused").inc()
        metrics.CONFIG_REFUSED.set(1)
        _log.error("config_reload_refused", problems=problems)
