"""Providers: what each of them returns, how fast, at which cost, and what the policies make of it."""

from dashboards.source.frame import Page, Row, chosen
from dashboards.source.lines import gauges, quantiles, rates
from dashboards.source.panels import Limits, Query, Text, graph, states
from dashboards.source.provider_connections import connections
from dashboards.source.queries import JOB, MODEL, PROVIDER, gauge, increase, mean, quantile, rate, share

_CALLS = "platform_provider_requests_total"
FAILED = (
    'outcome=~"provider_error|provider_bad_response|provider_auth_failed|provider_timeout|provider_unavailable'
    '|provider_rate_limited|provider_quota_exhausted"'
)
"""What the alerts count as a provider's failure."""
_CHOSEN = (PROVIDER, MODEL)
OPERATION = "gen_ai_client_operation_duration_seconds"
GEN_AI_MODEL = ("gen_ai_provider_name", "gen_ai_request_model")
GEN_AI_LEGEND = "{{gen_ai_provider_name}} {{gen_ai_request_model}}"


def page() -> Page:
    """Return the dashboard."""
    return Page(
        uid="flowbiz-providers",
        title="FlowBiz: Providers",
        description="Calls to providers: outcomes, latency, tokens, cost, and the policies. docs/observability.md",
        variables=[
            chosen("provider", "Provider", f"label_values({_CALLS}{{{JOB}}}, provider)"),
            chosen("model", "Model", f'label_values({_CALLS}{{{JOB}, provider=~"$provider"}}, model)'),
        ],
        rows=[_outcomes(), _latency(), _tokens(), _policies(), connections()],
    )


def _outcomes() -> Row:
    failed = share(
        rate(_CALLS, PROVIDER, MODEL, FAILED, by=("provider",)), rate(_CALLS, PROVIDER, MODEL, by=("provider",))
    )
    return Row(
        "Outcomes",
        [
            graph(
                "Calls by outcome",
                Text(
                    "Calls by provider and outcome: ok, client_closed, or the error code that the caller received.",
                    "almost all ok.",
                    ("ProviderFailing", "ProviderAuthFailed", "ProviderQuotaExhausted"),
                ),
                "reqps",
                rates(_CALLS, PROVIDER, MODEL, by=("provider", "outcome")),
                stacked=True,
                width=8,
            ),
            graph(
                "Failed calls",
                Text(
                    "The share of calls that a provider failed. Retries and fallbacks may still serve the client.",
                    "below 1 %.",
                    ("ProviderFailing", "ProviderErrorBudgetBurn"),
                ),
                "percentunit",
                Query(failed, "{{provider}}"),
                limits=Limits(0.01, 0.2),
                width=8,
            ),
            graph(
                "Failures that reached clients",
                Text(
                    "Requests that failed before their first byte although retries and fallbacks were used, by public "
                    "model and code.",
                    "0.",
                    ("ModelFailing", "ProviderFailing"),
                ),
                "reqps",
                rates("platform_model_call_failures_total", MODEL, by=("model", "code")),
                width=8,
            ),
            graph(
                "Calls by model",
                Text("Calls by provider and model.", "the traffic of this hour on other days."),
                "reqps",
                rates(_CALLS, PROVIDER, MODEL, by=("provider", "model")),
            ),
            graph(
                "Attempts by error type",
                Text(
                    "Attempts by OpenTelemetry's name of the error; without a name they succeeded.",
                    "few with a name.",
                    ("ProviderFailing",),
                ),
                "reqps",
                rates(f"{OPERATION}_count", by=("gen_ai_provider_name", "error_type")),
            ),
        ],
    )


