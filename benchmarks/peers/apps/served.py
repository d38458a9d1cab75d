"""The model inside a peer's process, exactly as a Muleteer worker holds it, counting what it is asked.

Imports nothing but the standard library and what loads the model, because it runs in every peer's environment.
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.own_forests import with_own_forests
from muleteer_worker.readiness import LoadedVersion, prepare

TOLD_EVERY_SECONDS = 0.2


class Served:
    """One process's model. Its calls and rows are told to the benchmark in a file that has the process's id."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENCH_FOLDER"])
        self._version: LoadedVersion = prepare(os.environ["BENCH_MODEL"], folder.name, str(folder), folder, frozenset())
        if os.environ.get("BENCH_OWN_FORESTS"):
            with_own_forests(self._version)
        self._told = Path(os.environ["BENCH_READY_DIR"], str(os.getpid()))
        self.calls = 0
        self.rows = 0
        self._tell()
        threading.Thread(target=self._keep_telling, name="tell", daemon=True).start()

    def predict(self, instances: list[dict[str, Any]]) -> list[Any]:
        """Return one prediction for each instance."""
        self.calls += 1
        self.rows += len(instances)
        return self._version.predict(instances)

    def _keep_telling(self) -> None:
        told = 0
        while True:
            time.sleep(TOLD_EVERY_SECONDS)
            if self.calls != told:
                told = self.calls
                self._tell()

    def _tell(self) -> None:
        # Written aside and renamed, so that nobody reads half of it.
        new = self._told.with_name(f".{self._told.name}")
        new.write_text(json.dumps({"calls": self.calls, "rows": self.rows}))
        new.replace(self._told)


def port() -> int:
    """Return the port to listen on."""
    return int(os.environ["BENCH_PORT"])
