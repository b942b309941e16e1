"""The kinds of metrics, and the buckets that several metrics share.

The areas import the kinds from here, so that the values of a worker are mapped before its first metric exists.
"""

from prometheus_client import Counter, Gauge, Histogram, values

from platform_app.observability.mapped_values import mapped_value_class

__all__ = ["FINE_BUCKETS", "REQUEST_BUCKETS", "STORE_BUCKETS", "Counter", "Gauge", "Histogram"]

if getattr(values.ValueClass, "_multiprocess", False):
    values.ValueClass = mapped_value_class()

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""The gateway itself adds about a millisecond; providers take seconds."""
STORE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2.5)
FINE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From the shortest step of the gateway to a stalled one."""
