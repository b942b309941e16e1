"""Parts of URLs, and messages that never repeat a URL."""

import itertools

import pytest

from platform_app.config.connections.url_parts import is_host_name, split_url, url_parts

SECRET = "pa55word"
CHARACTERS = "@:/[]?#%\uff20\uff1a\uff0f\uff3b\uff3d\ufe55\u2100\\ "


def test_url_that_cannot_be_split_is_never_repeated() -> None:
    """Python names the user, the password and the host in its message."""
    refused = 0
    for one, other in itertools.product(CHARACTERS, repeat=2):
        url = f"https://gw:{SECRET}{one}x@{other}host:1"
        if split_url(url) is None:
            refused += 1
            with pytest.raises(ValueError, match="expected a URL") as caught:
                url_parts(url)
            assert SECRET not in str(caught.value)
    assert refused > len(CHARACTERS)


@pytest.mark.parametrize(
    ("name", "valid"),
    [("example", True), ("bücher.example.", True), ("::1", True), ("ä..example", False), ("a..b", False),
     ("a" * 64, False)],
)  # fmt: skip
def test_host_name_can_be_looked_up(name: str, valid: bool) -> None:
    assert is_host_name(name) is valid
