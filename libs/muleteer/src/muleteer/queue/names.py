"""The wire contract's names: queues, Redis keys and the fields of a job hash.

Job, queue, result and registry keys are RQ 2.12's own; keys that begin with ``muleteer:`` are ours.
"""

from typing import Literal

RQ_FUNCTION = "muleteer_worker.stock.predict"
"""Dotted name in every job's ``data``: what a stock RQ worker calls to run the job."""

WIP_GUARD_SECONDS = 86_400
"""Added to a lease's end in ``rq:wip:*``: RQ's own clean-up (``rq info`` runs it) fails jobs past that score,
while an expired lease of ours is to be requeued by the reaper."""

EXECUTION_PREFIX = "mt-"
"""How the execution ids of Muleteer's workers begin; others belong to stock RQ workers."""


def queue_name(model: str, version: str) -> str:
    """Return the RQ queue of a model version: ``sentiment.2``. Model names hold no dot, versions may."""
    return f"{model}.{version}"


def split_queue_name(queue: str) -> tuple[str, str]:
    """Return (model, version) of a queue's name."""
    model, _, version = queue.partition(".")
    return model, version


def bell_key(pool: str) -> str:
    """Return the list of empty tokens that wakes an idle worker of ``pool``."""
    return f"muleteer:bell:{pool}"


def replies_key(gateway: str) -> str:
    """Return the list on which a gateway process gets its answers."""
    return f"muleteer:replies:{gateway}"


def workers_key(pool: str) -> str:
    """Return the sorted set of a pool's live workers, scored by when each is given up (server's clock)."""
    return f"muleteer:workers:{pool}"


def versions_key(model: str) -> str:
    """Return the hash ``version|worker`` -> JSON of what each worker says of each version of ``model``."""
    return f"muleteer:versions:{model}"


def ledger_key(queue: str) -> str:
    """Return the hash that accounts for a queue's jobs.

    At any moment accepted = finished + failed + canceled + expired + queued + running. ``rows`` and ``batch_rows`` are
    the instances queued in each class, ``laned`` the jobs queued in other lanes than the queue's own list.
    """
    return f"muleteer:ledger:{queue}"


def cost_key(queue: str) -> str:
    """Return the hash of what a model version costs: seconds a batch (a) and a row (b), load seconds, bytes."""
    return f"muleteer:cost:{queue}"


JobClass = Literal["interactive", "batch"]
"""Interactive jobs have somebody waiting for them; those of the batch class do not."""


def ring_key(queue: str, job_class: JobClass) -> str:
    """Return the sorted set of a class's lanes that hold jobs, scored by the rows that each was given."""
    return f"muleteer:lanes:{queue}:{job_class}"


def lane_name(queue: str, job_class: JobClass, client: str) -> str:
    """Return the lane in which a client's jobs of one class wait; it is an RQ queue too.

    Nameless clients' interactive jobs wait in the queue itself.
    """
    if client:
        return f"{queue}:{job_class}:@{client}"
    return queue if job_class == "interactive" else f"{queue}:{job_class}"


def holders_key(queue: str) -> str:
    """Return the set of workers that hold a model version and may let it go again."""
    return f"muleteer:holders:{queue}"
