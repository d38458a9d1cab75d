"""Signals that wake a select loop at once and change nothing else."""

import os
import signal
from types import FrameType


class Signals:
    """SIGTERM and SIGINT raise ``stop``; they and SIGCHLD make ``wakeup`` readable. For the main thread."""

    def __init__(self) -> None:
        self.stop = False
        self.wakeup, self._writer = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, self._noted)

    def clear(self) -> None:
        """Make ``wakeup`` unreadable until the next signal."""
        try:
            while os.read(self.wakeup, 4096):
                pass
        except BlockingIOError:
            return

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop = True

    def _noted(self, _signal: int, _frame: FrameType | None) -> None:
        """Do nothing: without a handler of its own SIGCHLD would not wake anybody."""
