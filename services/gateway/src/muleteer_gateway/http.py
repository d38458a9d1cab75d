"""Reading requests and writing answers straight on ASGI, for the hot routes."""

import zlib
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from muleteer.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from muleteer_gateway.problems import Headers

MAX_MEMBERS = 16
"""Each costs a copy of the rest of the body, so that many small ones would cost more than their bytes."""
GZIP_WINDOW = 31
"""zlib's window bits for a gzip header."""


GONE = "muleteer.gone"
"""Member of a request's scope: what the connection calls when it ends before the answer was sent."""


class ClientDisconnectedError(Exception):
    """The client went away before its request was complete, or before it was answered."""


@dataclass(slots=True)
class RequestHeaders:
    """The few headers that the gateway reads, found in one pass."""

    content_type: bytes = b""
    content_encoding: bytes = b""
    content_length: bytes = b""
    prefer: bytes = b""
    idempotency_key: bytes | None = None
    """None when there is none; an empty one is a caller's mistake."""
    request_id: bytes = b""
    authorization: bytes = b""
    api_key: bytes = b""
    client_id: bytes | None = None
    """None when there is none; an empty one is a caller's mistake."""
    inference_header_length: bytes = b""
    """Bytes of the JSON, which some of Triton's clients tell only when binary data follows it."""


_FIELDS = {
    b"content-type": "content_type",
    b"content-encoding": "content_encoding",
    b"content-length": "content_length",
    b"prefer": "prefer",
    b"idempotency-key": "idempotency_key",
    b"x-request-id": "request_id",
    b"authorization": "authorization",
    b"x-api-key": "api_key",
    b"x-client-id": "client_id",
    b"inference-header-content-length": "inference_header_length",
}


def read_headers(scope: Scope) -> RequestHeaders:
    """Return the headers that matter here; of a repeated one the last, except Prefer, which adds up."""
    headers = RequestHeaders()
    for name, value in scope["headers"]:
        field = _FIELDS.get(name)
        if field is not None:
            if field == "prefer" and headers.prefer:
                headers.prefer += b"," + value
            else:
                setattr(headers, field, value)
    return headers


async def read_body(receive: Receive, headers: RequestHeaders, limit: int) -> bytes:
    """Return the request's body, unpacked.

    Raises PayloadTooLargeError as soon as it is known to be longer than ``limit`` bytes, packed or unpacked;
    UnsupportedMediaTypeError for a content type or encoding that is not JSON in identity, gzip or deflate.
    """
    _check_content_type(headers.content_type)
    if headers.content_length.isdigit() and int(headers.content_length) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_rest(receive, body, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return _unpack(body, headers.content_encoding, limit) if headers.content_encoding else body


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    chunks, size, more = [first], len(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _check_content_type(content_type: bytes) -> None:
    if content_type in (b"application/json", b""):
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        shown = kind[:100].decode("latin-1")
        raise UnsupportedMediaTypeError(f"Content-Type {shown!r} is not understood: send JSON as application/json.")


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes:
    encoding = encoding.strip().lower()
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        shown = encoding[:100].decode("latin-1")
        raise UnsupportedMediaTypeError(f"Content-Encoding {shown!r} is not understood: send gzip, deflate or none.")
    window = zlib.MAX_WBITS if encoding == b"deflate" else GZIP_WINDOW
    unpacked = bytearray()
    for _ in range(MAX_MEMBERS):
        unpacker = zlib.decompressobj(window)
        try:
            unpacked += unpacker.decompress(body, limit + 1 - len(unpacked))
        except zlib.error as error:
            raise BadRequestError(f"The body is not {encoding.decode()}: {error}.") from error
        if len(unpacked) > limit:
            raise _too_large(limit)
        if not unpacker.eof:
            raise BadRequestError(f"The body is cut off: its {encoding.decode()} stream does not end.")
        body = unpacker.unused_data  # a gzip file may be several in a row
        if not body:
            return bytes(unpacked)
    raise BadRequestError(f"The body has more than {MAX_MEMBERS} {encoding.decode()} members: pack it as one.")


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is longer than {limit} bytes (MULETEER_MAX_BODY_BYTES).", limit=limit)


def parse_json(body: bytes) -> Any:
    """Parse a body. Raises BadRequestError that says where it stops being JSON; NaN and Infinity are not JSON."""
    if not body:
        raise BadRequestError("The body is empty: JSON is needed.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from error


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Write a whole answer."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
