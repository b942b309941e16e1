"""A gateway under steady traffic: warm-up, then samples until the end, with rotated keys and reloads meanwhile."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.chaos.soak.samples import ALLOWED_PER_HOUR, EXECUTOR_THREADS, Sample, Slope, slopes, take
from tests.chaos.soak.traffic import EXPECTED, Traffic
from tests.chaos.stack import running_stack

_SAMPLES = 120
_CHANGES = 10
"""Key rotations and reloads of the config file in one run."""
_SHOWN_SERIES = 30


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was measured."""

    results: Counter[str]
    samples: list[Sample]
    reloads: int

    def slopes(self) -> Mapping[str, Slope]:
        """Return the growth of each measure in an hour."""
        return slopes(self.samples)

    def robust_faults(self) -> list[str]:
        """Return what must not happen in a run of any length: unexpected results, and counts that grow."""
        faults = [f"{count} × {result}" for result, count in self.results.items() if result not in EXPECTED]
        first, last = self.samples[0].values, self.samples[-1].values
        room = {"series": 0.0, "metric_files": 0.0, "threads": EXECUTOR_THREADS * first["workers"]}
        faults += [
            f"{name}: {first[name]:.0f} after the warm-up, {last[name]:.0f} at the end"
            for name, more in room.items()
            if last[name] > first[name] + more
        ]
        new = sorted(self.samples[-1].series - self.samples[0].series)
        return faults + ([f"new series: {', '.join(new[:_SHOWN_SERIES])}"] if new else [])

    def faults(self) -> list[str]:
        """Return every demand that was not met, the slopes included: for half an hour and a machine without other
        work."""
        grown = [
            f"{name} grows by {slope.per_hour:.2f} ± {slope.error:.2f} an hour, {ALLOWED_PER_HOUR[name]:g} is allowed"
            for name, slope in self.slopes().items()
            if name in ALLOWED_PER_HOUR and slope.exceeds(ALLOWED_PER_HOUR[name])
        ]
        return self.robust_faults() + grown

    def table(self) -> str:
        """Return one line for each measure: after the warm-up, at the end, the slope."""
        first, last = self.samples[0].values, self.samples[-1].values
        lines = ["| Measure | After the warm-up | At the end | Slope in an hour |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {first[name]:.1f} | {last[name]:.1f} | {slope.per_hour:+.2f} ± {slope.error:.2f} |"
            for name, slope in self.slopes().items()
        ]
        return "\n".join(lines)


def run_soak(warm_up_seconds: float, seconds: float, per_second: float, show: Callable[[str], None]) -> Soaked:
    """Send traffic during the warm-up and the seconds after it. Return what was measured after the warm-up."""
    with running_stack() as (gateway, platform, directory):
        traffic = Traffic(gateway.base_url, platform.key("platform:chat"), per_second)
        thread = threading.Thread(target=traffic.run, name="soak")
        thread.start()
        samples: list[Sample] = []
        reloads = 0
        began = time.monotonic()
        changes = itertools.count(1)
        change_every, sample_every = (warm_up_seconds + seconds) / _CHANGES, seconds / _SAMPLES
        change_at, sample_at, warm = began + change_every, began + sample_every, began + warm_up_seconds
        try:
            while (now := time.monotonic()) < began + warm_up_seconds + seconds:
                if now >= change_at:
                    change_at += change_every
                    traffic.key = platform.key("platform:chat", owner="soak")
                    _reload(directory, next(changes))
                    reloads += 1
                if now >= sample_at:
                    sample_at += sample_every
                    sample = take(gateway, directory, directory / "spool")
                    if now >= warm:  # before, taking them warms up the parent, which counts what all workers did
                        samples.append(sample)
                        show(f"{now - began:.0f} s: {sample.values}")
                time.sleep(0.1)
        finally:
            traffic.stopped.set()
            thread.join()
        return Soaked(traffic.results, samples, reloads)


def _reload(directory: Path, number: int) -> None:
    config = yaml.safe_load((directory / "platform.yaml").read_text())
    config["policies"] = {**config["policies"], "retry": {"max_attempts": 1 + number % 2}}
    new = directory / "platform.new"
    new.write_text(yaml.safe_dump(config))
    new.rename(directory / "platform.yaml")
