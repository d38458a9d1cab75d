"""The model inside a process, for the subjects that call it one request at a time."""

import functools
import os
from pathlib import Path
from typing import Any

from benchmarks.own_forests import with_own_forests
from benchmarks.settings import SubjectSettings
from muleteer_worker.readiness import LoadedVersion, prepare


def load_model(model: str, folder: Path) -> LoadedVersion:
    """Return a model exactly as a Muleteer worker holds it: checked, proved and warm."""
    return prepare(model, folder.name, str(folder), folder, frozenset())


@functools.cache
def resident() -> LoadedVersion:
    """Return this process's model, loaded at the first call."""
    settings = SubjectSettings()
    return with_own_forests(load_model(settings.model, settings.folder))


def predict(instance: dict[str, Any]) -> Any:
    """Return the prediction for one instance. This is also the function that stock RQ's jobs name."""
    return resident().predict([instance])[0]


def tell_ready(settings: SubjectSettings) -> None:
    """Let the benchmark know that this process can serve."""
    (settings.ready_dir / str(os.getpid())).touch()
