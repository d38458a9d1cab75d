"""Runs a system so that none of its processes escapes: whatever it starts, however deep, stays below this process.

``python launcher.py <parent pid> <command ...>``. Linux hands every orphan below a "child subreaper" to it instead of
to init: daemons stay in the tree that is measured, and all of it is killed on SIGTERM or when the benchmark dies. A
command that ends by itself is started again, as any supervisor would. Standard library only.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
RESTART_SECONDS = 0.1


def children_of(parent: int) -> list[int]:
    """Return the living children of a process; empty when it is gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything; after it come the state and the parent's id.
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(entry.name))
    return found


def kill_below(pid: int) -> None:
    """Kill all that descends from ``pid``, until nothing does."""
    while children := children_of(pid):
        for child in children:
            # Stopped first: a supervisor must not start anew what is killed below it.
            try:
                os.kill(child, signal.SIGSTOP)
                kill_below_once(child)
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()
        time.sleep(0.01)


def kill_below_once(pid: int) -> None:
    """Kill the descendants of a stopped process; what they leave behind comes to the launcher."""
    for child in children_of(pid):
        try:
            os.kill(child, signal.SIGSTOP)
            kill_below_once(child)
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def reap() -> set[int]:
    """Collect the children that have ended."""
    ended: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.add(pid)


def main(parent: int, command: list[str]) -> None:
    """Run ``command`` until SIGTERM."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        kill_below(os.getpid())
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return
    main_pid = 0
    while True:
        if main_pid in reap() or not main_pid:
            time.sleep(RESTART_SECONDS if main_pid else 0)
            main_pid = subprocess.Popen(command, stdin=subprocess.DEVNULL).pid
        time.sleep(0.02)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
