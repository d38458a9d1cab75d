"""Random ids for jobs, taken from the system in bulk: one system call for many."""

import os

ID_BYTES = 16
IDS_AT_ONCE = 256


class Ids:
    """Makes unguessable ids of 32 hex digits; a job's id is also the right to see its result."""

    def __init__(self) -> None:
        self._hex = ""
        self._at = 0

    def take(self) -> str:
        """Return a new id."""
        if self._at >= len(self._hex):
            self._hex, self._at = os.urandom(ID_BYTES * IDS_AT_ONCE).hex(), 0
        taken = self._hex[self._at : self._at + 2 * ID_BYTES]
        self._at += 2 * ID_BYTES
        return taken
