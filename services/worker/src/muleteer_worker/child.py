"""One process of a worker pod: ``python -m muleteer_worker.child``, started by the parent and by nobody else."""

import ctypes
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from muleteer.children import PR_SET_PDEATHSIG
from muleteer.errors import CatalogError, SettingsError
from muleteer_worker.exposition import share_metrics


@dataclass(frozen=True, slots=True)
class ChildOrders:
    """What the parent tells a child on its command line."""

    slot: int
    """Which of the pod's processes this one is; whoever is started again has the slot of the one before it."""
    name: str
    """The worker's name in the queue, another one for every start."""
    parent: int
    status_fd: int
    metrics_dir: Path

    def arguments(self) -> list[str]:
        """Return the orders as command-line arguments."""
        return [str(self.slot), self.name, str(self.parent), str(self.status_fd), str(self.metrics_dir)]


def read_orders(arguments: list[str]) -> ChildOrders:
    """Return the orders that ``arguments`` hold."""
    slot, name, parent, status_fd, metrics_dir = arguments
    return ChildOrders(int(slot), name, int(parent), int(status_fd), Path(metrics_dir))


def die_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent dies; end at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(os.EX_UNAVAILABLE)


def main(arguments: list[str]) -> int:
    """Run until SIGTERM; return the exit code."""
    orders = read_orders(arguments)
    die_with_parent(orders.parent)
    share_metrics(orders.metrics_dir, str(orders.slot))
    from muleteer_worker.process import run_process  # noqa: PLC0415 - metrics are made when it is imported

    try:
        return run_process(orders)
    except (SettingsError, CatalogError) as error:
        sys.stderr.write(f"muleteer-worker: {error}\n")
        return os.EX_CONFIG


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except BaseException:  # noqa: BLE001 - told here, because the process ends without Python's own handling
        traceback.print_exc()
        code = os.EX_SOFTWARE
    # Not sys.exit: it would wait for the loader thread, which may be minutes into a load that nobody needs now.
    os._exit(code)
