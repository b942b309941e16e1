"""What an idle gateway costs in memory: the figures of docs/operations.md, with a tenth to spare."""

from pathlib import Path

from apps.platform_cli.embedded import processes
from tests.conftest import Platform
from tests.support.gateway.http import metric, until, workers
from tests.support.gateway.process import Gateway

PARENT_MB = 31
WORKER_MB = 108
SPARE = 1.1
_PAGE = 4096


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1024 / 1024


async def test_idle_parent_and_worker_stay_small(platform: Platform, tmp_path: Path) -> None:
    with Gateway(platform.environment, tmp_path) as gateway:
        await until(lambda: metric(gateway.metrics(), "platform_workers_ready") == 1)
        assert gateway.child is not None
        assert "apps.platform_cli.serve.parent" in processes.command_line(gateway.child.pid)
        parent, worker = resident_mb(gateway.child.pid), resident_mb(workers(gateway)[0])
    assert parent < PARENT_MB * SPARE
    assert worker < WORKER_MB * SPARE
