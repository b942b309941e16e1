"""The row of the Providers dashboard with connections to providers."""

from dashboards.source.frame import Row
from dashboards.source.lines import rates
from dashboards.source.panels import Query, Text, graph
from dashboards.source.queries import series


def connections() -> Row:
    """Return the row."""
    return Row(
        "Connections",
        [
            graph(
                "New connections",
                Text(
                    "Connections to providers that were made, failed or timed out.",
                    "few; steady traffic uses its connections again.",
                    ("ProviderFailing",),
                ),
                "cps",
                rates("platform_provider_connections_total", by=("host", "outcome")),
            ),
            graph(
                "Open connections",
                Text(
                    "Connections to providers, in use and idle.",
                    "in use follows the requests in progress.",
                    ("ProviderConcurrencySaturated",),
                ),
                "short",
                Query(f"sum by (host, state) ({series('platform_provider_pool_connections')})", "{{host}} {{state}}"),
            ),
        ],
    )
