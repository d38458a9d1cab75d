"""The processes of a running system: what they have used, and how much memory they hold."""

from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """All that descends from a launcher, the launcher itself left out."""

    launcher: psutil.Process

    def members(self) -> list[psutil.Process]:
        """Return the processes that live now."""
        try:
            return self.launcher.children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, that of members which have ended included."""
        used = self.launcher.cpu_times()
        total = used.children_user + used.children_system
        for member in self.members():
            try:
                times = member.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mib(self) -> float:
        """Return the proportional set size of all members: a page that several share counts once."""
        total = 0
        for member in self.members():
            try:
                total += parse_pss(Path(f"/proc/{member.pid}/smaps_rollup").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
        return total / MIB


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's command; empty when it has just ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def parse_pss(rollup: str) -> int:
    """Return the bytes that the line ``Pss`` of a ``smaps_rollup`` names; 0 when there is none."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0
