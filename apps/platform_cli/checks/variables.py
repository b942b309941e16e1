"""Check environment variables: misspelt ones, those that Kubernetes sets for a Service, and OpenTelemetry's."""

from collections.abc import Iterator

from platform_app.config import (
    SERVICE_LINKS_ADVICE,
    environment,
    misspelt_telemetry_variables,
    service_links,
    telemetry_problems,
    unknown_variables,
)
from platform_app.readiness import Check


def variable_checks() -> Iterator[Check]:
    """Yield a failed check for each variable that cannot be used, and a warning for each that is ignored."""
    for name, similar in (unknown_variables() | misspelt_telemetry_variables(environment())).items():
        advice = f"did you mean {similar}?" if similar else "remove it, or correct its name (see .env.example)"
        yield Check(f"variable {name}", False, False, f"not known; {advice}")
    if links := service_links():
        yield Check("service links", False, False, f"{', '.join(links)}: {SERVICE_LINKS_ADVICE}")
    for problem in telemetry_problems(environment()):
        name, _, sentence = problem.partition(": ")
        yield Check(f"variable {name}", False, True, sentence)
