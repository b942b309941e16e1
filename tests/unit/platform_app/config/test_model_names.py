import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.config.model_names import ModelNames, matched_part

NAMES = ModelNames(
    {
        "gpt-4o": ["fast", "gpt-small"],
        "gpt-*": [],
        "gpt-4*": [],
        "*-mini": [],
        "anthropic/*": [],
        "ft:*:acme": [],
    }
)


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        ("gpt-4o", "gpt-4o"),
        ("fast", "gpt-4o"),
        ("gpt-small", "gpt-4o"),
        ("gpt-4.1", "gpt-4*"),
        ("gpt-5", "gpt-*"),
        ("gpt-4o-mini", "gpt-4*"),
        ("o4-mini", "*-mini"),
        ("anthropic/claude-sonnet-5", "anthropic/*"),
        ("ft:gpt-4o:acme", "ft:*:acme"),
        ("gpt-*", "gpt-*"),
        ("gpt-", None),
        ("anthropic/", None),
        ("-mini", None),
        ("gpt-5 x", None),
        ("gpt-5\n", None),
        ("gpt-" + "5" * 200, None),
        ("gpt-ä", None),
        ("", None),
    ],
)
def test_name_is_exact_then_alias_then_longest_wildcard(requested: str, model: str | None) -> None:
    assert NAMES.model_of(requested) == model
    assert (requested in NAMES) == (model is not None)


def test_bare_star_matches_last() -> None:
    names = ModelNames({"*": [], "a*": []})
    assert (names.model_of("abc"), names.model_of("b")) == ("a*", "*")


plain = st.text("abc-/.:", min_size=0, max_size=6)


@given(plain, plain, st.text("abc-/.:", min_size=1, max_size=6))
def test_matched_part_rebuilds_the_name(prefix: str, suffix: str, part: str) -> None:
    name = f"{prefix}{part}{suffix}"
    found = matched_part(f"{prefix}*{suffix}", name)
    assert found == (part if name[0] in "abc" else None)
