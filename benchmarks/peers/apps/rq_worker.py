"""Stock RQ's worker: a SimpleWorker, which does not fork, with the model resident."""

import os

import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks.peers.apps.rq_front import QUEUE
from benchmarks.peers.apps.rq_job import served


def main() -> None:
    """Work until SIGTERM."""
    served()
    worker = SimpleWorker(
        [QUEUE],
        connection=redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], socket_timeout=None),
        serializer=JSONSerializer,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
