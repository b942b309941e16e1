"""W3C trace context: who called us."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.observability.tracing.trace_context import continue_trace, sole_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),  # the standard's own examples
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # unknown flags beside the known one
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01", True),  # a later version
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{SPAN}-01-", True),
    ],
)
def test_valid_traceparent_is_continued_with_a_new_span(traceparent: str, sampled: bool) -> None:
    trace = continue_trace(traceparent)
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (TRACE, SPAN, sampled)
    assert trace.span_id != SPAN
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01 ",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00.{TRACE}.{SPAN}.01",
        f"cc-{TRACE}-{SPAN}-01.extra",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 300}",
        "\u0661" * 55,
    ],
)
def test_malformed_traceparent_starts_a_new_trace(traceparent: str | None) -> None:
    trace = continue_trace(traceparent)
    assert trace.trace_id != TRACE
    assert trace.parent_id is None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace.traceparent)


@given(st.text(max_size=300))
def test_traceparent_sent_is_valid_for_any_header(traceparent: str) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", continue_trace(traceparent).traceparent)


def test_trace_and_span_ids_are_unique() -> None:
    assert len({continue_trace(None).trace_id for _ in range(100)}) == 100
    assert len({continue_trace(f"00-{TRACE}-{SPAN}-01").span_id for _ in range(100)}) == 100


def test_repeated_traceparent_starts_a_new_trace() -> None:
    """The caller did not say which of its spans is the parent."""
    header = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    assert sole_traceparent([(b"host", b"x"), header]) == f"00-{TRACE}-{SPAN}-01"
    assert sole_traceparent([header, (b"host", b"x"), header]) is None
    assert sole_traceparent([(b"host", b"x")]) is None
