"""The level of log lines changes in all processes of a running gateway: by signal, and by the config file."""

import os
import signal
from pathlib import Path

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, Platform
from tests.support.gateway.http import until
from tests.support.gateway.process import Gateway, write_config


async def test_log_level_follows_signals_and_config_file(
    platform: Platform, simulator: ProviderSimulator, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "platform.yaml", simulator.base_url, policies=PATIENT)
    environment = {**platform.environment, "PLATFORM_CONFIG_FILE": str(config), "PLATFORM_LOG_LEVEL": "warning"}
    with Gateway(environment, tmp_path, workers=2) as gateway:

        def changes(after: str, reason: str) -> int:
            return sum(
                (line["event"], line.get("after"), line.get("reason")) == ("log_level_changed", after, reason)
                for line in gateway.log_lines()
            )

        assert gateway.child is not None
        os.kill(gateway.child.pid, signal.SIGUSR1)
        await until(lambda: changes("debug", "signal") == 3)  # the parent and two workers
        os.kill(gateway.child.pid, signal.SIGHUP)
        await until(lambda: changes("warning", "signal") == 3)
        config.write_text(config.read_text() + "log_level: error\n")
        await until(lambda: changes("error", "config_file") == 2)
