"""What is answered to a prediction request: predictions, a job, or the error the job ended with."""

from dataclasses import dataclass

import orjson

from muleteer.errors import ConflictError, JobTimeoutError, PredictionFailedError
from muleteer.queue import rqformat
from muleteer.queue.jobs import JobView
from muleteer.queue.producer import NewJob
from muleteer.queue.replies import Reply
from muleteer_gateway.documents import job_document, new_job_document
from muleteer_gateway.instances import Instances, render
from muleteer_gateway.intake import Target
from muleteer_gateway.prefer import Preference
from muleteer_gateway.problems import Headers


@dataclass(slots=True)
class Answer:
    """An answer, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


def answer_reply(job_id: str, version: bytes, reply: Reply, instances: Instances, target: Target) -> Answer:
    """Return the predictions that a reply holds.

    Raises PredictionFailedError, ConflictError (cancelled) or JobTimeoutError (expired) when it holds none.
    """
    if reply.status == "finished":
        queue = max(0.0, reply.waited) * 1000
        batch = max(0.0, reply.batch_seconds - reply.predict_seconds) * 1000
        timing = f"queue;dur={queue:.3f}, batch;dur={batch:.3f}, predict;dur={reply.predict_seconds * 1000:.3f}"
        headers = [
            (b"content-type", b"application/json"),
            (b"muleteer-model-version", version),
            (b"muleteer-job-id", job_id.encode()),
            (b"server-timing", timing.encode()),
        ]
        if instances.inference is not None:
            return Answer(200, headers, instances.inference.render(reply.payload, version.decode()))
        plain = target.protocol == "plain"
        return Answer(200, headers, render(reply.payload, instances.shape, instances.keys, plain=plain))
    if reply.status == "failed":
        error = orjson.loads(reply.payload)
        kind, message = error.get("type", "Error"), error.get("message", "")
        raise PredictionFailedError(f"{kind}: {message}", error_type=kind, error_message=message, job_id=job_id)
    if reply.status == "canceled":
        raise ConflictError("The job was cancelled while this request waited for it.", job_id=job_id)
    raise JobTimeoutError(f"No worker took the job in the time that {target.model} has (timeout).", retry_after=1)


def answer_job(view: JobView, prefer: Preference) -> Answer:
    """Return 202 with a job as it stands."""
    return _accepted(view.id, view.version.encode(), prefer, job_document(view))


def answer_new_job(job: NewJob, prefer: Preference, eta: float | None) -> Answer:
    """Return 202 with a job that was enqueued just now; ``eta`` is in seconds, None when nothing is known."""
    document = new_job_document(job.id, job.model, job.version, rqformat.timestamp(), eta)
    return _accepted(job.id, job.version.encode(), prefer, document)


def _accepted(job_id: str, version: bytes, prefer: Preference, document: dict[str, object]) -> Answer:
    headers = [
        (b"content-type", b"application/json"),
        (b"location", f"/v1/jobs/{job_id}".encode()),
        (b"preference-applied", prefer.applied),
        (b"muleteer-job-id", job_id.encode()),
        (b"muleteer-model-version", version),
    ]
    return Answer(202, headers, orjson.dumps(document))
