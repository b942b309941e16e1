"""What all dashboards share: variables, annotations, links, and the numbering of the panels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardDashboardTemplating,
    DashboardLinkType,
    Panel,
    VariableHide,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
    VariableType,
)

from dashboards.source.panels import METRICS
from dashboards.source.queries import JOB, series

TAG = "flowbiz"
RUNBOOKS = "runbooks"
"""The folder of the runbooks, as in the alerts: a relative path, unless `--runbooks` names a URL."""
FAILED_TRACES = "{ status = error }"
"""TraceQL."""


@dataclass(frozen=True, slots=True)
class Row:
    """A headline with its panels. Their widths fill lines of 24."""

    title: str
    panels: Sequence[Builder[Panel]]


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard before it is built."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[builders.QueryVariable | builders.DatasourceVariable] = ()

    def build(self, runbooks: str = RUNBOOKS) -> Dashboard:
        """Return the dashboard, with the runbooks at this URL."""
        page = (
            builders.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .time("now-3h", "now")
            .timezone("browser")
            .refresh("30s")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .version(1)
            .links([_other_dashboards(), _failed_traces()])
        )
        sources = [_source("datasource", "Metrics", "prometheus"), _source("traces", "Traces", "tempo")]
        instance = chosen("instance", "Instance", f"label_values(up{{{JOB}}}, instance)")
        for variable in (*sources, instance, *self.variables):
            page.with_variable(variable)
        for row in self.rows:
            page.with_row(builders.Row(row.title))
            for panel in row.panels:
                page.with_panel(panel)
        built = page.build()
        # A builder gives a constant no current value, and Grafana reads that one.
        constant = VariableModel(VariableType.CONSTANT, "runbooks", hide=VariableHide.HIDE_VARIABLE, query=runbooks)
        constant.current = VariableOption(selected=True, text=runbooks, value=runbooks)
        assert isinstance(built.templating, DashboardDashboardTemplating)  # noqa: S101 - with_variable made it
        built.templating.list_val = [*(built.templating.list_val or []), constant]
        built.annotations.list_val = [_deployments(), _config_changes()]
        for number, built_panel in enumerate(built.panels or [], 1):
            built_panel.id_val = number
        return built


def to_json(built: Dashboard) -> str:
    """Return a dashboard's file."""
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def chosen(name: str, label: str, query: str) -> builders.QueryVariable:
    """Return a variable with the values that a metric's label has; all of them at first."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(METRICS)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _source(name: str, label: str, kind: str) -> builders.DatasourceVariable:
    return builders.DatasourceVariable(name).label(label).type(kind)


def records_source() -> builders.DatasourceVariable:
    """Return the variable of the data source with the gateway's records."""
    return _source("records", "Records", "grafana-postgresql-datasource")


def _other_dashboards() -> builders.DashboardLink:
    link = builders.DashboardLink("FlowBiz").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.include_vars(True).keep_time(True)


def _failed_traces() -> builders.DashboardLink:
    """Return the link to the failed requests of the last hour in Explore."""
    query = {
        "refId": "A",
        "datasource": {"type": "tempo", "uid": "${traces}"},
        "queryType": "traceql",
        "query": FAILED_TRACES,
    }
    panes = {"t": {"datasource": "${traces}", "queries": [query], "range": {"from": "now-1h", "to": "now"}}}
    # Grafana replaces the variable in the link, so that one stays readable.
    encoded = quote(json.dumps(panes, separators=(",", ":"))).replace(quote("${traces}"), "${traces}")
    link = builders.DashboardLink("Failed requests as traces").type(DashboardLinkType.LINK).icon("external link")
    return link.url(f"/explore?schemaVersion=1&panes={encoded}").target_blank(True)


class _MetricAnnotation(AnnotationQuery):
    """An annotation from Prometheus. The SDK's type lacks the fields that name its texts."""

    def __init__(self, name: str, expr: str, *, color: str, title: str) -> None:
        super().__init__(name=name, datasource=METRICS, icon_color=color, expr=expr)
        self._title = title

    def to_json(self) -> dict[str, object]:
        """Return the fields as Grafana's Prometheus data source reads them."""
        fields: dict[str, Any] = {"step": "60s", "titleFormat": self._title, "textFormat": "", "useValueForTime": False}
        return {**super().to_json(), **fields}


def _deployments() -> AnnotationQuery:
    info = "sum by (version, build_sha) ({})"
    now = info.format(series("platform_build_info"))
    before = info.format(f"{series('platform_build_info')} offset 5m")
    return _MetricAnnotation("Deployments", f"{now} unless {before}", color="blue", title="{{version}} {{build_sha}}")


def _config_changes() -> AnnotationQuery:
    changed = f"sum by (outcome) (increase({series('platform_config_reloads_total')}[2m])) > 0"
    return _MetricAnnotation("Config changes", changed, color="purple", title="config {{outcome}}")
