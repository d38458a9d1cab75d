"""What stock RQ's jobs name: the resident model's prediction for one instance."""

import functools
from typing import Any

from benchmarks.peers.apps.served import Served


@functools.cache
def served() -> Served:
    """Return this process's model, loaded at the first call."""
    return Served()


def predict(instance: dict[str, Any]) -> Any:
    """Return the prediction for one instance."""
    return served().predict([instance])[0]
