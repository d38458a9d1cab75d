"""What a process that a test spawns runs: it must be importable there, which test modules are not."""

from pathlib import Path
from typing import Any

from muleteer.repository.store import fetch_version


def fetch_in_process(uri: str, cache: Path, results: Any) -> None:
    """Fetch a version and tell where it is."""
    results.put(str(fetch_version(uri, cache)))
