"""LitServe: batches of 64 and its zmq transport."""

import os
from typing import Any

import litserve

from benchmarks.peers.apps.served import Served, port


class Model(litserve.LitAPI):  # type: ignore[misc]  # - not typed where this is checked
    """The model's hooks; the inference process runs them."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model."""
        self._served = Served()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the instance."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the batch as it is: a list of instances."""
        return inputs

    def predict(self, instances: list[dict[str, Any]]) -> list[Any]:
        """Return the predictions of a batch."""
        return self._served.predict(instances)

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the predictions one by one."""
        return output

    def encode_response(self, output: Any) -> Any:
        """Return the answer's body."""
        return output


def main() -> None:
    """Serve until killed."""
    api = Model(max_batch_size=64, batch_timeout=float(os.environ["BENCH_BATCH_TIMEOUT"]))
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        devices=1,
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        timeout=60,
        fast_queue=True,
        restart_workers=True,
    )
    server.run(
        host="127.0.0.1",
        port=port(),
        num_api_servers=int(os.environ["BENCH_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
