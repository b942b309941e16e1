"""Logging is set up once per process; these tests do it many times, and undo it."""

import gc
import logging
from collections.abc import Iterator

import pytest
import structlog

from platform_app.observability.context import _current, set_current_request
from platform_app.observability.logging import configure_logging
from tests.support.fakes.core import context
from tests.support.fakes.log_lines import Lines


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (list(root.handlers), root.level, uvicorn.level)
    root.handlers.clear()  # or `force` would close those of pytest
    yield
    root.handlers[:], root.level, uvicorn.level = before[0], before[1], before[2]
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]  # levels are cached
    structlog.reset_defaults()


@pytest.fixture(scope="module", autouse=True)
def no_garbage() -> None:
    """Collect what other tests left: a task among it would be reported in the lines of a test."""
    gc.collect()


@pytest.fixture
def lines() -> Lines:
    sink = Lines()
    configure_logging("debug", "json", sink, repeats_per_second=0)
    return sink


@pytest.fixture
def request_id() -> Iterator[str]:
    token = _current.set(None)
    set_current_request(context())
    yield context().request_id
    _current.reset(token)
