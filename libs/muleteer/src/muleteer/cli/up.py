"""``muleteer up``: everything on one machine, until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    models: Annotated[
        Path, typer.Option(help="A catalog file, or a folder of <model>/<version>/ folders: the newest answers.")
    ] = Path("examples/catalog.yaml"),
    gateway_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the HTTP API; 0 takes a free one.")
    ] = 8080,
    worker_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the worker's health and metrics; 0 takes a free one.")
    ] = 9090,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes; each holds every model.")] = 2,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this Redis or Valkey server instead of the embedded one.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Where queue data and fetched models are kept.")] = Path(".muleteer"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log line, not only warnings.")] = False,
    then: Annotated[str | None, typer.Option(help="Run this command once everything is ready.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when the command of --then has ended.")] = False,
) -> None:
    """Start Valkey, a gateway and a worker on this machine and serve models until Ctrl-C."""
    if once and then is None:
        raise typer.BadParameter("--once needs a command: --then COMMAND")
    # it takes a while to import, and the other commands do without it
    from muleteer.cli.foreground import run_foreground  # noqa: PLC0415 - see above
    from muleteer.cli.system import SystemOptions  # noqa: PLC0415 - see above

    options = SystemOptions(
        models=models,
        gateway_port=gateway_port,
        worker_port=worker_port,
        processes=processes,
        redis_url=redis_url,
        state_dir=state_dir,
        host=host,
        log_level="info" if verbose else "warning",
    )
    raise typer.Exit(run_foreground(options, then, once=once))
