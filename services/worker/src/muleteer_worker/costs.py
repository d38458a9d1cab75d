"""What this process knows of its versions' costs: learned from its batches, shared with the other workers."""

from muleteer.metrics import COST_BATCH, COST_ROW
from muleteer.queue.consumer import Consumer
from muleteer.queue.cost import Cost
from muleteer.queue.names import split_queue_name
from muleteer_worker.fit import CostFit


class Costs:
    """The fits of all queues, and what of them bounds the next claims (``Consumer.costs``)."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._fits: dict[str, CostFit] = {}
        self._learned: set[str] = set()

    def begin(self, queue: str, max_rows: int) -> None:
        """Take up what other workers know of a queue, once. Raises redis.RedisError."""
        if queue not in self._fits:
            known = self._consumer.read_cost(queue)
            self._fits[queue] = CostFit(known, max_rows)
            if known is not None:
                self._take(queue, known)

    def observe(self, queue: str, rows: int, seconds: float) -> None:
        """Learn from a batch."""
        fit = self._fits.get(queue)
        if fit is None:
            return
        fit.observe(rows, seconds)
        if fit.cost is not None:
            self._consumer.costs[queue] = fit.cost
        self._learned.add(queue)

    def share(self) -> None:
        """Tell the other workers what was learned since the last time. Raises redis.RedisError."""
        if not self._learned:
            return
        costs = {queue: self._consumer.costs[queue] for queue in self._learned}
        for queue, cost in self._consumer.share_costs(costs).items():
            self._show(queue, cost)
        self._learned.clear()

    def _take(self, queue: str, cost: Cost) -> None:
        self._consumer.costs[queue] = cost
        self._show(queue, cost)

    @staticmethod
    def _show(queue: str, cost: Cost) -> None:
        model, version = split_queue_name(queue)
        COST_BATCH.labels(model, version).set(cost.batch_seconds)
        COST_ROW.labels(model, version).set(cost.row_seconds)
