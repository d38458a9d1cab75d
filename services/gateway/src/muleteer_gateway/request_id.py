"""The request id: the caller's X-Request-Id if it is a decent one, else a new one; the same on every answer and log."""

import re

from starlette.types import Scope

from muleteer.queue.ids import Ids

_DECENT = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_IDS = Ids()
_KEY = "muleteer.request_id"


def request_id_of(scope: Scope, header: bytes | None = None) -> str:
    """Return the id of the request in ``scope``, made at the first call."""
    known = scope.get(_KEY)
    if known is None:
        if header is None:
            header = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = header.decode() if _DECENT.fullmatch(header) else _IDS.take()
        scope[_KEY] = known
    return str(known)
