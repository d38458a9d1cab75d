"""BentoML: a batchable API in two workers. Started by ``bentoml serve``."""

from typing import Any

import bentoml

from benchmarks.peers.apps.served import Served


@bentoml.service(
    workers=2,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Model:
    """One worker."""

    def __init__(self) -> None:
        self._served = Served()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000, route="/predict")  # type: ignore[untyped-decorator]  # - not typed here
    async def predict(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the predictions of a batch. ``async``: on the event loop, without a hop to a thread and back."""
        return self._served.predict(instances)
