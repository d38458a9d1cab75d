"""The Prefer header (RFC 7240): how long a caller waits, or that it does not."""

import re
from dataclasses import dataclass
from typing import Literal

Mode = Literal["sync", "wait", "async"]
_PREFERENCE = re.compile(r'\s*([A-Za-z0-9_-]+)\s*(?:=\s*"?([^",;]*)"?)?')


@dataclass(frozen=True, slots=True)
class Preference:
    """How the caller wants its answer: sync (no header), wait up to some seconds, or async."""

    mode: Mode
    wait: float | None = None
    """Seconds, for mode ``wait``; for ``sync`` where the body has a timeout of its own."""
    respond_async: bool = False
    """With ``wait``: it said that it takes a job when waiting is not enough."""

    @property
    def applied(self) -> bytes:
        """Value of the Preference-Applied header, empty when there is none."""
        if self.mode == "async":
            return b"respond-async"
        return f"wait={self.wait:g}".encode() if self.mode == "wait" else b""


SYNC = Preference("sync")


def read_prefer(header: bytes, max_wait: float) -> Preference:
    """Read a Prefer header; what is not understood is ignored, as the RFC wants it.

    With both ``respond-async`` and ``wait`` the caller waits, and gets a job if that is not enough.
    """
    if not header:
        return SYNC
    wait, respond_async = None, False
    for part in header.decode("latin-1").split(","):
        match = _PREFERENCE.match(part)
        if match is None:
            continue
        name, value = match[1].lower(), (match[2] or "").strip()
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and wait is None and value.isascii() and value.isdigit():
            wait = min(float(value[:9]), max_wait)
    if wait is not None and wait > 0:
        return Preference("wait", wait, respond_async)
    if respond_async or wait == 0:
        return Preference("async")
    return SYNC
