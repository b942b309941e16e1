"""Panels. Each states what it shows, what is normal, and which runbooks to open otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardLink,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

METRICS = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that the dashboard's variable names."""
_WARN, _BAD, _GOOD = "orange", "red", "green"


class PanelBuilder(Protocol):
    """What the builders of all kinds of panels have in common."""

    def title(self, title: str) -> Self: ...  # noqa: D102
    def description(self, description: str) -> Self: ...  # noqa: D102
    def datasource(self, datasource: DataSourceRef) -> Self: ...  # noqa: D102
    def height(self, h: int) -> Self: ...  # noqa: D102
    def span(self, w: int) -> Self: ...  # noqa: D102
    def unit(self, unit: str) -> Self: ...  # noqa: D102
    def links(self, links: list[Builder[DashboardLink]]) -> Self: ...  # noqa: D102


P = TypeVar("P", bound=PanelBuilder)


@dataclass(frozen=True, slots=True)
class Query:
    """One expression with the name of its lines. `exemplars` shows the traces of single requests as points."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What a reader of a panel has to know: what it shows, what is normal, and where to continue otherwise."""

    shows: str
    normal: str
    runbooks: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """The description that the panel's corner shows."""
        more = f" Otherwise open: {', '.join(self.runbooks)}." if self.runbooks else ""
        return f"{self.shows} Normal: {self.normal}{more}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a value is no longer normal, and where it is bad. With `bad` below `warn`, low values are bad."""

    warn: float
    bad: float

    def builder(self) -> dashboards.ThresholdsConfig:
        """Return the thresholds with their colours."""
        if self.bad >= self.warn:
            steps = [(None, _GOOD), (self.warn, _WARN), (self.bad, _BAD)]
        else:
            steps = [(None, _BAD), (self.bad, _WARN), (self.warn, _GOOD)]
        if self.warn == self.bad:
            del steps[1]
        return (
            dashboards.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(value, color) for value, color in steps])
        )


def graph(
    title: str,
    text: Text,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    stacked: bool = False,
    log_scale: bool = False,
    width: int = 12,
) -> timeseries.Panel:
    """Return a panel with lines over time. Limits are drawn as dashed lines."""
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    legend = (
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    panel = timeseries.Panel().targets(_targets(queries)).tooltip(tooltip).legend(legend)
    panel.fill_opacity(30 if stacked else 8).show_points(common.VisibilityMode.NEVER)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if log_scale:
        scale = common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    else:
        panel.min(0)
    if limits is not None:
        dashed = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(limits.builder()).thresholds_style(dashed)
    return _finish(panel, title, text, unit, width, 8)


def number(
    title: str, text: Text, unit: str, query: Query, *, limits: Limits | None = None, decimals: int | None = None
) -> stat.Panel:
    """Return a panel with the latest value, coloured by the limits."""
    panel = stat.Panel().targets(_targets([query]))
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(common.BigValueColorMode.VALUE)
    if decimals is not None:
        panel.decimals(decimals)
    if limits is not None:
        panel.thresholds(limits.builder())
    return _finish(panel, title, text, unit, 4, 4)


def states(title: str, text: Text, unit: str, *queries: Query, limits: Limits, width: int = 12) -> statetimeline.Panel:
    """Return a panel that shows a state over time as a coloured bar."""
    panel = statetimeline.Panel().targets(_targets(queries)).thresholds(limits.builder())
    panel.show_value(common.VisibilityMode.NEVER).merge_values(True)
    return _finish(panel, title, text, unit, width, 8)


def _targets(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(METRICS)
        .expr(query.expr)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        .range()
        for number, query in enumerate(queries)
    ]


def _finish(panel: P, title: str, text: Text, unit: str, width: int, height: int) -> P:
    """Add what every panel has."""
    panel.title(title).description(text.description).unit(unit).datasource(METRICS)
    return panel.span(width).height(height).links([runbook_link(name) for name in text.runbooks])


def runbook_link(name: str) -> Builder[DashboardLink]:
    """Return the link to a runbook, in the folder that the dashboard's constant names."""
    url = f"${{runbooks}}/{name}.md"
    return dashboards.DashboardLink(f"Runbook {name}").type(DashboardLinkType.LINK).url(url).target_blank(True)
