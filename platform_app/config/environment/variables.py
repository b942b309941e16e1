"""Variables with the prefix `PLATFORM_`: former names, misspelt names, and those that Kubernetes sets for services."""

import os
import re
from collections.abc import Collection, Mapping

from platform_app.config.reading.values import did_you_mean

ENV_PREFIX = "PLATFORM_"
FORMER_NAMES = {"PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS": "provider_idle_timeout_seconds"}
"""Former names of settings, which are still read."""
# Names that `flowbiz-platform dev` writes for people and scripts, and those of options of the command line; the gateway
# itself does not read them.
_FOR_PEOPLE = frozenset(
    {"BASE_URL", "METRICS_URL", "PROMETHEUS_URL", "ADMIN_KEY", "CHAT_KEY", "API_KEY_PEPPER", "ACTOR"}
)
PORTS = ("port", "metrics_port")
"""Settings whose variable Kubernetes also sets, for a service called `platform` or `platform-metrics`."""
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME = re.compile(
    r"(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]{1,5}_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
SERVICE_LINKS_ADVICE = (
    "Kubernetes sets them for a Service of this name (service links); they are ignored. Set enableServiceLinks: false "
    "in the pod"
)


def environment() -> Mapping[str, str]:
    """Return the environment, for the `env` secret store."""
    return os.environ


def service_links() -> list[str]:
    """Return the variables that Kubernetes set for a Service whose name starts with `platform`."""
    return sorted(name for name, value in os.environ.items() if name.startswith(ENV_PREFIX) and _is_link(name, value))


def find_unknown(known: Collection[str]) -> dict[str, str | None]:
    """Return variables with the prefix that the gateway does not read: most likely misspelt. The value is the most
    similar name, or None. `known` are the fields of the settings."""
    names = {name.upper() for name in known} | FORMER_NAMES.keys()
    found = {}
    for name, value in sorted(os.environ.items()):
        own = name.removeprefix(ENV_PREFIX)
        if name.startswith(ENV_PREFIX) and own not in names | _FOR_PEOPLE and not _is_link(name, value):
            similar = did_you_mean(own, names)
            found[name] = ENV_PREFIX + similar if similar else None
    return found


def _is_link(name: str, value: str) -> bool:
    own = name.removeprefix(ENV_PREFIX)
    if own.endswith("PORT") and _LINK_VALUE.fullmatch(value):
        return True
    return _LINK_NAME.fullmatch(own) is not None


def read_former_names() -> tuple[dict[str, str], list[str]]:
    """Return the settings that the environment states by their former names, and a problem for each that it also states
    by its name."""
    found, problems = {}, []
    for former, name in FORMER_NAMES.items():
        old, new = ENV_PREFIX + former, ENV_PREFIX + name.upper()
        if value := os.environ.get(old):
            if os.environ.get(new):
                problems.append(f"{old}: is the former name of {new}, which is set too; unset it")
            found[name] = value
    return found, problems
