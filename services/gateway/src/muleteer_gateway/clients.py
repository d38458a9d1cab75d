"""Who calls: API keys, the names that they stand for, and what each client may have."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from muleteer.errors import BadRequestError, UnauthorizedError
from muleteer.queue.producer import ClientLimits
from muleteer_gateway.http import RequestHeaders

MAX_NAME_LENGTH = 100
MAX_KNOWN = 4096
"""Client ids that are remembered; more are hashed again."""


@dataclass(frozen=True, slots=True)
class Client:
    """One caller, as far as queueing and limits are concerned."""

    id: str
    """Part of the lane's name; empty for nameless callers, who share one lane."""
    limits: ClientLimits | None
    """None when it has none."""


class Clients:
    """Tells callers apart: by their API key, or where there are none by the header X-Client-Id."""

    def __init__(self, keys: Mapping[bytes, str], default: ClientLimits, special: Mapping[str, ClientLimits]) -> None:
        """``keys``: name by key; ``special``: limits by name, for those who do not have the ``default`` ones."""
        self._keys = list(keys)
        self._default = _limits(default)
        self._special = {name: _limits(limits) for name, limits in special.items()}
        self._by_key = {key: self._client(name) for key, name in keys.items()}
        self._nameless = Client("", self._default)
        self._by_header: dict[bytes, Client] = {}

    def identify(self, headers: RequestHeaders) -> Client:
        """Return who calls. Raises UnauthorizedError when keys are wanted and none of them was sent."""
        if not self._keys:
            return self._nameless if headers.client_id is None else self._by_name(headers.client_id)
        sent = headers.api_key
        if headers.authorization[:7].lower() == b"bearer ":
            sent = headers.authorization[7:].strip()
        # Every key is compared, each in constant time: the time taken tells nothing about them.
        matches = [key for key in self._keys if hmac.compare_digest(sent, key)]
        if not matches:
            raise UnauthorizedError("Send a valid API key as `Authorization: Bearer <key>` or `X-Api-Key: <key>`.")
        return self._by_key[matches[0]]

    def _by_name(self, raw: bytes) -> Client:
        client = self._by_header.get(raw)
        if client is None:
            name = raw.decode("latin-1")
            if not 0 < len(name) <= MAX_NAME_LENGTH or not all("!" <= character <= "~" for character in name):
                raise BadRequestError(f"X-Client-Id must be 1 to {MAX_NAME_LENGTH} ASCII characters without spaces.")
            client = self._client(name)
            if len(self._by_header) >= MAX_KNOWN:
                self._by_header.clear()
            self._by_header[raw] = client
        return client

    def _client(self, name: str) -> Client:
        return Client(client_id(name), self._special.get(name, self._default))


def client_id(name: str) -> str:
    """Return a name as lanes and Redis keys hold it: itself where it is plain, else a digest."""
    if len(name) <= 32 and name.isascii() and name.replace("-", "").replace("_", "").isalnum():
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def read_keys(text: str) -> dict[bytes, str]:
    """Return the name of each key of ``name=key,key,…``; a key without a name is named by its digest.

    ``=`` at a key's end is padding (base64), not the end of a name.
    """
    keys = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, _, key = part.partition("=")
        if not key.strip("="):
            name, key = "", part
        keys[key.strip().encode()] = name.strip() or "key-" + hashlib.sha256(part.encode()).hexdigest()[:12]
    return keys


def _limits(limits: ClientLimits) -> ClientLimits | None:
    return limits if limits.rate or limits.concurrency else None
