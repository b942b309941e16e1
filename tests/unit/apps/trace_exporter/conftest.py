"""Spans of kept requests, without a collector."""

import pytest
from opentelemetry.sdk.resources import Resource

from apps.trace_exporter.conventions import GEN_AI, OPEN_INFERENCE
from apps.trace_exporter.spans import SpanBuilder


@pytest.fixture
def builder() -> SpanBuilder:
    return SpanBuilder(Resource({"service.name": "flowbiz-platform"}), GEN_AI, "1.0")


@pytest.fixture
def open_inference_builder() -> SpanBuilder:
    return SpanBuilder(Resource({"service.name": "flowbiz-platform"}), OPEN_INFERENCE, "1.0")
