"""``muleteer jobs``: look at a job, wait for it, cancel it."""

from datetime import datetime
from typing import Annotated

import typer

from muleteer.cli.output import print_json, print_table, say
from muleteer.cli.server import DEFAULT_URL, ApiKey, Url, connect
from muleteer.client import Job

app = typer.Typer(help="Look at a job, wait for it, cancel it.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


@app.command()
def show(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole document as JSON.")] = False,
) -> None:
    """Show what is known of a job."""
    with connect(url, api_key) as client:
        job = client.job(job_id)
    if as_json:
        print_json(job.model_dump(mode="json", exclude_none=True))
    else:
        print_table(["job", job.id], describe(job))


@app.command()
def wait(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait.")] = 60.0,
) -> None:
    """Wait for a job and print its predictions as JSON."""
    with connect(url, api_key) as client:
        print_json(client.result(job_id, timeout))


@app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Cancel a job and print the status it has then."""
    with connect(url, api_key) as client:
        say(client.cancel(job_id).status)


def describe(job: Job) -> list[list[str]]:
    """Return what is known of a job as rows of name and value."""
    rows = [["status", job.status], ["model", f"{job.model} version {job.version}"]]
    times = {"created": job.created_at, "started": job.started_at, "ended": job.ended_at}
    rows += [[name, _local(time)] for name, time in times.items() if time is not None]
    if job.position is not None:
        rows.append(["position in queue", str(job.position)])
    if job.eta_seconds is not None and not job.ended:
        rows.append(["expected in", f"{job.eta_seconds:.1f} s"])
    if job.deliveries:
        rows.append(["lost deliveries", str(job.deliveries)])
    if job.error is not None:
        rows.append(["error", f"{job.error.type}: {job.error.message}"])
    return rows


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
