"""A local system in the foreground: started, shown, watched and stopped in order on a signal."""

import json
import os
import shlex
import signal
import subprocess
import threading
import time

from muleteer.cli.output import hint, say
from muleteer.cli.system import LocalSystem, Progress, SystemOptions
from muleteer.client import Client
from muleteer.errors import SettingsError
from muleteer.redis_url import without_secrets


def run_foreground(options: SystemOptions, then: str | None, *, once: bool) -> int:
    """Run the system until a signal comes, or with ``once`` until the command ``then`` has ended.

    Returns the exit code of ``then``, else 0. Raises MuleteerError if a part cannot start or ends by itself.
    """
    system = LocalSystem(options, echo=hint)
    stop = stop_on_signals(system)
    code = 0
    try:
        bring_up(system, stop)
        if then is not None and not stop.is_set():
            code = run_command(then, system, stop)
        if not once and not stop.is_set():
            say(f"Serving on {named(system.url)} until Ctrl-C.")
        while not once and not stop.wait(0.5):
            system.check()
        say("Stopping: requests in progress are answered first.")
    finally:
        system.stop()
    return code


def stop_on_signals(system: LocalSystem) -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set. A second signal ends all processes at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set():
            system.kill()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    return stop


def bring_up(system: LocalSystem, stop: threading.Event) -> None:
    """Start the system, show how far it is, and say what can be done with it once it is ready."""
    begin = time.monotonic()
    system.start()
    say(f"redis    {without_secrets(system.redis_url)}")
    for pool, url in system.worker_urls().items():
        say(f"worker   {named(url)} (pool {pool}, {system.options.processes} processes)")
    say(f"gateway  {named(system.url)}")
    shown = ""

    def show(progress: Progress) -> None:
        nonlocal shown
        text = f"waiting for models: {progress.ready} of {progress.total} versions ready"
        if text != shown:
            say(text)
            shown = text

    progress = system.wait_ready(progress=show, stop=stop)
    if stop.is_set():
        return
    for name, reason in progress.failed.items():
        hint(f"{name} is not served: {reason}")
    say(f"Ready after {time.monotonic() - begin:.1f} s. API documentation: {named(system.url)}/docs")
    command = first_request(system.url)
    if command:
        say(f"Try:\n  {command}")


def named(url: str) -> str:
    """Return a URL as people write it."""
    return url.replace("//127.0.0.1:", "//localhost:")


def first_request(url: str) -> str:
    """Return a curl command that asks the first model that has an example, empty if none has."""
    with Client(url, reconnect=0) as client:
        for summary in client.models():
            examples = client.model(summary.name).examples
            if examples and "instance" in examples[0]:
                body = json.dumps({"instances": [examples[0]["instance"]]}, ensure_ascii=False)
                header = "-H 'Content-Type: application/json'"
                return f"curl {named(url)}/v1/models/{summary.name}:predict {header} -d {shlex.quote(body)}"
    return ""


def run_command(command: str, system: LocalSystem, stop: threading.Event) -> int:
    """Run a command with ``MULETEER_URL`` set and return its exit code; end it when the system is to stop."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
            shlex.split(command), env={**os.environ, "MULETEER_URL": system.url}
        )
    except (OSError, ValueError) as error:
        raise SettingsError(f"The command of --then cannot be run: {error}") from error
    with process:
        while process.poll() is None:
            if stop.wait(0.1):
                process.terminate()
                break
            system.check()
    return process.returncode if not stop.is_set() else 0
