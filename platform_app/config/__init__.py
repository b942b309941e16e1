"""Configuration: the only package that reads the environment and the config file.

Environment variables become one `Settings`; the YAML file becomes one `PlatformConfig`. Both are validated at start,
and every problem is reported at once: the name, what is wrong, what was expected, what to do::

    settings.py       Settings: one field for each PLATFORM_ variable
    environment/      other variables: former, misspelt, of Kubernetes, of OpenTelemetry
    secrets/          settings of secret stores, and secrets from files
    file.py           PlatformConfig: reads and validates the YAML file
    catalog.py        providers, models and their routes
    model_names.py    which model of the catalog a requested name stands for
    policies.py       retry, breaker, deadlines
    limits/           limit rules, and rules that contradict each other
    fields.py         types of single values
    origins.py        CORS origins
    reading/          the YAML file's text, its data, and the sentences of its problems
    connections/      URLs, TLS files and proxies of PostgreSQL, Redis and providers
"""

from platform_app.config.catalog import (
    CapabilitiesConfig,
    ModelConfig,
    PriceConfig,
    ProviderConfig,
    RouteConfig,
    WireFormat,
)
from platform_app.config.connections.database_tls import DatabaseTls, make_ssl_context
from platform_app.config.connections.database_url import DatabaseTarget, parse_database_url
from platform_app.config.connections.egress import Egress, EgressProxy, parse_proxy, read_egress
from platform_app.config.connections.tcp_options import TcpOptions
from platform_app.config.environment.standard import (
    PROTOCOLS,
    exports_traces,
    misspelt_telemetry_variables,
    telemetry_problems,
)
from platform_app.config.environment.variables import (
    ENV_PREFIX,
    FORMER_NAMES,
    SERVICE_LINKS_ADVICE,
    environment,
    service_links,
)
from platform_app.config.fields import (
    SECRET_NAME,
    HttpUrl,
    ModelName,
    Network,
    RuleName,
    parse_networks,
)
from platform_app.config.file import (
    PlatformConfig,
    load_config,
    load_config_file,
    load_settings_beside_file,
    parse_config_file,
)
from platform_app.config.limits.rules import DEFAULT_RULES, LimitRule, RateLimitsConfig
from platform_app.config.origins import parse_origins
from platform_app.config.policies import BreakerConfig, PoliciesConfig, RetryConfig
from platform_app.config.reading.checks import ConfigModel
from platform_app.config.reading.values import did_you_mean
from platform_app.config.settings import Settings, load_settings, unknown_variables

__all__ = [
    "DEFAULT_RULES",
    "ENV_PREFIX",
    "FORMER_NAMES",
    "PROTOCOLS",
    "SECRET_NAME",
    "SERVICE_LINKS_ADVICE",
    "BreakerConfig",
    "CapabilitiesConfig",
    "ConfigModel",
    "DatabaseTarget",
    "DatabaseTls",
    "Egress",
    "EgressProxy",
    "HttpUrl",
    "LimitRule",
    "ModelConfig",
    "ModelName",
    "Network",
    "PlatformConfig",
    "PoliciesConfig",
    "PriceConfig",
    "ProviderConfig",
    "RateLimitsConfig",
    "RetryConfig",
    "RouteConfig",
    "RuleName",
    "Settings",
    "TcpOptions",
    "WireFormat",
    "did_you_mean",
    "environment",
    "exports_traces",
    "load_config",
    "load_config_file",
    "load_settings",
    "load_settings_beside_file",
    "make_ssl_context",
    "misspelt_telemetry_variables",
    "parse_config_file",
    "parse_database_url",
    "parse_networks",
    "parse_origins",
    "parse_proxy",
    "read_egress",
    "service_links",
    "telemetry_problems",
    "unknown_variables",
]
