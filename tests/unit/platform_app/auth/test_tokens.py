"""The API key as text: its form, its checksum, and that no typo gets past it."""

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.auth.tokens import (
    CHECKSUM_LENGTH,
    KEY_ID_LENGTH,
    KEY_ID_PATTERN,
    SECRET_LENGTH,
    Token,
    checksum,
    generate_token,
    parse_token,
)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def reference_checksum(text: str) -> str:
    """CRC-32 bit by bit (ISO 3309, reflected polynomial 0xEDB88320), then base 62."""
    register = 0xFFFFFFFF
    for byte in text.encode():
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    number, digits = register ^ 0xFFFFFFFF, ""
    while number:
        digits = BASE62[number % 62] + digits
        number //= 62
    return digits.rjust(6, "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123456789", "3jZRME"),  # the CRC catalogue's check value, 0xCBF43926
        ("", "000000"),
        ("fbp_live_0123456789AB_" + "z" * 33, "0JxYKu"),  # 0x11947BF0: shorter than 6 digits
        ("fbp_test_0123456789AB_0123456789ABCDEFGHIJKLMNOPQRSTUVW", "3wlsyN"),
    ],
)
def test_checksum_vectors(text: str, expected: str) -> None:
    assert checksum(text) == expected
    assert reference_checksum(text) == expected


@given(st.text(alphabet=string.printable, max_size=80))
def test_checksum_is_crc32_in_base62(text: str) -> None:
    assert checksum(text) == reference_checksum(text)


@pytest.mark.parametrize("environment", ["live", "test"])
def test_new_key_has_the_documented_form(environment: str) -> None:
    token = generate_token(environment)  # type: ignore[arg-type]  # mypy sees a str
    prefix, env, key_id, rest = token.text.split("_")
    assert (prefix, env, key_id) == ("fbp", environment, token.key_id)
    assert len(key_id) == KEY_ID_LENGTH == 12
    assert len(rest) == SECRET_LENGTH + CHECKSUM_LENGTH
    assert set(key_id + rest) <= set(BASE62)
    assert re.fullmatch(KEY_ID_PATTERN, token.key_id)
    assert parse_token(token.text) == token


def test_secret_has_at_least_192_random_bits() -> None:
    assert SECRET_LENGTH * math.log2(62) >= 192
    secrets = [generate_token("live").text.split("_")[3][:SECRET_LENGTH] for _ in range(400)]
    assert len(set(secrets)) == 400
    for position in range(SECRET_LENGTH):  # no position is constant or from a smaller alphabet
        seen = {secret[position] for secret in secrets}
        # 400 draws of 62 characters leave 0.09 of them unseen on average, so 10 unseen characters show a defect.
        assert len(seen) > 52, f"position {position} shows {len(seen)} characters only"


def test_key_id_is_new_unless_given() -> None:
    first, second = generate_token("live"), generate_token("live")
    assert first.key_id != second.key_id
    rotated = generate_token("live", first.key_id)
    assert rotated.key_id == first.key_id
    assert rotated.text != first.text


_CHARACTERS = st.characters(min_codepoint=0, max_codepoint=0x2FF)


@given(st.sampled_from(["live", "test"]), st.data())
def test_every_single_character_change_is_refused(environment: str, data: st.DataObject) -> None:
    text = generate_token(environment).text  # type: ignore[arg-type]  # mypy sees a str
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(_CHARACTERS.filter(lambda found: found != text[position]))
    assert parse_token(text[:position] + character + text[position + 1 :]) is None


def test_every_single_base62_change_of_one_key_is_refused() -> None:
    text = "fbp_test_0123456789AB_0123456789ABCDEFGHIJKLMNOPQRSTUVW3wlsyN"
    assert parse_token(text) is not None
    for position, old in enumerate(text):
        for new in BASE62 + "_":
            if new != old:
                assert parse_token(text[:position] + new + text[position + 1 :]) is None, (position, new)


@given(st.data())
def test_lost_added_and_swapped_characters_are_refused(data: st.DataObject) -> None:
    text = generate_token("live").text
    position = data.draw(st.integers(0, len(text) - 2))
    assert parse_token(text[:position] + text[position + 1 :]) is None
    assert parse_token(text[:position] + data.draw(_CHARACTERS) + text[position:]) is None
    if text[position] != text[position + 1]:
        swapped = text[:position] + text[position + 1] + text[position] + text[position + 2 :]
        assert parse_token(swapped) is None


@given(st.text(max_size=200))
def test_any_text_is_refused_without_an_exception(text: str) -> None:
    assert parse_token(text) is None


@pytest.mark.parametrize("wrap", ["{} ", " {}", "{}\n", "\n{}", "{}\x00", "Bearer {}", "{0}{0}"])
def test_text_around_a_key_is_refused(wrap: str) -> None:
    assert parse_token(wrap.format(generate_token("live").text)) is None


def test_digits_of_other_scripts_are_refused() -> None:
    body = "fbp_live_" + "\u0661" * 12 + "_" + "a" * 33
    assert parse_token(body + "000000") is None


def test_repr_shows_only_the_public_part() -> None:
    token = generate_token("live")
    assert token.key_id in repr(token)
    assert token.text.split("_")[3] not in repr(token)
    assert token.text[-12:] not in f"{token} {[token]}"
    assert Token("a", "live", "secret") == Token("a", "live", "secret")
