"""How much memory this process uses, and giving back what it has freed.

What a model version takes is measured as the growth of the process's anonymous memory around its load and warm-up:
``resident - shared`` of Linux's ``/proc/self/statm``. Files that are mapped (libraries' code, artifacts that a
framework maps instead of reading) do not count: the kernel drops and shares them as it likes.

Limits of it. A batch that is predicted while a version loads counts with it, in both directions. A framework's own
libraries are imported before; what else a load imports, such as those of a model's own code, counts with the version
that is the first to do so; such a measure is marked, and the next one replaces it.
Memory of a GPU is not seen. A version that reuses memory which an earlier one has freed, but which could not be given
back, does not make the process grow: ``muleteer_worker.budget.Account`` makes up for that. Where there is no
``/proc`` (macOS) nothing is measured, and the size of the artifact stands for it.
"""

import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from muleteer_worker.frameworks.python import PACKAGE_PREFIX

_STATM = Path("/proc/self/statm")
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Growth:
    """What a load has added to the process."""

    bytes: int
    exact: bool
    """False when the load also imported libraries, which stay when the version goes."""


def anonymous_bytes() -> int | None:
    """Return the memory of this process that no file backs; None where the system does not tell."""
    try:
        _, resident, shared, *_ = _STATM.read_text().split()
    except OSError:
        return None
    return (int(resident) - int(shared)) * _PAGE


def settle() -> None:
    """Prepare a process for versions that come and go; to be called before there are other threads.

    What is in the process now is taken for its own for good: ``give_back`` is then ten times as fast. And glibc is kept
    from giving each thread an arena of its own, of whose upper end ``malloc_trim`` gives nothing back: that of the
    thread which loads held on to tens of megabytes.
    """
    gc.collect()
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Free what is unreachable, and have the C library give its free memory back to the system.

    Holds the interpreter for some milliseconds, and for longer the more objects the resident models consist of.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl and macOS give back by themselves
    if trim is not None:
        trim(0)


class Measure:
    """Measures from when it is made until it is asked. ``tidy`` gives memory back before both, to see what stays."""

    def __init__(self, *, tidy: bool) -> None:
        self._tidy = tidy
        if tidy:
            give_back()
        self._libraries = _libraries()
        self._before = anonymous_bytes()

    def growth(self) -> Growth | None:
        """Return what the process has grown by; None where nothing can be measured."""
        if self._tidy:
            give_back()
        after = anonymous_bytes()
        if after is None or self._before is None:
            return None
        return Growth(max(0, after - self._before), _libraries() == self._libraries)


def _libraries() -> int:
    """Return how many modules are imported that are not a model's own."""
    return sum(not name.startswith(PACKAGE_PREFIX) for name in list(sys.modules))
