"""Ids of stored responses: only the owner's keys can use them, and a rotation of peppers keeps them valid."""

from dataclasses import replace

import orjson
import pytest

from apps.platform_api.responses.stored.ids import MAX_LENGTH, StoredId, owner_digest, read_id, sign_id
from apps.platform_api.responses.stored.signing import live_peppers, signer
from platform_app.auth.caller import Caller
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.chat import ChatResult
from platform_app.errors import AuthUnavailable, NotFound, SecretError
from tests.support.fakes.upstreams import RESPONSE

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
    """No character of an id can be changed, and none added."""
    given = sign_id(STORED, PEPPERS)
    for position in range(len("resp_"), len(given) - 1):
        changed = given[:position] + ("A" if given[position] != "A" else "B") + given[position + 1 :]
        with pytest.raises(NotFound):
            read_id(changed, "billing", PEPPERS)
    with pytest.raises(NotFound):
        read_id(given[:9] + "!" + given[9:], "billing", PEPPERS)


def test_id_of_a_known_response_never_changes() -> None:
    """Clients keep ids for weeks: a later version must read those of an earlier one."""
    assert sign_id(STORED, PEPPERS) == (
        "resp_j6ySYAvw-IpodGO1chCNHlsiMGM5NWM3ZWNlMWNlMWE5NzUwMjc1ZWYxIiwic21hcnQiLCJvcGVuYWkiLCJncHQtNSIsInJlc3BfMGExYiJd"
    )


def test_longest_id_is_read_and_a_longer_one_is_not() -> None:
    empty = replace(STORED, response_id="")
    overhead = 16 + len(orjson.dumps([empty.owner, empty.model, empty.provider, empty.upstream_model, ""]))
    longest = replace(STORED, response_id="r" * (1532 - overhead))
    assert len(sign_id(longest, PEPPERS)) == MAX_LENGTH == 2048
    assert read_id(sign_id(longest, PEPPERS), "billing", PEPPERS) == longest
    longer = replace(longest, response_id=longest.response_id + "r")
    with pytest.raises(NotFound):
        read_id(sign_id(longer, PEPPERS), "billing", PEPPERS)


def test_signer_takes_owner_and_result() -> None:
    caller = Caller("k" * 12, "key", "billing", "test", frozenset())
    result = ChatResult("smart", "openai", "gpt-5", RESPONSE)
    assert read_id(signer(caller, PEPPERS)(result)("resp_0a1b"), "billing", PEPPERS) == STORED


def test_signed_id_has_the_tokens_of_its_conversation() -> None:
    caller = Caller("k" * 12, "key", "billing", "test", frozenset())
    result = ChatResult("smart", "openai", "gpt-5", RESPONSE, conversation_tokens=9000)
    given = signer(caller, PEPPERS)(result)("resp_0a1b")
    assert read_id(given, "billing", PEPPERS) == replace(STORED, tokens=9000)


async def test_unreadable_pepper_is_an_outage() -> None:
    class Broken:
        async def current(self) -> Peppers:
            raise SecretError("vault is sealed")

    with pytest.raises(AuthUnavailable) as caught:
        await live_peppers(Broken())
    assert caught.value.retry_after == 1
