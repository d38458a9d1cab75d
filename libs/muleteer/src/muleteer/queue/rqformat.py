"""Values as RQ 2.12 writes them, so that RQ's own tools can read them."""

import base64
import zlib
from datetime import UTC, datetime

TIMESTAMP_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def timestamp() -> str:
    """Return the time now as RQ writes it (UTC, microseconds)."""
    return datetime.now(UTC).strftime(TIMESTAMP_FORMAT)


def return_value(payload: bytes) -> bytes:
    """Return a JSON payload as RQ's result stream holds it with the JSONSerializer: base64."""
    return base64.b64encode(payload)


def exc_string(text: str) -> bytes:
    """Return an error text as RQ's result stream holds it: zlib, then base64."""
    return base64.b64encode(zlib.compress(text.encode()))


def read_return_value(stored: bytes) -> bytes:
    """Return the JSON payload of a result stream's ``return_value``."""
    return base64.b64decode(stored)


def read_exc_string(stored: bytes) -> str:
    """Return the text of a result stream's ``exc_string``."""
    return zlib.decompress(base64.b64decode(stored)).decode()
