"""The file of exemplars, from the exporter's process to the parent."""

from pathlib import Path

import pytest

from apps.trace_exporter.exemplars import observations
from platform_app.observability import metrics
from platform_app.observability.exemplars import FILE_NAME, Exemplar, read_exemplars, write_exemplars
from tests.support.observability.tracing.kept import kept_attempt, kept_request

ONE = Exemplar(
    metric="platform_overhead_seconds",
    labels={"route": "/v1/chat/completions"},
    le="0.0025",
    value=0.0021,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    timestamp=1_795_000_000.25,
)


def test_exemplars_written_are_read_back(tmp_path: Path) -> None:
    write_exemplars(tmp_path, [ONE])
    assert read_exemplars(tmp_path) == [ONE]


def test_exemplars_of_next_write_replace_the_file(tmp_path: Path) -> None:
    write_exemplars(tmp_path, [ONE])
    write_exemplars(tmp_path, [])
    assert read_exemplars(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("content", [None, b"", b"[", b"{}", b"[1]", b'[{"metric": "m"}]', b"null"])
def test_exemplars_of_damaged_file_are_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    assert read_exemplars(tmp_path) == []


def test_exemplar_of_a_wildcards_route_has_the_series_label() -> None:
    """The name that a client chose is no label of the metrics."""
    request = kept_request(attempts=[kept_attempt(upstream_model="gpt-chosen-by-a-client", label="gpt-*")])
    labels = [values for metric, values, _ in observations(request) if metric is metrics.GEN_AI_DURATION]
    assert [each[2] for each in labels] == ["gpt-*"]
