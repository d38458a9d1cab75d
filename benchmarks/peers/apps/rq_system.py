"""Stock RQ as a system: Valkey, a front and a worker, and what a supervisor does: a worker that dies is replaced."""

import os
import sys
import time
from pathlib import Path

from muleteer.cli.part import Part
from muleteer.embedded import EmbeddedValkey


def main() -> None:
    """Serve until killed."""
    with EmbeddedValkey(Path(os.environ["BENCH_STATE"], "valkey")) as valkey:
        settings = {"BENCH_REDIS_URL": valkey.url}

        def part(name: str) -> Part:
            return Part(name, f"benchmarks.peers.apps.rq_{name}", settings, lambda line: print(line, file=sys.stderr))

        worker, front = part("worker"), part("front")
        while True:
            front.check()
            if worker.process.poll() is not None:
                worker = part("worker")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
