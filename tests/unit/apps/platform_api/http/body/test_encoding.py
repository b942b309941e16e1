"""Kind 31: a body that is compressed or not UTF-8 is named, instead of a parser's error at character 0."""

import gzip
import zlib

import pytest

from apps.platform_api.http.body.encoding import refuse_encoded, unreadable
from apps.platform_api.http.body.json_text import parse_json
from platform_app.errors import InvalidRequest, PlatformError, UnsupportedMediaType

TEXT = '{"prompt": "Grüße"}'


def refused(raw: bytes) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        parse_json(raw)
    assert "character 0" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"gzip", "gzip"), (b"GZIP", "gzip"), (b"br", "br"), (b"deflate", "deflate"), (b"zstd", "zstd"),
        (b"identity, gzip", "gzip"), (b" x-gzip ", "x-gzip"), (b"compress", "compress"), (b"\xff<b>", "unknown"),
        (b"k" * 99, "unknown"),
    ],
)  # fmt: skip
def test_content_encoding_is_refused_by_name(value: bytes, named: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        refuse_encoded(value)
    assert f"({named})" in caught.value.message
    assert caught.value.compressed


@pytest.mark.parametrize("value", [b"", b"identity", b"Identity", b"utf-8", b"identity, identity"])
def test_no_encoding_passes(value: bytes) -> None:
    refuse_encoded(value)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (gzip.compress(TEXT.encode(), mtime=0), "gzip"),
        (zlib.compress(TEXT.encode(), 1), "deflate"),
        (zlib.compress(TEXT.encode(), 9), "deflate"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (b"PK\x03\x04", "zip"),
        (TEXT.encode("utf-16"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.encode("utf-32-le"), "UTF-32"),
        (TEXT.encode("utf-32-be"), "UTF-32"),
        (b"\xff\xfe", "UTF-16"),
    ],
)
def test_unreadable_body_is_named(raw: bytes, named: str) -> None:
    error = refused(raw)
    assert type(error) is UnsupportedMediaType
    assert named in error.message
    assert "UTF-8" in error.message


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (TEXT.encode("latin-1"), "byte 0xfc at position 14 is not UTF-8 text"),
        (TEXT.encode("cp1252"), "byte 0xfc at position 14"),
        (b"\x80", "byte 0x80 at position 0"),
        (TEXT.encode()[:15], "byte 0xc3 at position 14"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "byte order mark"),
    ],
)
def test_stray_byte_is_named_with_its_position(raw: bytes, named: str) -> None:
    error = refused(raw)
    assert type(error) is InvalidRequest
    assert named in error.message


@pytest.mark.parametrize("raw", [b"", b"x^", b"{", b"hello", "ü".encode(), b"BZ", b"P"])
def test_text_is_left_to_the_parser(raw: bytes) -> None:
    assert unreadable(raw) is None