def _latency() -> Row:
    return Row(
        "Latency",
        [
            graph(
                "Duration of calls",
                Text(
                    "From sending a call to its last byte; streams count as a whole.",
                    "as the provider states it; it grows with the length of the responses.",
                    ("GatewayLatencyHigh",),
                ),
                "s",
                *quantiles(
                    "platform_provider_request_duration_seconds", PROVIDER, MODEL, by=("provider",), exemplars=True
                ),
                log_scale=True,
                width=8,
            ),
            graph(
                "First chunk of streams",
                Text(
                    "From sending a streamed call to its first chunk.",
                    "below 2 s for most models; reasoning models take longer.",
                    ("GatewayLatencyHigh",),
                ),
                "s",
                *quantiles("platform_provider_first_chunk_seconds", *_CHOSEN, by=("provider",), exemplars=True),
                log_scale=True,
                width=8,
            ),
            graph(
                "Streams with an early head",
                Text(
                    "Streams whose head was sent before their first event, because that took long. A later failure of "
                    "such a stream is an event and not a status.",
                    "few.",
                    ("GatewayLatencyHigh",),
                ),
                "reqps",
                rates("platform_stream_early_heads_total", by=("instance",)),
                width=8,
            ),
            graph(
                "Duration by upstream model, p99",
                Text(
                    "Attempts by the model's name at the provider.", "stable for each model.", ("GatewayLatencyHigh",)
                ),
                "s",
                Query(quantile(0.99, OPERATION, by=GEN_AI_MODEL), GEN_AI_LEGEND, exemplars=True),
                log_scale=True,
                width=8,
            ),
            graph(
                "First chunk by upstream model, p99",
                Text("Streams by the model's name at the provider.", "stable for each model.", ("GatewayLatencyHigh",)),
                "s",
                Query(
                    quantile(0.99, "gen_ai_client_operation_time_to_first_chunk_seconds", by=GEN_AI_MODEL),
                    GEN_AI_LEGEND,
                    exemplars=True,
                ),
                log_scale=True,
                width=8,
            ),
            graph(
                "Time per output chunk, p50",
                Text(
                    "The mean pause between two chunks of a stream, by the model's name at the provider: the median.",
                    "below 0.1 s.",
                    ("GatewayLatencyHigh",),
                ),
                "s",
                Query(
                    quantile(0.5, "gen_ai_client_operation_time_per_output_chunk_seconds", by=GEN_AI_MODEL),
                    GEN_AI_LEGEND,
                ),
                log_scale=True,
                width=8,
            ),
        ],
    )


def _tokens() -> Row:
    tokens, cost = "platform_provider_tokens_total", "platform_usage_cost_usd_total"
    by_model = ("provider", "model")
    cached = rate("platform_cached_input_tokens_total", PROVIDER, MODEL, by=by_model)
    received = rate(tokens, PROVIDER, MODEL, 'direction="input"', by=by_model)
    sessions = rate("platform_session_routes_total", MODEL, by=("model", "outcome"))
    return Row(
        "Tokens and cost",
        [
            graph(
                "Tokens a second",
                Text(
                    "Tokens as the providers count them; estimated where one does not.",
                    "the traffic of this hour on other days.",
                ),
                "cps",
                rates(tokens, PROVIDER, MODEL, by=("provider", "direction")),
                width=8,
            ),
            graph(
                "Tokens a second by model",
                Text("Tokens by provider and model.", "the traffic of this hour on other days."),
                "cps",
                Query(rate(tokens, PROVIDER, MODEL, by=by_model), "{{provider}} {{model}}"),
                width=8,
            ),
            graph(
                "Tokens of a call",
                Text(
                    "The mean number of tokens of one attempt, by type.",
                    "stable; a jump is a client that sends longer prompts.",
                ),
                "short",
                Query(mean("gen_ai_client_token_usage", by=("gen_ai_token_type",)), "{{gen_ai_token_type}}"),
                width=8,
            ),
            graph(
                "Cost of an hour",
                Text(
                    "What calls cost at this rate, in US dollars, by the configured prices. Calls without a known "
                    "price add nothing.",
                    "within the budgets of the keys.",
                    ("BudgetUnpriced",),
                ),
                "currencyUSD",
                Query(f"{rate(cost, PROVIDER, MODEL, by=by_model)} * 3600", "{{provider}} {{model}}"),
                stacked=True,
                width=8,
            ),
            graph(
                "Cost of 24 hours",
                Text("What calls cost in the 24 hours before, by model.", "the cost of other days."),
                "currencyUSD",
                Query(increase(cost, PROVIDER, MODEL, by=by_model, window="24h"), "{{provider}} {{model}}"),
                width=8,
            ),
            graph(
                "Cached share of input tokens",
                Text(
                    "Input tokens that a provider read from its prompt cache, by provider and model; they cost less.",
                    "stable; a fall after a deployment of a client means that its prompts begin differently.",
                ),
                "percentunit",
                Query(share(cached, received), "{{provider}} {{model}}"),
                width=8,
            ),
            graph(
                "Routes of sessions",
                Text(
                    "Calls of sessions to models with several weighted routes, by the route that responded. A call "
                    "that left its first choice pays for input that the first choice has in its cache.",
                    "first_choice and pinned only.",
                    ("ProviderBreakerOpen", "ProviderFallbacks"),
                ),
                "reqps",
                Query(sessions, "{{model}} {{outcome}}"),
                stacked=True,
                width=8,
            ),
            graph(
                "Calls with implausible token counts",
                Text(
                    "Calls whose token counts from the provider were not used; they are charged with estimates.",
                    "0.",
                    ("ProviderUsageRefused",),
                ),
                "reqps",
                Query(
                    rate("platform_provider_usage_refused_total", PROVIDER, MODEL, by=by_model),
                    "{{provider}} {{model}}",
                ),
                width=16,
            ),
        ],
    )


