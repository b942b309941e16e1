"""Ids of stored responses: only the owner's keys can use them, and a rotation of peppers keeps them valid."""

import pytest

from apps.platform_api.responses.stored.ids import StoredId, owner_digest, read_id, sign_id
from platform_app.auth.pepper import parse_peppers
from platform_app.errors import NotFound

OLD, NEW = "o" * 32, "n" * 32
PEPPERS = parse_peppers("PEPPER", f"1:{OLD}")
STORED = StoredId(owner_digest("billing"), "smart", "openai", "gpt-5", "resp_0a1b")


def test_signed_id_names_its_response() -> None:
    given = sign_id(STORED, PEPPERS)

    assert given.startswith("resp_")
    assert read_id(given, "billing", PEPPERS) == STORED


def test_signed_id_of_another_owner_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        read_id(sign_id(STORED, PEPPERS), "search", PEPPERS, "previous_response_id")
    assert caught.value.param == "previous_response_id"


def test_signed_id_survives_rotation_of_peppers() -> None:
    """New before old: the order in which a rotation is done."""
    given = sign_id(STORED, PEPPERS)
    rotated = parse_peppers("PEPPER", f"2:{NEW},1:{OLD}")

    assert read_id(given, "billing", rotated) == STORED
    assert read_id(sign_id(STORED, rotated), "billing", rotated) == STORED
    with pytest.raises(NotFound):
        read_id(given, "billing", parse_peppers("PEPPER", f"2:{NEW}"))


@pytest.mark.parametrize(
    "given", ["", "resp_", "resp_0a1b2c3d", "resp_é", "resp_!!!!", "msg_1", "resp_" + "A" * 3000, "resp_AAAA\x00"]
)
def test_unsigned_id_is_not_found(given: str) -> None:
    with pytest.raises(NotFound):
        read_id(given, "billing", PEPPERS)


def test_changed_id_is_not_found() -> None:
    """No character of an id can be changed."""
    given = sign_id(STORED, PEPPERS)
    for position in range(len("resp_"), len(given) - 1):
        changed = given[:position] + ("A" if given[position] != "A" else "B") + given[position + 1 :]
        with pytest.raises(NotFound):
            read_id(changed, "billing", PEPPERS)
