"""A changed configuration takes effect as a whole or not at all."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from platform_app.config import PlatformConfig, Settings
from platform_app.resources.live_config import LiveConfig


class Part:
    """Something that a changed configuration replaces."""

    def __init__(self) -> None:
        self.replaced = 0

    def replace(self, *_: object) -> None:
        self.replaced += 1


class Builder:
    def __init__(self, *, fails: bool) -> None:
        self._fails = fails

    def build(self, _: object) -> object:
        if self._fails:
            raise OSError("a client certificate was removed")
        return {}


def changed() -> PlatformConfig:
    limits = SimpleNamespace(rules=(), default_output_tokens=100)
    config = SimpleNamespace(rate_limits=limits, models={}, model_names={}, log_level=None, owners=None)
    return cast(PlatformConfig, config)


@pytest.mark.parametrize("fails", [False, True])
def test_models_that_cannot_be_built_change_nothing(fails: bool) -> None:
    parts: list[Any] = [Part(), Part(), Part()]
    settings = cast(Settings, SimpleNamespace(default_model="small", log_level="info"))
    live = LiveConfig(settings, cast(Any, Builder(fails=fails)), *parts)
    if fails:
        with pytest.raises(OSError, match="certificate"):
            live.apply(changed())
    else:
        live.apply(changed())
    assert [part.replaced for part in parts] == [0 if fails else 1] * 3
