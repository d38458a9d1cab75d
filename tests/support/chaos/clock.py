"""The wall clock of one pod, which a test can step."""

import struct
from pathlib import Path

HOOK = Path(__file__).parent / "stepped"


class Clock:
    """A file that says by how many seconds the clock of the processes with this ``env`` is off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(struct.pack("d", 0.0))

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(HOOK), "CHAOS_CLOCK": str(self._path)}

    def step(self, seconds: float) -> None:
        """Set the clock off by ``seconds`` against the real one."""
        with self._path.open("r+b") as file:  # in place: processes have mapped it
            file.write(struct.pack("d", seconds))
