"""Child processes that never outlive their parent, whatever it dies of.

Run as a script, this module is the shim between the two: it asks Linux to kill it when its parent dies and then
becomes the command. A shim instead of ``preexec_fn``, which is unsafe in a process that has threads.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1


def start_child(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own (so that Ctrl-C reaches the parent alone) and return its process.

    ``output`` takes standard output and standard error: a file, or ``subprocess.PIPE`` to read ``stdout``. On Linux
    the child gets SIGKILL when this process dies. Raises OSError if the command cannot be started.
    """
    shim = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]
    started: Future[subprocess.Popen[bytes]] = Future()

    def hold() -> None:
        # Linux takes the *thread* that started a child for its parent: it must live as long as the child does.
        try:
            process = subprocess.Popen(  # noqa: S603 - the caller's own command, no shell
                shim,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=hold, name=f"child-{Path(command[0]).name}", daemon=True).start()
    return started.result()


def become(parent: int, command: list[str]) -> None:
    """Replace this process by ``command``, bound to the life of process ``parent``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
    os.execvp(command[0], command)  # noqa: S606 - becoming the given command is what this does


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
