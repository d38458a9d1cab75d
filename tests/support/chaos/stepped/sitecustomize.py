"""Python runs this at the start of a process whose PYTHONPATH holds this folder: a file says how far its clock is off.

The file ``CHAOS_CLOCK`` holds the step in seconds, as 8 bytes of a double; it is mapped, so that a step shows at once.
A hook and not a preloaded library: nothing has to be compiled, and all that Muleteer reads the wall clock with
(``time.time`` and ``datetime.now``) is Python's. Monotonic time does not step, neither here nor on a real machine.
"""

import datetime as dt
import mmap
import os
import struct
import time

_file = os.open(os.environ["CHAOS_CLOCK"], os.O_RDONLY)
_map = mmap.mmap(_file, 8, prot=mmap.PROT_READ)
_time, _time_ns, _datetime = time.time, time.time_ns, dt.datetime


def _step() -> float:
    step: float = struct.unpack("d", _map[:8])[0]
    return step


class _SteppedDatetime(_datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_SteppedDatetime":
        return cls.fromtimestamp(_time() + _step(), tz)

    @classmethod
    def utcnow(cls) -> "_SteppedDatetime":
        return cls.now(dt.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _step()
time.time_ns = lambda: _time_ns() + int(_step() * 1e9)
dt.datetime = _SteppedDatetime  # type: ignore[misc]  # what imports it later gets the stepped one
