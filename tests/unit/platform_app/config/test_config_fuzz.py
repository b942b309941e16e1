"""Any scalar anywhere in the config file: it is accepted, or refused with a ConfigurationError, and nothing else."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from platform_app.config import PlatformConfig, load_config, load_settings
from platform_app.errors import ConfigurationError
from platform_app.llm.http.transport.target import target_of
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("bare_environment")
ROUNDS = 1_000
SCALARS = (
    "", "~", "null", "true", "0", "-1", "-0", "1e400", ".inf", "-.inf", ".nan", "0x", "0xFFFFFFFFFFFFFFFFFF", "0o7",
    f"0x{'f' * 5000}", f"0o{'7' * 5000}", "9" * 39, "9" * 5000, f"!!int 0x{'f' * 5000}", f"!!int {'9' * 5000}",
    f"!!float {'9' * 5000}", f"1{'0' * 400}.5", f"!!str {'9' * 5000}", "!!float 1", "!!int 1.5", "!!bool yes",
    "!!null x", "!!binary AAAA", "!!timestamp 2026-01-01", "2026-01-01", "1_000", "1:30", "'", '"', "[", "{", "[]",
    "{}", "&a [*a]", "*nothing", "<<", "%", "@", "`", "|\n  x", ">\n  x", "? x", "- x", "#", "x: y", "x:", "\t",
    '"\\UFFFFFFFF"', '"\\U00110000"', '"\\U0010FFFF"', '"\\ud800"', '"\\udfff\\ud800"', '"\\x00"', '"\\0"', '"\\e[2J"',
    '"\\u2028"', '"\\ufeff"', '"\\N"', '"\\q"', "é", "日本", "\ufeff", "\x85", "\u2028",
    "http://ä..example", "http://a..b", "http://[", "http://[::1", "http://[v1.x]", "http://h:99999", "http://h:x",
    "http://h:", "http://u\uff20v@h", "http://%00", "http://h/\u2603", "http://.", "http://..", "http://h%zz",
    f"http://{'a' * 70}.b", "http://xn--a", "http://xn--\u2603.x", "http://\u200d.x", "http://\u0130.x", "https://*",
    "/", "..", "~root/x", "~nobody_at_all/x", "/dev/null", "/proc/self/mem", "x" * 5000,
    "x/" * 3000, "*", "**", "a*b*c",
    "gpt-4o-mini", "openai", "1h", "10", "0.5", "1e-320", "-1e308",
)  # fmt: skip

FULL = """
log_level: debug
providers:
  openai: {base_url: "https://x.example/v1", api_key_secret: KEY, headers: {X-A: b}, api_version: "2024-10-21",
    client_cert_file: a.pem, client_key_file: b.pem, allow_fields: [data_sources], max_concurrent: 1, max_waiting: 1}
models:
  gpt-4o-mini:
    aliases: [mini, "gpt-*"]
    strategy: weighted
    affinity: none
    kind: chat
    context_tokens: 1000
    max_output_tokens: 100
    features: [tools]
    routes: [{provider: openai, model: m, weight: 1, timeout_seconds: 1, first_token_seconds: 1,
      price: {input_usd_per_million: 1, output_usd_per_million: 1},
      capabilities: {efforts: [low], thinking_budget: 1024, max_output_tokens: 1}}]
rate_limits:
  default_output_tokens: 100
  rules: [{name: r, scope: key, unit: requests, limit: 1, window_seconds: 60, window: day, time_zone: Europe/Berlin,
    routes: [chat], models: ["*"], mode: shadow, on_outage: allow, on_no_price: refuse}]
policies:
  retry: {max_attempts: 2, base_seconds: 0.1, max_seconds: 1, retry_after_cap_seconds: 1, retry_after_max_seconds: 1}
  breaker: {failure_ratio: 0.5, minimum_calls: 1, window_seconds: 1, open_seconds: 1, probes: 1}
  first_token_seconds: 1
  queue_seconds: 1
owners: {team: {models: ["*"]}}
"""
"""Every section and field, and never valid; so the checks that compare fields see each scalar too."""


def scalars_of(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each scalar of a text begins and ends, keys too."""
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.start_mark is not None and event.end_mark is not None:
            yield event.start_mark.index, event.end_mark.index


def use(config: PlatformConfig) -> None:
    """Do with the configuration what the start does next."""
    for provider in config.providers.values():
        target_of(provider.base_url)
    repr(config)


def test_any_scalar_of_the_config_file_is_accepted_or_refused(tmp_path: Path) -> None:
    texts = [(ROOT / "deploy/platform.example.yaml").read_text(), FULL]
    places = [(text, *place) for text in texts for place in scalars_of(text)]
    rng = random.Random(20261128)
    refused = 0
    settings = load_settings(
        database_url="postgresql://localhost/p", redis_url="redis://localhost", config_file=tmp_path / "platform.yaml"
    )
    for _ in range(ROUNDS):
        text, start, end = rng.choice(places)
        scalar = rng.choice(SCALARS)
        (tmp_path / "platform.yaml").write_text(text[:start] + scalar + text[end:], encoding="utf-8")
        try:
            use(load_config(settings))
        except ConfigurationError as error:
            refused += 1
            str(error).encode()
        except Exception as error:
            raise AssertionError(f"{scalar[:80]!r} in place of {text[start:end]!r}") from error
    assert refused > ROUNDS / 4