def _policies() -> Row:
    breaker = ("provider", "model")
    slots = "platform_provider_slots"
    return Row(
        "Policies",
        [
            states(
                "Breakers",
                Text(
                    "0 closed, 1 half-open, 2 open: the worst process. `model` is its name at the provider. Without "
                    "traffic an open breaker stays open.",
                    "0.",
                    ("ProviderBreakerOpen", "ModelFailing"),
                ),
                "none",
                Query(gauge("max", "platform_provider_breaker_state", PROVIDER, by=breaker), "{{provider}} {{model}}"),
                limits=Limits(1, 2),
                width=8,
            ),
            graph(
                "Changes of breakers",
                Text(
                    "Changes of a breaker, by the state that it entered.",
                    "none. A breaker that opens and closes in turn has a threshold close to the provider's error rate.",
                    ("ProviderBreakerOpen",),
                ),
                "short",
                Query(
                    increase("platform_provider_breaker_transitions_total", PROVIDER, by=(*breaker, "to")),
                    "{{provider}} {{model}} to {{to}}",
                ),
                width=8,
            ),
            graph(
                "Calls not sent",
                Text(
                    "Calls that were refused here: breaker_open, queue_full, queue_timeout.",
                    "0.",
                    ("ProviderBreakerOpen", "ProviderConcurrencySaturated"),
                ),
                "reqps",
                rates("platform_provider_refused_total", PROVIDER, by=("provider", "reason")),
                width=8,
            ),
            graph(
                "Retries",
                Text(
                    "Retries of a route, by the error before them.",
                    "below 1 % of the calls.",
                    ("ProviderFailing",),
                ),
                "reqps",
                rates("platform_provider_retries_total", PROVIDER, by=("provider", "reason")),
                width=8,
            ),
            graph(
                "Fallbacks",
                Text(
                    "Calls that continued at the model's next route, by the provider that failed and its error.",
                    "0. A fallback may cost more than the first route.",
                    ("ProviderFallbacks",),
                ),
                "reqps",
                rates("platform_provider_fallbacks_total", PROVIDER, by=("provider", "reason")),
                width=8,
            ),
            graph(
                "Concurrent calls",
                Text(
                    "Calls in progress and waiting at providers with max_concurrent, and what is allowed.",
                    "none waiting.",
                    ("ProviderConcurrencySaturated",),
                ),
                "short",
                gauges("sum", slots, PROVIDER, by=("provider",), prefix="allowed"),
                gauges("sum", f"{slots}_in_use", PROVIDER, by=("provider",), prefix="in use"),
                gauges("sum", f"{slots}_waiting", PROVIDER, by=("provider",), prefix="waiting"),
                width=8,
            ),
        ],
    )
