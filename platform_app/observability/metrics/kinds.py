"""The kinds of metrics, and the buckets that several metrics share.

The areas import the kinds from here, so that the values of a worker are mapped before its first metric exists.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import prometheus_client
from prometheus_client import values
from prometheus_client.samples import Sample

from platform_app.observability.metrics.changes import CHANGES
from platform_app.observability.metrics.mapped_values import mapped_value_class

__all__ = ["FINE_BUCKETS", "REQUEST_BUCKETS", "STORE_BUCKETS", "Counter", "Gauge", "Histogram"]

if getattr(values.ValueClass, "_multiprocess", False):
    values.ValueClass = mapped_value_class()

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""The gateway itself adds about a millisecond; providers take seconds."""
STORE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2.5)
FINE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From the shortest step of the gateway to a stalled one."""


class Counter(prometheus_client.Counter):
    """prometheus_client's counter; in a worker, an increment is one call instead of five."""

    def _metric_init(self) -> None:
        super()._metric_init()
        _increment_directly(self)


class Gauge(prometheus_client.Gauge):
    """prometheus_client's gauge; in a worker, an increment is one call instead of four."""

    def _metric_init(self) -> None:
        super()._metric_init()
        _increment_directly(self)


def _increment_directly(metric: Any) -> None:
    """Replace a metric's `inc` by that of its value, where the value is one of a worker's file.

    What is left out are checks for mistakes in the code: labels are missing, a counter decreases.
    """
    if hasattr(metric._value, "write"):
        metric.inc = metric._value.inc


class Histogram(prometheus_client.Histogram):
    """prometheus_client's histogram, at an eighth of the cost of an observation.

    It finds the bucket by bisection, and observations wait in plain numbers until they are written.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        self._changed = False

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe one amount. Exemplars are added by the parent (platform_app/observability/exemplars.py)."""
        # Without a lock, as in mapped_values.py: the two additions contain no call after the bisection.
        bucket = bisect_left(self._upper_bounds, amount)
        self._counts[bucket] += 1
        self._total += amount
        if not self._changed:
            self._changed = True
            CHANGES.add(self)

    def observe_times(self, amount: float, times: int) -> None:
        """Observe the same amount several times."""
        bucket = bisect_left(self._upper_bounds, amount)
        self._counts[bucket] += times
        self._total += amount * times
        if not self._changed:
            self._changed = True
            CHANGES.add(self)

    def write(self) -> None:
        """Add the observations that wait to the values."""
        self._changed = False  # first: an observation from now on is announced again
        counts, self._counts = self._counts, [0] * len(self._upper_bounds)
        total, self._total = self._total, 0.0
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)

    def _child_samples(self) -> Iterable[Sample]:
        if self._changed:
            self.write()
        return super()._child_samples()
