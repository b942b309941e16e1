"""Panels over the gateway's records in PostgreSQL: a key is never a label of a metric, so tables show keys from SQL."""

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef, DynamicConfigValue

from dashboards.source.panels import Text, runbook_link

RECORDS = DataSourceRef(type_val="grafana-postgresql-datasource", uid="${records}")

TOP_KEYS = """\
SELECT usage.owner, usage.key_id, keys.name, count(*) AS requests,
  sum(usage.prompt_tokens + usage.completion_tokens) AS tokens,
  sum(usage.cost_microusd) / 1e6 AS cost_usd,
  avg(CASE WHEN usage.outcome IN ('ok', 'client_closed') THEN 0 ELSE 1 END) AS failed
FROM usage_records AS usage LEFT JOIN api_keys AS keys USING (key_id)
WHERE $__timeFilter(usage.occurred_at)
GROUP BY usage.owner, usage.key_id, keys.name
ORDER BY cost_usd DESC NULLS LAST, requests DESC
LIMIT 20
"""

REFUSED_KEYS = """\
SELECT coalesce(keys.owner, 'no valid key') AS owner, decisions.key_id, decisions.route, decisions.reason,
  sum(decisions.count) AS refused, max(decisions.occurred_at) AS latest
FROM access_decisions AS decisions LEFT JOIN api_keys AS keys USING (key_id)
WHERE $__timeFilter(decisions.occurred_at) AND decisions.decision = 'deny'
GROUP BY keys.owner, decisions.key_id, decisions.route, decisions.reason
ORDER BY refused DESC
LIMIT 20
"""

KEY_CHANGES = """\
SELECT audit.occurred_at, audit.action, audit.target AS key_id, keys.owner, audit.actor, audit.reason,
  audit.client_address, audit.request_id, audit.trace_id
FROM audit_events AS audit LEFT JOIN api_keys AS keys ON keys.key_id = audit.target
WHERE $__timeFilter(audit.occurred_at)
ORDER BY audit.occurred_at DESC
LIMIT 100
"""


class _SqlQuery(Dataquery, Builder[Dataquery]):
    """A query for Grafana's PostgreSQL data source, which the SDK does not have."""

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def build(self) -> Dataquery:
        """Return itself: it is built with its text."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the fields as the data source reads them."""
        return {
            "refId": "A",
            "datasource": RECORDS,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self._sql,
        }


def records_table(title: str, text: Text, sql: str, *, width: int) -> table.Panel:
    """Return a panel with the rows of a query."""
    panel = table.Panel().with_target(_SqlQuery(sql)).title(title).description(text.description).unit("short")
    for column, unit in (("cost_usd", "currencyUSD"), ("failed", "percentunit")):
        panel.override_by_name(column, [DynamicConfigValue("unit", unit)])
    panel.datasource(RECORDS).span(width).height(9)
    return panel.links([runbook_link(name) for name in text.runbooks])
