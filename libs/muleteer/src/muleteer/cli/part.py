"""One service of the local system: a child process, and what it logs."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping

from muleteer.children import start_child
from muleteer.errors import MuleteerError

KEPT_LINES = 8


class PartFailedError(MuleteerError):
    """A part of the local system could not start, or ended without being asked to."""

    title = "Local system failed"


class Part:
    """``python -m <module>`` as a child process. Its log lines go to ``echo``, its name before each."""

    def __init__(self, name: str, module: str, settings: Mapping[str, str], echo: Callable[[str], None]) -> None:
        self.name = name
        self._echo = echo
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.process = start_child(
            [sys.executable, "-m", module], env={**os.environ, **settings}, output=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._reader.start()

    def check(self) -> None:
        """Raise PartFailedError, with the last log lines, if the process has ended."""
        code = self.process.poll()
        if code is None:
            return
        self._reader.join(1.0)
        lines = "".join(f"\n    {line}" for line in self._lines) or " It logged nothing."
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise PartFailedError(f"The {self.name} {how}. Its last log lines:{lines}")

    def drain(self, timeout: float) -> bool:
        """Ask the process to finish its work and leave; after ``timeout`` seconds kill it. Tell if it left."""
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._reader.join(1.0)
        return True

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self._reader.join(1.0)

    def _read(self) -> None:
        output = self.process.stdout
        if output is None:
            return
        with output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self._lines.append(line)
                self._echo(f"{self.name:>8} | {line}")
