"""Stock RQ's worker: a SimpleWorker, which does not fork, with the model resident."""

import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks.resident import resident, tell_ready
from benchmarks.settings import SubjectSettings
from benchmarks.stock_gateway import QUEUE


def main() -> None:
    """Work until SIGTERM."""
    settings = SubjectSettings()
    resident()
    worker = SimpleWorker(
        [QUEUE],
        connection=redis.Redis.from_url(settings.redis_url, socket_timeout=None),
        serializer=JSONSerializer,
        log_job_description=False,
    )
    tell_ready(settings)
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
