"""The parts of a URL. Python's message about a URL that it cannot split repeats the URL with its password, so it goes
into no message of ours."""

from urllib.parse import SplitResult, urlsplit

UNREADABLE = (
    "expected a URL whose host is a name or an address (IPv6 in brackets), special characters of user and password "
    "percent-encoded"
)


def split_url(url: str) -> SplitResult | None:
    """Return the parts, or None if the text is no URL: its port is not a number up to 65535, it has a single bracket,
    or its host has a character that looks like `@`, `:` or `/`, such as the fullwidth forms."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def url_parts(url: str) -> SplitResult:
    """Return the parts; see `split_url`.

    Raises:
        ValueError: the text is no URL. The message repeats no part of it.
    """
    if (parts := split_url(url)) is None:
        raise ValueError(UNREADABLE)
    return parts


def is_host_name(name: str) -> bool:
    """Return whether a connection can be opened to a URL's host of this name."""
    try:
        name.encode("idna")
    except UnicodeError:  # an empty part between two dots, or more than 63 characters in one
        return False
    return True
