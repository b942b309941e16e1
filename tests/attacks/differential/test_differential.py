"""What the gateway's server reads is what a strict reference reads, or it is refused, however the bytes are split."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.platform_api.server.connections import Connections
from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.protocol import protocol_factory
from tests.attacks.differential.odd_requests import cut, stream
from tests.attacks.differential.reading import Reading
from tests.attacks.differential.recording import ProtocolFactory, read_by_server
from tests.attacks.differential.reference import read_strictly

pytestmark = pytest.mark.proof

STREAMS = 500


@pytest.fixture(scope="module")
def factory() -> ProtocolFactory:
    """The gateway's own protocol, as the worker makes it."""
    limits = ServerLimits()
    return protocol_factory(limits, Connections(limits))


def faults(expected: Reading, found: Reading) -> list[str]:
    """Compare a server's reading with the reference."""
    wrong = []
    if found.requests != expected.requests[: len(found.requests)]:
        wrong.append(f"read {found.requests}, not {expected.requests}")
    if len(found.requests) < len(expected.requests) and not found.refused:
        wrong.append(f"{len(found.requests)} of {len(expected.requests)} requests, and no refusal")
    if expected.refused and not found.refused:
        wrong.append(f"not refused, although: {expected.reason}; statuses {found.statuses}")
    if len(found.statuses) != len(found.requests) + found.refused:
        wrong.append(f"{len(found.requests)} requests, responses {found.statuses}")
    return wrong


async def test_odd_streams_are_read_as_by_reference_or_refused(
    factory: ProtocolFactory, show_figure: Callable[[str], None]
) -> None:
    """500 generated streams, each in one chunk and split at random bytes."""
    wrong, outcomes = [], Counter[str]()
    for seed in range(STREAMS):
        odd = stream(seed)
        expected = read_strictly(odd.data)
        whole = await read_by_server(factory, [odd.data])
        parts = await read_by_server(factory, cut(odd.data, seed))
        wrong += [f"seed {seed}: {fault}: {odd.data!r}" for each in (whole, parts) for fault in faults(expected, each)]
        outcomes["refused" if whole.refused else "read"] += 1

    show_figure(f"{dict(outcomes)} of {STREAMS} odd streams")
    assert not wrong, "\n".join(wrong[:10])
    assert min(outcomes["read"], outcomes["refused"]) > STREAMS // 10  # else the generator would prove nothing


async def test_good_streams_are_read_completely(factory: ProtocolFactory) -> None:
    """A server that refuses everything would pass the comparison; this one must read what is in good order."""
    good = [(seed, odd) for seed in range(STREAMS) if (odd := stream(seed)).good_requests is not None]
    for seed, odd in good:
        found = await read_by_server(factory, cut(odd.data, seed))
        assert (len(found.requests), found.refused) == (odd.good_requests, False), (seed, odd.data)

    assert len(good) > STREAMS // 10


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 100_000), places=st.lists(st.integers(0, 1_000), max_size=12))
async def test_split_body_gets_the_same_response(factory: ProtocolFactory, seed: int, places: list[int]) -> None:
    """The same bytes in other packets are the same requests, and a refusal or none. Its status may differ: what can no
    longer become a head is refused before the rest of it has arrived."""
    data = stream(seed).data
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    chunks = [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]

    parts, whole = await read_by_server(factory, chunks), await read_by_server(factory, [data])

    assert (parts.requests, parts.refused) == (whole.requests, whole.refused)
