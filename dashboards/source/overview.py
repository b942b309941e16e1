"""Overview: do clients get their responses, and is the gateway or a provider the cause if they do not."""

from dashboards.source.frame import Page, Row, chosen
from dashboards.source.lines import quantiles, rates
from dashboards.source.panels import Limits, Query, Text, graph, number, states
from dashboards.source.queries import JOB, MODEL, TRAFFIC, gauge, quantile, rate, series, share

FAILED = 'outcome=~"provider_error|gateway_error"'
COUNTED = 'outcome=~"ok|provider_error|gateway_error"'
OVERHEAD_OBJECTIVE_SECONDS = 0.025


def page() -> Page:
    """Return the dashboard."""
    return Page(
        uid="flowbiz-overview",
        title="FlowBiz: Overview",
        description="Objectives, traffic, errors by cause, and where the time of requests goes. docs/observability.md",
        variables=[chosen("model", "Model", f"label_values(platform_model_requests_total{{{JOB}}}, model)")],
        rows=[_objectives(), _burn(), _traffic(), _time(), _edge()],
    )


def _budget_left(slo: str) -> Query:
    return Query(f'job_slo:error_budget_left:ratio30d{{{JOB}, slo="{slo}"}}', slo)


def _objectives() -> Row:
    requests = rate("platform_requests_total", TRAFFIC)
    failed = share(rate("platform_requests_total", TRAFFIC, FAILED), rate("platform_requests_total", TRAFFIC, COUNTED))
    return Row(
        "Objectives",
        [
            number(
                "Availability: budget left",
                Text(
                    "What is left of the 30-day budget of errors that the gateway caused (99.9 %).",
                    "above 50 %.",
                    ("GatewayErrorBudgetBurn",),
                ),
                "percentunit",
                _budget_left("availability"),
                limits=Limits(0.5, 0.1),
                decimals=1,
            ),
            number(
                "Overhead: budget left",
                Text(
                    "What is left of the 30-day budget of requests to which the gateway added more than 25 ms (99 %).",
                    "above 50 %.",
                    ("GatewayOverheadBudgetBurn",),
                ),
                "percentunit",
                _budget_left("overhead"),
                limits=Limits(0.5, 0.1),
                decimals=1,
            ),
            number(
                "Requests",
                Text("Requests without probes.", "the traffic of this hour on other days.", ("GatewayDown",)),
                "reqps",
                Query(requests, "requests"),
            ),
            number(
                "Failed",
                Text(
                    "The share of requests that a provider or the gateway failed, without what callers caused.",
                    "below 0.1 %.",
                    ("ModelFailing", "GatewayErrorBudgetBurn"),
                ),
                "percentunit",
                Query(failed, "failed"),
                limits=Limits(0.001, 0.01),
                decimals=2,
            ),
            number(
                "Overhead, p99",
                Text(
                    "What the gateway adds to a request until its first byte.", "below 25 ms.", ("GatewayOverheadHigh",)
                ),
                "s",
                Query(quantile(0.99, "platform_overhead_seconds", TRAFFIC), "p99"),
                limits=Limits(OVERHEAD_OBJECTIVE_SECONDS, 1),
            ),
            number(
                "Instances up",
                Text("Instances that Prometheus scrapes.", "all of them.", ("GatewayDown", "GatewayInstanceDown")),
                "none",
                Query(f"sum({series('up')})", "up"),
                limits=Limits(1, 1),
            ),
        ],
    )


def _burn_query(slo: str, window: str, legend: str) -> Query:
    chosen_slo = f'{{{JOB}, slo="{slo}"}}'
    errors, events = (f"job_slo:{what}:rate{window}{chosen_slo}" for what in ("errors", "events"))
    return Query(f"{errors} / {events} / job_slo:error_budget:ratio{chosen_slo}", legend)


def _burn() -> Row:
    windows = ("5m", "1h", "6h", "3d")
    alerts = "ALERTS{" + JOB + ', alertstate="firing"}'
    return Row(
        "Error budgets",
        [
            graph(
                "Availability: burn rate",
                Text(
                    "How fast the error budget is used up: at 1 it lasts exactly 30 days. One line for each window.",
                    "below 1. Pages begin at 14.4 over 1 h and 6 over 6 h.",
                    ("GatewayErrorBudgetBurn",),
                ),
                "none",
                *(_burn_query("availability", window, window) for window in windows),
                limits=Limits(1, 14.4),
                width=8,
            ),
            graph(
                "Overhead and providers: burn rate",
                Text(
                    "The budgets of the gateway's overhead (99 % under 25 ms) and of provider calls (99.9 %).",
                    "below 1.",
                    ("GatewayOverheadBudgetBurn", "ProviderErrorBudgetBurn"),
                ),
                "none",
                *(
                    _burn_query(slo, window, f"{slo} {window}")
                    for slo in ("overhead", "providers")
                    for window in ("1h", "6h")
                ),
                limits=Limits(1, 6),
                width=8,
            ),
            states(
                "Alerts firing",
                Text("The alerts of these rules that fire.", "Watchdog alone, which always fires."),
                "none",
                Query(f"max by (alertname, severity) ({alerts})", "{{alertname}} ({{severity}})"),
                limits=Limits(1, 1),
                width=8,
            ),
        ],
    )


