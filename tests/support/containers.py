"""An image's programs run as a cluster would: its user, its environment, a read-only root, process 1 of its own."""

import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from muleteer.children import start_child
from support.services import Service

DEVICES = ("null", "zero", "full", "random", "urandom")
WRITABLE = ("/tmp", "/var/cache/muleteer")  # noqa: S108 - of the container
"""What the chart mounts as empty volumes; nothing else may be written."""


@dataclass(frozen=True)
class Container:
    """An image's root file system and configuration. The network is the machine's."""

    root: Path
    config: dict[str, Any]
    mounts: dict[str, Path] = field(default_factory=dict)
    """Folders of this machine by their path in the container."""
    writable: frozenset[str] = frozenset()
    """Those of ``mounts`` that are not mounted read-only."""

    def command(self, words: list[str], env: dict[str, str]) -> list[str]:
        """Return the command that runs ``words`` in the container."""
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in env.items())]
        inside = ["/usr/bin/env", "-i", *variables, *words]
        user = ["--no-new-privs", "chroot", f"--userspec={self.config['User']}", "--groups=", str(self.root)]
        script = "\n".join(["set -e", *self._mounts(), shlex.join(["exec", "setpriv", *user, *inside])])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        command = self.command(list(words), env)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def _mounts(self) -> list[str]:
        root = shlex.quote(str(self.root))
        lines = [
            f"mount --bind {root} {root}",
            f"mkdir -p {root}/proc {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
            f"mkdir -m 1777 {root}/dev/shm",  # noqa: S108 - of the container
            *(f"touch {root}/dev/{name}; mount --bind /dev/{name} {root}/dev/{name}" for name in DEVICES),
        ]
        for target in WRITABLE:
            lines += [f"mkdir -p {root}{target}", f"mount -t tmpfs -o mode=1777 tmpfs {root}{target}"]
        for target, source in self.mounts.items():
            lines += [f"mkdir -p {root}{target}", f"mount --bind {shlex.quote(str(source))} {root}{target}"]
            if target not in self.writable:
                lines.append(f"mount -o remount,bind,ro {root}{target}")
        return [*lines, f"mount -o remount,bind,ro {root}"]


class ContainerService(Service):
    """A service that runs by its image's entry point."""

    def __init__(self, container: Container, port: int, log: Path, env: dict[str, str]) -> None:
        super().__init__(shlex.join(container.config["Entrypoint"]), port, log, env)
        self._container, self._settings = container, env

    def start(self) -> Self:
        with self.log.open("ab") as output:
            command = self._container.command(self._container.config["Entrypoint"], self._settings)
            self.process = start_child(command, output=output)
        return self

    @property
    def first(self) -> psutil.Process:
        """The container's process 1."""
        return psutil.Process(self.pid).children()[0]

    def stop(self, timeout: float = 60) -> int:
        """Send SIGTERM to process 1, as a cluster does, and return its exit code."""
        assert self.process is not None
        self.first.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End the container at once."""
        assert self.process is not None
        # All others die with process 1. --kill-child cannot: Linux forgets that wish when a process changes its user.
        for first in psutil.Process(self.pid).children() if self.process.poll() is None else ():
            first.kill()
        self.process.kill()
        self.process.wait(10)
