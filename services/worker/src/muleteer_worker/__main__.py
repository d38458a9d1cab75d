"""``python -m muleteer_worker``: a worker pod, configured by ``MULETEER_…`` variables."""

import sys
import tempfile
from pathlib import Path

from muleteer.errors import CatalogError, SettingsError
from muleteer.logs import configure_logging
from muleteer.settings import load_settings
from muleteer.startup import EXIT_WRONG_SETTING, RedisUnreachableError
from muleteer_worker.exposition import PARENT, share_metrics
from muleteer_worker.settings import WorkerSettings


def main() -> int:
    """Run the pod and return its exit code: 0 after a drain, 78 wrong setting or catalog, 69 Redis out of reach."""
    try:
        settings = load_settings(WorkerSettings)
        configure_logging("worker", settings.log_level, settings.log_format)
        with tempfile.TemporaryDirectory(prefix="muleteer-worker-metrics-") as directory:
            share_metrics(Path(directory), PARENT)
            from muleteer_worker.startup import run_pod  # noqa: PLC0415 - metrics are made when it is imported

            return run_pod(settings, Path(directory))
    except (SettingsError, CatalogError) as error:
        sys.stderr.write(f"muleteer-worker: {error}\n")
        return EXIT_WRONG_SETTING
    except RedisUnreachableError as error:
        sys.stderr.write(f"muleteer-worker: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
