"""A checkout without history, such as a shallow clone, has no previous release: its test is not collected there."""

from tests.support.deploy.previous_release import previous_release

HISTORY = previous_release() is not None
collect_ignore = [] if HISTORY else ["test_two_versions.py"]


def pytest_report_header() -> list[str]:
    """Say so."""
    return (
        []
        if HISTORY
        else ["no previous release in git's history: tests/deploy/upgrades/test_two_versions.py is left out"]
    )
