"""Ray Serve: two replicas that batch with ``@serve.batch``, behind HAProxy or the default Python proxy."""

import asyncio
import os
from typing import Any

import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.apps.served import Served, port

CORES = 2
REPLICAS = 2


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Model:
    """One replica."""

    def __init__(self) -> None:
        self._served = Served()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]  # - as Ray is, here
    async def predict(self, instances: list[dict[str, Any]]) -> list[Any]:
        """Return the predictions of a batch."""
        return self._served.predict(instances)

    async def __call__(self, request: Request) -> Response:
        """Answer one request. Plain Starlette: Ray's FastAPI ingress costs more."""
        prediction = await self.predict(orjson.loads(await request.body()))
        return Response(orjson.dumps(prediction), media_type="application/json")


async def main() -> None:
    """Serve until killed."""
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        _temp_dir=os.environ["BENCH_STATE"],
        object_store_memory=100_000_000,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port(), "location": "HeadOnly"})
    application = Model.bind()  # type: ignore[attr-defined]  # - the decorator makes it a Deployment
    serve.run(application, route_prefix="/predict", logging_config={"enable_access_log": False})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
