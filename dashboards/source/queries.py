"""PromQL with the dashboard's variables. Every series is summed over the instances that are selected."""

from collections.abc import Sequence

JOB = 'job="flowbiz-platform"'
INSTANCES = (JOB, 'instance=~"$instance"')
TRAFFIC = 'route!~"/healthz|/livez|/readyz|/v1/meta|/openapi.json"'
"""Without probes and descriptions: the routes that the objectives count, see alerts/source."""
PROVIDER = 'provider=~"$provider"'
MODEL = 'model=~"$model"'
WINDOW = "$__rate_interval"


def series(metric: str, *matchers: str) -> str:
    """Return the selector of a metric's series on the selected instances."""
    return f"{metric}{{{', '.join((*INSTANCES, *matchers))}}}"


def total(function: str, metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Return the sum of `rate` or `increase` over a counter's series, by labels."""
    inner = f"({function}({series(metric, *matchers)}[{window}]))"
    return f"sum by ({', '.join(by)}) {inner}" if by else f"sum{inner}"


def rate(metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Return a counter's rate in one second, summed by labels."""
    return total("rate", metric, *matchers, by=by, window=window)


def increase(metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Return how much a counter grew in each interval of the graph, summed by labels."""
    return total("increase", metric, *matchers, by=by, window=window)


def gauge(aggregate: str, metric: str, *matchers: str, by: Sequence[str] = ()) -> str:
    """Return a gauge, aggregated with `sum`, `max` or `min` by labels."""
    grouping = f" by ({', '.join(by)}) " if by else ""
    return f"{aggregate}{grouping}({series(metric, *matchers)})"


def quantile(q: float, histogram: str, *matchers: str, by: Sequence[str] = ()) -> str:
    """Return a quantile of a histogram, by labels."""
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', *matchers, by=('le', *by))})"


def mean(histogram: str, *matchers: str, by: Sequence[str] = ()) -> str:
    """Return the mean of a histogram's observations, by labels."""
    return f"{rate(f'{histogram}_sum', *matchers, by=by)} / {rate(f'{histogram}_count', *matchers, by=by)}"


def share(part: str, whole: str) -> str:
    """Return the share of `part` in `whole`; 0 where `part` has no series."""
    return f"({part} or 0 * {whole}) / {whole}"
