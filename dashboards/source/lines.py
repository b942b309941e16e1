"""Queries whose lines are named by their labels: `prefix` first, then the value of each label in `by`."""

from collections.abc import Sequence

from dashboards.source.panels import Query
from dashboards.source.queries import gauge, increase, quantile, rate

QUANTILES = (0.5, 0.99)


def rates(metric: str, *matchers: str, by: Sequence[str] = (), prefix: str = "") -> Query:
    """Return a counter's rate in one second."""
    return Query(rate(metric, *matchers, by=by), legend(by, prefix))


def increases(metric: str, *matchers: str, by: Sequence[str] = (), prefix: str = "") -> Query:
    """Return how much a counter grew in each interval of the graph."""
    return Query(increase(metric, *matchers, by=by), legend(by, prefix))


def gauges(aggregate: str, metric: str, *matchers: str, by: Sequence[str] = (), prefix: str = "") -> Query:
    """Return a gauge, aggregated with `sum`, `max` or `min`."""
    return Query(gauge(aggregate, metric, *matchers, by=by), legend(by, prefix))


def quantiles(
    histogram: str, *matchers: str, by: Sequence[str] = (), of: Sequence[float] = QUANTILES, exemplars: bool = False
) -> list[Query]:
    """Return one query for each quantile, named p50, p99. The last one has the exemplars."""
    return [
        Query(quantile(q, histogram, *matchers, by=by), legend(by, f"p{100 * q:g}"), exemplars and q == of[-1])
        for q in of
    ]


def legend(by: Sequence[str], prefix: str = "") -> str:
    """Return the name of the lines of a query that is grouped by these labels."""
    return " ".join([*([prefix] if prefix else []), *(f"{{{{{label}}}}}" for label in by)])
