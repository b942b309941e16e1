"""Peppers: the secret's text, its versions, and messages without a value."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.auth.pepper import parse_peppers
from platform_app.errors import SecretError

ONE, TWO = "1a" * 32, "2b" * 32


def test_value_without_version_is_version_1() -> None:
    peppers = parse_peppers("PEPPER", ONE)
    assert peppers.current == 1
    assert dict(peppers.by_version) == {1: ONE.encode()}


def test_first_entry_is_current_whatever_its_version() -> None:
    peppers = parse_peppers("PEPPER", f" 2:{TWO} , 10:{ONE},1:{ONE} ")
    assert peppers.current == 2
    assert set(peppers.by_version) == {1, 2, 10}


@pytest.mark.parametrize(("text", "version"), [(f"32767:{ONE}", 32767), (f"00002:{ONE}", 2), ("3:" + "x" * 32, 3)])
def test_largest_version_and_shortest_value_are_accepted(text: str, version: int) -> None:
    assert parse_peppers("PEPPER", text).current == version


def test_digest_is_hmac_sha256_of_the_whole_key() -> None:
    peppers = parse_peppers("PEPPER", f"2:{TWO},1:{ONE}")
    expected = {
        version: hmac.new(pepper.encode(), b"fbp_x", hashlib.sha256).digest()
        for version, pepper in ((1, ONE), (2, TWO))
    }
    assert peppers.digest("fbp_x", 1) == expected[1]
    assert peppers.digest("fbp_x", 2) == expected[2]
    assert peppers.digest("fbp_x") == expected[2]
    assert peppers.digest("fbp_x", 3) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "entry 1 has fewer than 32 characters"),
        ("x" * 31, "entry 1 has fewer than 32 characters"),
        ("secretvalue", "entry 1 has fewer than 32 characters"),
        ("1:", "entry 1 has fewer than 32 characters"),
        (f"1:{ONE},", "entry 2 has fewer than 32 characters"),
        (f"{ONE},2:secretvalue", "entry 2 has fewer than 32 characters"),
        (f"1:{ONE},1:{TWO}", "version 1 is used by two entries"),
        (f"{ONE},1:{TWO}", "version 1 is used by two entries"),
        (f"{ONE}:{TWO}", "entry 1 has no version number"),
        (f":{ONE}", "entry 1 has no version number"),
        (f"-1:{ONE}", "entry 1 has no version number"),
        # The version is stored in a smallint.
        (f"32768:{ONE}", "entry 1 has a version above 32767"),
        (f"20260131:{ONE}", "entry 1 has a version above 32767"),
        (f"000001:{ONE}", "entry 1 has a version above 32767, or one of more than 5 digits"),
        ("9" * 5000 + f":{ONE}", "entry 1 has a version above 32767"),
    ],
)
def test_error_names_secret_and_problem(text: str, says: str) -> None:
    with pytest.raises(SecretError) as caught:
        parse_peppers("MY_PEPPER", text)
    assert str(caught.value).startswith("MY_PEPPER: ")
    assert says in str(caught.value)


@given(st.text(max_size=120))
def test_errors_and_reprs_repeat_no_secret_text(text: str) -> None:
    marked = f"{text}Zq7Zq7"
    try:
        shown = repr(parse_peppers("P", marked))
    except SecretError as error:
        shown = str(error)
    assert "Zq7" not in shown
