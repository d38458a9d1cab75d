"""Reading a request on ASGI: headers in one pass, bodies to a limit, packed or in pieces."""

import gzip
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muleteer.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from muleteer_gateway.http import ClientDisconnectedError, RequestHeaders, parse_json, read_body, read_headers

LIMIT = 1000
GZIP = RequestHeaders(content_encoding=b"gzip")


class Body:
    """An ASGI ``receive`` that gives these pieces, then a disconnect."""

    def __init__(self, *pieces: bytes, disconnect: bool = False) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": disconnect or number < len(pieces)}
            for number, piece in enumerate(pieces, 1)
        ]
        self.read = 0

    async def __call__(self) -> dict[str, Any]:
        self.read += 1
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}


def test_headers_are_found_in_one_pass() -> None:
    found = read_headers(
        {
            "headers": [
                (b"content-type", b"application/json"),
                (b"prefer", b"wait=1"),
                (b"idempotency-key", b"k"),
                (b"x-request-id", b"r"),
                (b"prefer", b"respond-async"),
                (b"authorization", b"Bearer t"),
                (b"x-api-key", b"t"),
                (b"other", b"ignored"),
            ]
        }
    )
    assert found == RequestHeaders(
        content_type=b"application/json",
        prefer=b"wait=1,respond-async",
        idempotency_key=b"k",
        request_id=b"r",
        authorization=b"Bearer t",
        api_key=b"t",
    )


async def test_a_body_in_pieces_is_put_together() -> None:
    assert await read_body(Body(b"a", b"", b"bc"), RequestHeaders(), LIMIT) == b"abc"


async def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    body = Body(b"x")
    with pytest.raises(PayloadTooLargeError):
        await read_body(body, RequestHeaders(content_length=b"1001"), LIMIT)
    assert body.read == 0


async def test_a_body_in_pieces_is_read_no_further_than_the_limit() -> None:
    body = Body(*[b"x" * 400] * 10)
    with pytest.raises(PayloadTooLargeError):
        await read_body(body, RequestHeaders(), LIMIT)
    assert body.read == 3


@pytest.mark.parametrize("body", [Body(), Body(b"a", disconnect=True)])
async def test_a_client_that_leaves_is_noticed(body: Body) -> None:
    with pytest.raises(ClientDisconnectedError):
        await read_body(body, RequestHeaders(), LIMIT)


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/xml", b"image/png+json", b"application/jsonx"])
async def test_another_content_type_is_refused(content_type: bytes) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        await read_body(Body(b"{}"), RequestHeaders(content_type=content_type), LIMIT)


@pytest.mark.parametrize(
    "content_type", [b"", b"application/json;charset=utf-8", b"APPLICATION/JSON", b"application/a+json"]
)
async def test_every_kind_of_json_is_read(content_type: bytes) -> None:
    assert await read_body(Body(b"{}"), RequestHeaders(content_type=content_type), LIMIT) == b"{}"


@given(text=st.binary(max_size=LIMIT), cuts=st.lists(st.integers(0, LIMIT), max_size=3))
async def test_a_packed_body_is_unpacked_also_from_several_members(text: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    packed = b"".join(gzip.compress(text[a:b]) for a, b in pairwise(edges))
    assert await read_body(Body(packed), GZIP, LIMIT + 1000) == text
    deflate = RequestHeaders(content_encoding=b"deflate")
    assert await read_body(Body(zlib.compress(text)), deflate, LIMIT + 1000) == text


async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    assert len(await read_body(Body(gzip.compress(b"x" * LIMIT)), GZIP, LIMIT)) == LIMIT
    for bomb in (
        gzip.compress(b"x" * (LIMIT + 1)),
        gzip.compress(b"x" * 100) * 11,
        gzip.compress(b"x" * 10_000_000)[:900],
    ):
        with pytest.raises(PayloadTooLargeError):
            await read_body(Body(bomb), GZIP, LIMIT)


@given(st.binary(max_size=100))
async def test_bytes_that_are_not_packed_are_refused_or_read(body: bytes) -> None:
    for encoding in (b"gzip", b"deflate"):
        try:
            await read_body(Body(body), RequestHeaders(content_encoding=encoding), LIMIT)
        except BadRequestError as error:
            assert "is not" in error.message or "cut off" in error.message  # noqa: PT017 - both ends are right


async def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        await read_body(Body(b"{}"), RequestHeaders(content_encoding=b"br"), LIMIT)
    assert await read_body(Body(b"{}"), RequestHeaders(content_encoding=b"identity"), LIMIT) == b"{}"


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"[Infinity]", b"[1e999]", b'"\\ud800"', b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError, match="JSON"):
        parse_json(body)


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}


async def test_a_body_of_very_many_gzip_members_is_refused() -> None:
    with pytest.raises(BadRequestError, match="more than 16 gzip members"):
        await read_body(Body(gzip.compress(b"") * 5000), GZIP, 10_000_000)