def _traffic() -> Row:
    by_model = rate("platform_model_requests_total", MODEL, COUNTED, by=("model",))
    failed_by_model = rate("platform_model_requests_total", MODEL, FAILED, by=("model",))
    return Row(
        "Traffic and errors",
        [
            graph(
                "Requests by outcome",
                Text(
                    "Requests that ended, by who caused it. denied and caller_error are not the gateway's faults.",
                    "almost all ok.",
                    ("GatewayErrorBudgetBurn", "ModelFailing"),
                ),
                "reqps",
                rates("platform_requests_total", TRAFFIC, by=("outcome",)),
                stacked=True,
            ),
            graph(
                "Failed requests by model",
                Text(
                    "The share of a public model's requests that failed, whatever the cause, an open breaker included: "
                    "what clients feel.",
                    "0.",
                    ("ModelFailing",),
                ),
                "percentunit",
                Query(share(failed_by_model, by_model), "{{model}}"),
                limits=Limits(0.01, 0.1),
            ),
            graph(
                "Requests by route",
                Text("Requests with a response, by route template.", "the traffic of this hour on other days."),
                "reqps",
                rates("platform_http_requests_total", TRAFFIC, by=("route",)),
                width=8,
            ),
            graph(
                "Requests by model",
                Text("Requests by public model and outcome.", "the traffic of this hour on other days."),
                "reqps",
                rates("platform_model_requests_total", MODEL, by=("model", "outcome")),
                width=8,
            ),
            graph(
                "Error responses by status",
                Text(
                    "Responses with status 4xx and 5xx. 401, 403 and 429 are denials, other 4xx the caller's faults.",
                    "few; a jump of one status after a deployment of a client or of the gateway is a fault.",
                    ("RefusalsFlood", "GatewayErrorBudgetBurn"),
                ),
                "reqps",
                rates("platform_http_requests_total", TRAFFIC, 'status=~"4..|5.."', by=("status",)),
                width=8,
            ),
        ],
    )


def _time() -> Row:
    hops = rate("platform_hop_duration_seconds_sum", by=("hop",))
    return Row(
        "Where the time goes",
        [
            graph(
                "Overhead",
                Text(
                    "What the gateway itself adds until the first byte, without waits for client and provider. A point "
                    "is a request whose trace is kept.",
                    "p99 below 25 ms, p50 about 1 ms.",
                    ("GatewayOverheadHigh", "GatewayOverheadBudgetBurn"),
                ),
                "s",
                *quantiles("platform_overhead_seconds", TRAFFIC, of=(0.5, 0.9, 0.99), exemplars=True),
                limits=Limits(OVERHEAD_OBJECTIVE_SECONDS, 1),
                log_scale=True,
                width=8,
            ),
            graph(
                "Time of a request by hop",
                Text(
                    "The mean time of a request, divided into its steps. provider is the wait for the provider.",
                    "provider is nearly all of it; any other step that grows is the gateway's or a store's delay.",
                    ("GatewayOverheadHigh", "GatewayLatencyHigh"),
                ),
                "s",
                Query(f"{hops} / scalar({rate('platform_requests_total', TRAFFIC)})", "{{hop}}"),
                stacked=True,
                width=8,
            ),
            graph(
                "Slowest hops, p99",
                Text(
                    "The step of which one request in a hundred takes longer. limits waits for Redis, auth for "
                    "PostgreSQL, queue for max_concurrent of a provider.",
                    "every step but provider, queue and retry_wait below 25 ms.",
                    ("LimiterDegraded", "ProviderConcurrencySaturated", "EventLoopLagHigh"),
                ),
                "s",
                Query(quantile(0.99, "platform_hop_duration_seconds", by=("hop",)), "{{hop}}", exemplars=True),
                log_scale=True,
                width=8,
            ),
            graph(
                "Overhead by route, p99",
                Text("What the gateway adds, by route.", "below 25 ms.", ("GatewayOverheadHigh",)),
                "s",
                Query(quantile(0.99, "platform_overhead_seconds", TRAFFIC, by=("route",)), "{{route}}"),
                limits=Limits(OVERHEAD_OBJECTIVE_SECONDS, 1),
                log_scale=True,
                width=8,
            ),
            graph(
                "Duration of requests",
                Text(
                    "From the first byte of the request to the last byte of the response, streams included.",
                    "as fast as the providers; it depends on the length of the responses.",
                    ("GatewayLatencyHigh",),
                ),
                "s",
                *quantiles("platform_http_request_duration_seconds", TRAFFIC, of=(0.5, 0.9, 0.99), exemplars=True),
                log_scale=True,
                width=8,
            ),
            graph(
                "Duration by route, p99",
                Text("From the first to the last byte, by route.", "below 30 s for chat.", ("GatewayLatencyHigh",)),
                "s",
                Query(quantile(0.99, "platform_http_request_duration_seconds", TRAFFIC, by=("route",)), "{{route}}"),
                limits=Limits(30, 60),
                log_scale=True,
                width=8,
            ),
        ],
    )


def _edge() -> Row:
    instance = ("instance",)
    return Row(
        "Load",
        [
            graph(
                "In progress",
                Text(
                    "Requests and streamed responses in progress.",
                    "below PLATFORM_MAX_CONCURRENT_REQUESTS of each worker.",
                    ("GatewayLatencyHigh",),
                ),
                "short",
                Query(gauge("sum", "platform_http_requests_in_flight", by=instance), "requests {{instance}}"),
                Query(gauge("sum", "platform_streams_open", by=instance), "streams {{instance}}"),
                width=8,
            ),
            graph(
                "Client connections",
                Text("Open connections of clients.", "below the bound of connections.", ("EdgeConnectionsExhausted",)),
                "short",
                Query(gauge("sum", "platform_http_connections", by=instance), "{{instance}}"),
                width=8,
            ),
            graph(
                "Refused at the edge",
                Text(
                    "Requests and connections that the server refused before a route, by reason (docs/http).",
                    "0, apart from scanners.",
                    ("EdgeConnectionsExhausted",),
                ),
                "reqps",
                rates("platform_http_refused_total", by=("reason",)),
                width=8,
            ),
        ],
    )
