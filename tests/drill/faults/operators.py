"""Faults that people cause, and a collector that is down."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.drill.faults.fault import Expected, Fault
from tests.drill.runbook import Cause
from tests.drill.stage import Stage
from tests.drill.traffic import Client

_UNKNOWN_KEY = f"fbp_test_{'0' * 12}_{'s' * 40}"
_FLOOD_PER_SECOND = 60.0


@contextmanager
def _config_broken(stage: Stage) -> Iterator[None]:
    good = stage.config_file.read_text()
    _replace(stage.config_file, f"{good}\nproviderz: {{}}\n")
    try:
        yield
    finally:
        _replace(stage.config_file, good)


def _replace(path: Path, text: str) -> None:
    """Write the file beside the old one and rename it, so that no worker reads a part of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


@contextmanager
def _collector_down(stage: Stage) -> Iterator[None]:
    stage.collector.stop()
    try:
        yield
    finally:
        stage.collector.start()


@contextmanager
def _invalid_keys(stage: Stage) -> Iterator[None]:
    """From another address, so that the legitimate clients are not throttled."""
    client = Client("stranger", _UNKNOWN_KEY, "/v1/platform/chat", {"prompt": "Hello"}, _FLOOD_PER_SECOND, "127.0.0.2")
    stop = stage.traffic.send_with(client)
    try:
        yield
    finally:
        stop()


OPERATORS = (
    Fault(
        "config-broken",
        "An operator saves a config file that is not valid",
        _config_broken,
        (Expected("ConfigRefused", Cause(at_least=1)),),
    ),
    Fault(
        "collector-down",
        "The OTLP collector is down: it refuses connections",
        _collector_down,
        (Expected("TraceExportFailing", Cause({"outcome": "failed"})),),
    ),
    Fault(
        "invalid-keys",
        f"A client sends {_FLOOD_PER_SECOND:.0f} requests a second with an unknown key",
        _invalid_keys,
        (Expected("RefusalsFlood", Cause()),),
    ),
)
