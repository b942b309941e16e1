"""The tests that go through the wire formats know all of them: a format that a list leaves out would not be tested."""

from tests.support.gateway.in_process import gateway
from tests.support.observability import planted_bug
from tests.support.providers import client_models
from tests.support.providers.wires import WIRES


def test_formats_of_the_compatibility_table_are_complete() -> None:
    assert sorted(gateway.WIRES) == sorted(WIRES)


def test_lists_with_names_of_their_own_are_complete() -> None:
    """They name the provider, not the format: `simulator`, `responses`."""
    assert len(planted_bug.WIRES) == len(WIRES)
    assert len(client_models.WIRES) == len(WIRES)
