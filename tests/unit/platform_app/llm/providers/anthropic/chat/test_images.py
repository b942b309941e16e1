"""Data URLs: how they are read, and that no text makes reading one expensive."""

import time
import tracemalloc

import pytest

from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.providers.anthropic.chat.images import document, image_source

PIXEL = "iVBORw0KGgoAAAANSUhEUg=="


def seconds_to_refuse(url: str) -> float:
    began = time.thread_time()
    with pytest.raises(UnsupportedByProvider):
        image_source(url, "messages.0.content.0")
    return time.thread_time() - began


@pytest.mark.parametrize("repeated", [" ", "\t", ";", "; ", "a", " ;a"])
@pytest.mark.parametrize("end", ["x", ",", " ,", ""])
def test_refusal_takes_time_in_proportion_to_the_url(repeated: str, end: str) -> None:
    short, long = (seconds_to_refuse("data:" + repeated * length + end) for length in (300, 30_000))
    assert long <= 100 * short + 0.5


@pytest.mark.parametrize(
    "head",
    ["data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data: image/png ; charset=utf-8 ; base64 ,", "data:;base64,"],
)
def test_head_of_a_data_url(head: str) -> None:
    assert image_source(head + PIXEL, "here") == {"type": "base64", "media_type": "image/png", "data": PIXEL}


@pytest.mark.parametrize("data", ["iVBORw0KGgoA%2b/%3D%3d", "iVBOR w0KG%0D%0agoA+\n%2F=%20="])
def test_escapes_and_white_space_are_removed(data: str) -> None:
    assert image_source(f"data:image/png;base64,{data}", "here")["data"] == "iVBORw0KGgoA+/=="


def test_other_escapes_are_refused() -> None:
    with pytest.raises(UnsupportedByProvider):
        document("data:application/pdf;base64,%41", None, "here")


@pytest.mark.parametrize("data", ["%41" * 300_000, "%2B" * 300_000, "aa " * 300_000, "% " * 300_000])
def test_escapes_take_memory_in_proportion_to_the_url(data: str) -> None:
    tracemalloc.start()
    try:
        image_source(f"data:image/png;base64,{data}", "here")
    except UnsupportedByProvider:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 6 * len(data)
