"""A child as its parent holds it: its process, and the pipe on which it tells how it is."""

import os
import platform
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from muleteer_worker.child import ChildOrders
from muleteer_worker.status import ChildStatus, read_status
from muleteer_worker.threads import thread_variables

READ_BYTES = 65_536


@dataclass(slots=True, eq=False)
class Child:
    """One running child."""

    slot: int
    name: str
    process: subprocess.Popen[bytes]
    pipe: int
    """The end of the status pipe that is read."""
    status: ChildStatus = field(default_factory=ChildStatus)
    heard_at: float = field(default_factory=time.monotonic)
    was_ready: bool = False
    _unread: bytes = b""

    def listen(self) -> bool:
        """Take in what the child has said; returns False once it will say nothing more."""
        try:
            data = os.read(self.pipe, READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            self.status, self.heard_at = read_status(lines[-1]), time.monotonic()
            self.was_ready = self.was_ready or any(read_status(line).ready for line in lines)
        return True

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.pipe)


def start_child(slot: int, threads: int, metrics_dir: Path) -> Child:
    """Start a fresh interpreter for a slot: no fork after a model was loaded, several frameworks don't survive it.

    To be called from the main thread: Linux takes the thread that starts a process for its parent.
    """
    name = worker_name(slot)
    reader, writer = os.pipe()
    orders = ChildOrders(slot, name, os.getpid(), writer, metrics_dir)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "muleteer_worker.child", *orders.arguments()],
            env=os.environ | thread_variables(threads),
            stdin=subprocess.DEVNULL,
            pass_fds=[writer],
            # Ctrl-C in a terminal reaches the parent alone, which drains in order.
            start_new_session=True,
        )
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    os.set_blocking(reader, False)
    return Child(slot, name, process, reader)


def worker_name(slot: int) -> str:
    """Return a name that no worker ever had: leases are given back by name, and a pod may keep its host's name."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node() or "worker")
    return f"{host}-{slot}-{secrets.token_hex(4)}"
