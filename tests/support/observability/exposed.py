"""What a gateway wrote or sent to other places than its clients: PostgreSQL and the collector of traces."""

import asyncio
from pathlib import Path

import yaml

from tests.support.gateway.database import connected
from tests.support.gateway.process import Gateway
from tests.support.observability.planted_bug import STACKS
from tests.support.observability.tracing.otlp import Received


async def spans_of(gateway: Gateway, collector: Received) -> str:
    """Every byte that the collector got, once it has each trace that the gateway kept and did not drop."""

    def exported() -> float:
        lines = gateway.metrics().splitlines()
        kept, dropped = (
            sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"platform_traces_{name}_total{{"))
            for name in ("kept", "dropped")
        )
        return kept - dropped

    async with asyncio.timeout(300):
        while len({span.trace_id for span in collector.spans}) < exported():
            await asyncio.sleep(0.5)
    return b"\n".join(collector.raw).decode("latin-1")


async def ledger_of(url: str, key: str) -> str:
    """Every row that this key left in the ledger, as text, once that of the last request is there."""
    key_id = key.split("_")[2]
    async with connected(url) as connection, asyncio.timeout(300):
        last = "SELECT count(*) FROM usage_records WHERE key_id = $1 AND request_id = 'left'"
        while not await connection.fetchval(last, key_id):
            await asyncio.sleep(0.05)
        rows = [
            row[0]
            for table in ("usage_records", "access_decisions", "usage_daily")
            for row in await connection.fetch(f"SELECT t::text FROM {table} t WHERE key_id = $1", key_id)
        ]
    return "\n".join(rows)


async def audit_of(url: str) -> str:
    """Return every audit event as text, once that of the reload is there."""
    async with connected(url) as connection, asyncio.timeout(300):
        while not await connection.fetchval("SELECT count(*) FROM audit_events WHERE action = 'config.reload'"):
            await asyncio.sleep(0.05)
        return "\n".join(row[0] for row in await connection.fetch("SELECT t::text FROM audit_events t"))


def add_header(config: Path, provider: str, value: str) -> None:
    """Add a header to each request to this provider."""
    sections = yaml.safe_load(config.read_text())
    sections["providers"][provider]["headers"] = {"X-Team": value}
    partial = config.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(sections))
    partial.rename(config)


def log_of(gateway: Gateway) -> str:
    """Return the log, and below it what faulthandler wrote for the planted bug."""
    stacks = Path(gateway.environment["PLATFORM_CONFIG_FILE"] + STACKS)
    return f"{gateway.log_file.read_text()}\n{stacks.read_text()}"
