"""Settings from the environment and the config file's models: the only reader of the environment.

Every problem is reported at once, by the name that its owner typed, with what to do about it.
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
from platform_app.config.fields import (
    SECRET_NAME,
    ConfigModel,
    HttpUrl,
    ModelName,
    Network,
    RuleName,
    parse_networks,
)
from platform_app.config.file import PlatformConfig, load_config
from platform_app.config.limits import DEFAULT_RULES, LimitRule, RateLimitsConfig
from platform_app.config.origins import parse_origins
from platform_app.config.policies import BreakerConfig, PoliciesConfig, RetryConfig
from platform_app.config.settings import (
    ENV_PREFIX,
    FORMER_NAMES,
    START_TIMEOUT_SECONDS,
    Settings,
    environment,
    load_settings,
    unknown_variables,
)

__all__ = [
    "DEFAULT_RULES",
    "ENV_PREFIX",
    "FORMER_NAMES",
    "SECRET_NAME",
    "START_TIMEOUT_SECONDS",
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
    "WireFormat",
    "environment",
    "load_config",
    "load_settings",
    "make_ssl_context",
    "parse_database_url",
    "parse_networks",
    "parse_origins",
    "parse_proxy",
    "read_egress",
    "unknown_variables",
]
