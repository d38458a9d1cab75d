"""``muleteer smoke``: every version of a running system, asked for what it is known to answer."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from muleteer.cli.output import say
from muleteer.cli.server import DEFAULT_URL, ApiKey, Url, connect
from muleteer.client import Client, GoldenExample, ModelDetails, MuleteerAPIError, Unavailable, VersionStatus
from muleteer.repository.golden import difference

POLL_SECONDS = 0.5
ANSWERING = frozenset({"AVAILABLE", "COLD"})
"""States of versions that answer; a cold one is loaded for whoever asks it."""


def smoke(
    models: Annotated[list[str] | None, typer.Argument(help="Only these models.", show_default=False)] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the server and its versions, and for each answer.")
    ] = 60.0,
) -> None:
    """Predict every version's golden examples, sync and async, and compare: exit code 1 if one differs."""
    deadline = time.monotonic() + timeout
    failed = found = 0
    with connect(url, api_key, timeout) as client:
        client.wait_ready(timeout)
        for model in wait_for_versions(client, models or [], deadline):
            for version in model.versions:
                found += 1
                failed += not try_version(client, model, version, timeout)
    if not found:
        say("The server has no models.")
    if failed:
        say(f"{failed} of {found} versions failed")
        raise typer.Exit(1)


def wait_for_versions(client: Client, names: list[str], deadline: float) -> list[ModelDetails]:
    """Return the models once every version is available (or cold), or as they are at ``deadline`` (monotonic seconds).

    A version that no worker knows gets a job to wait for it: that is what brings workers to a pool scaled to zero.
    Raises NotFound for a named model that is not there, Unavailable if the server does not answer at the deadline.
    """
    woken: set[tuple[str, str]] = set()
    while True:
        try:
            found = [client.model(name) for name in names or [model.name for model in client.models()]]
            wake(client, found, woken)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        else:
            waiting = [version for model in found for version in model.versions if version.state not in ANSWERING]
            if not waiting or time.monotonic() > deadline:
                return found
        time.sleep(POLL_SECONDS)


def wake(client: Client, models: list[ModelDetails], woken: set[tuple[str, str]]) -> None:
    """Hand in a job for every version that no worker knows, once; its answer is of no interest."""
    for model in models:
        for version in model.versions:
            key = (model.name, version.version)
            if version.state == "UNKNOWN" and version.examples and key not in woken:
                client.submit(model.name, [version.examples[0].instance], version=version.version)
                woken.add(key)


def try_version(client: Client, model: ModelDetails, version: VersionStatus, timeout: float) -> bool:
    """Ask one version, print how it went and tell whether it went well."""
    name = f"{model.name} {version.version}"
    if version.state not in ANSWERING:
        error = version.status
        reason = ": ".join(part for part in (error.error_code, error.error_message) if part and part != "OK")
        say(f"{name}: FAILED, it is {version.state}" + (f": {reason}" if reason else " and does not become available"))
        return False
    if not version.examples:
        say(f"{name}: lists no examples, so it was not asked")
        return True
    began = time.monotonic()
    problems = list(find_problems(client, model, version, timeout))
    for problem in problems:
        say(f"{name}: FAILED, {problem}")
    if not problems:
        many = f"{len(version.examples)} example" + ("s" if len(version.examples) > 1 else "")
        say(f"{name}: ok, {many} sync and async in {time.monotonic() - began:.2f} s")
    return not problems


def find_problems(client: Client, model: ModelDetails, version: VersionStatus, timeout: float) -> Iterator[str]:
    """Yield what is wrong with a version's answers, a line each."""
    instances = [example.instance for example in version.examples]
    # A version that has all the traffic is asked as callers ask it.
    asked = None if list(model.traffic) == [version.version] else version.version
    try:
        answer = client.predict(model.name, instances, version=asked, timeout=timeout)
        yield from differences("sync", version.examples, answer)
    except MuleteerAPIError as error:
        yield f"sync: {error}"
    try:
        answer = client.result(client.submit(model.name, instances, version=asked), timeout)
        yield from differences("async", version.examples, answer)
    except MuleteerAPIError as error:
        yield f"async: {error}"


def differences(mode: str, examples: list[GoldenExample], predictions: Any) -> Iterator[str]:
    """Yield where predictions are not what they must be."""
    if not isinstance(predictions, list) or len(predictions) != len(examples):
        yield f"{mode}: {len(examples)} predictions are wanted, the answer is {predictions!r:.200}"
        return
    for index, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        line = difference(example.prediction, prediction, example.tolerance)
        if line:
            yield f"{mode}, example {index}: {line}"
