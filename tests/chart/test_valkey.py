"""Valkey as the chart starts it, for real: its start script, its configuration and its probes with a real server."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from muleteer.children import start_child
from muleteer.embedded import HOST, find_binary, free_port
from muleteer_gateway.settings import GatewaySettings
from support.chart import one, pod, render
from support.waiting import wait_until

ODD = "p ä\"ss'wo\\rd $(id) `id` ${HOME} %41 #@:/?&\\n x"
EASY = "secret"


class Pod:
    """The container of the chart's Valkey in a folder: its files, its command and its environment."""

    def __init__(self, folder: Path, password: str, values: dict[str, Any] | None = None) -> None:
        manifests = render({"valkey": values or {}})
        self.container = pod(manifests, "valkey").main
        self.folder, self.password, self.port = folder, password, free_port()
        (folder / "data").mkdir(exist_ok=True)
        config = one(manifests, "ConfigMap", "-valkey")["data"]["valkey.conf"]
        assert "\ndir /data\n" in config
        assert "\nport 6379\n" in config
        config = config.replace("dir /data", f"dir {folder / 'data'}").replace("port 6379", f"port {self.port}")
        (folder / "valkey.conf").write_text(config)
        # What the image has on its PATH, and a client that finds the server at another port than in the pod.
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        server = programs / "valkey-server"
        server.unlink(missing_ok=True)
        server.symlink_to(find_binary())
        client = shutil.which("valkey-cli") or shutil.which("redis-cli")
        if client:
            (programs / "valkey-cli").write_text(f'#!/bin/sh\nexec {client} -p {self.port} "$@"\n')
            (programs / "valkey-cli").chmod(0o755)
        self.environment = {"PATH": f"{programs}:{os.defpath}", "VALKEY_PASSWORD": password}

    def command(self) -> list[str]:
        """Return the container's command, with the path of its configuration in the folder."""
        *words, script = self.container["command"]
        assert "/etc/valkey/valkey.conf" in script
        return [*words, script.replace("/etc/valkey/valkey.conf", str(self.folder / "valkey.conf"))]

    @contextlib.contextmanager
    def running(self) -> Iterator[redis.Redis]:
        """Start the server; yields a client that knows the password. It is stopped as Kubernetes does it."""
        with start_child(self.command(), cwd=self.folder, env=self.environment) as process:
            try:
                client = self.client(self.password)
                wait_until(lambda: self.listens() or process.poll() is not None, what="a listening server")
                assert process.poll() is None, "the server has ended"
                yield client
            finally:
                process.terminate()
                process.wait(timeout=20)

    def client(self, password: str | None) -> redis.Redis:
        """Return a client with this password, which says at once what is wrong."""
        return redis.Redis(HOST, self.port, password=password, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def listens(self) -> bool:
        """Tell whether the port is open and the server has loaded its data."""
        try:
            return bool(self.client(self.password).ping())
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False

    def probe(self, kind: str) -> bool:
        """Run a probe's command as the kubelet does, with its time limit, and tell whether it succeeds."""
        probe = self.container[f"{kind}Probe"]
        done = subprocess.run(
            probe["exec"]["command"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            timeout=probe["timeoutSeconds"] + 15,  # the machine may be busy
            check=False,
        )
        return done.returncode == 0


needs_client = pytest.mark.skipif(
    not (shutil.which("valkey-cli") or shutil.which("redis-cli")),
    reason="there is no valkey-cli and no redis-cli on PATH to run the probes with",
)


@pytest.mark.parametrize("password", [EASY, ODD, "0123456789" * 20, '"', "\\", "'"])
def test_valkey_wants_the_password_whatever_is_in_it(password: str, tmp_path: Path) -> None:
    server = Pod(tmp_path, password)
    with server.running() as client:
        assert client.ping()
        with pytest.raises(redis.AuthenticationError):
            server.client(None).ping()
        with pytest.raises(redis.AuthenticationError):
            server.client("wrong").ping()
        # The way that the services take: the password as it is, beside a URL without one.
        settings = GatewaySettings(redis_url=f"redis://{HOST}:{server.port}/0", redis_password=password)
        assert redis.Redis.from_url(settings.redis).ping()


def test_valkey_keeps_every_job_on_disk_and_throws_none_away(tmp_path: Path) -> None:
    server = Pod(tmp_path, EASY, {"resources": {"limits": {"memory": "512Mi"}}})
    with server.running() as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": str(512 * 1024**2 * 60 // 100),
            "maxmemory-policy": "noeviction",
            "protected-mode": "yes",
            "dir": str(tmp_path / "data"),
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.rpush("jobs", "a", "b")
    with server.running() as client:
        assert client.lrange("jobs", 0, -1) == [b"a", b"b"]


def test_a_full_valkey_refuses_jobs_and_loses_none(tmp_path: Path) -> None:
    with Pod(tmp_path, EASY, {"maxmemory": "4mb"}).running() as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(4 * 1024**2)
        stored = 0
        with contextlib.suppress(redis.OutOfMemoryError):
            while stored < 1000:
                client.set(f"job:{stored}", b"x" * 10_000)
                stored += 1
        assert 0 < stored < 1000
        assert client.dbsize() == stored
        assert client.info("stats")["evicted_keys"] == 0


def test_lines_of_ones_own_are_read_last(tmp_path: Path) -> None:
    with Pod(tmp_path, EASY, {"extraConfig": "maxclients 123\nappendfsync always\n"}).running() as client:
        assert client.config_get("maxclients")["maxclients"] == "123"
        assert client.config_get("appendfsync")["appendfsync"] == "always"


def test_the_password_is_in_no_file_and_no_process_list(tmp_path: Path) -> None:
    with Pod(tmp_path, "find-me-if-you-can").running() as client:
        process = client.info("server")["process_id"]
        assert b"find-me-if-you-can" not in Path(f"/proc/{process}/cmdline").read_bytes()
        for path in tmp_path.rglob("*"):
            assert path.is_symlink() or not path.is_file() or b"find-me-if-you-can" not in path.read_bytes()


def test_valkey_is_the_first_process_so_that_it_gets_the_signal_to_end(tmp_path: Path) -> None:
    server = Pod(tmp_path, EASY)
    with start_child(server.command(), cwd=server.folder, env=server.environment) as process:
        wait_until(server.listens, what="a listening server")
        assert server.client(EASY).info("server")["process_id"] == process.pid
        process.terminate()
        assert process.wait(timeout=20) == 0


@needs_client
@pytest.mark.parametrize("password", [EASY, ODD])
def test_probes_get_in_with_any_password(password: str, tmp_path: Path) -> None:
    server = Pod(tmp_path, password)
    assert not server.probe("startup")
    assert not server.probe("liveness")
    assert not server.probe("readiness")
    with server.running():
        assert server.probe("startup")
        assert server.probe("liveness")
        assert server.probe("readiness")


@needs_client
def test_probes_notice_a_password_that_is_not_the_servers(tmp_path: Path) -> None:
    server = Pod(tmp_path, EASY)
    with server.running():
        server.environment["VALKEY_PASSWORD"] = "another"  # noqa: S105 - not a secret
        assert not server.probe("readiness")


@needs_client
def test_a_server_that_runs_a_long_script_is_alive_but_not_ready(tmp_path: Path) -> None:
    server = Pod(tmp_path, EASY)
    with server.running() as client:
        client.config_set("busy-reply-threshold", 1)
        endless = threading.Thread(target=run_until_killed, args=(server.client(EASY),))
        endless.start()
        try:
            wait_until(lambda: is_busy(client), what="a busy server")
            assert server.probe("liveness")
            assert not server.probe("readiness")
        finally:
            client.script_kill()
            endless.join()
        wait_until(lambda: not is_busy(client), what="a server that answers again")
        assert server.probe("readiness")


def run_until_killed(client: redis.Redis) -> None:
    """Run a script that ends when it is killed, or after a minute."""
    with contextlib.suppress(redis.ResponseError, redis.TimeoutError):
        client.eval("local ends = redis.call('TIME')[1] + 60 while redis.call('TIME')[1] + 0 < ends do end", 0)


def is_busy(client: redis.Redis) -> bool:
    """Tell whether the server refuses to answer because of a script."""
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


@needs_client
def test_a_server_that_loads_its_data_is_alive_but_not_ready(tmp_path: Path) -> None:
    server = Pod(tmp_path, EASY)
    with server.running() as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(20_000):
            pipeline.set("job", number)
        pipeline.execute()
    # A brake, in microseconds a command, so that loading takes seconds, as it does with a large file.
    config = server.folder / "valkey.conf"
    config.write_text(f"{config.read_text()}\nkey-load-delay 150\n")
    with start_child(server.command(), cwd=server.folder, env=server.environment) as process:
        try:
            wait_until(lambda: is_loading(server), what="a server that loads")
            assert server.probe("startup")
            assert server.probe("liveness")
            ready = server.probe("readiness")
            assert not (ready and is_loading(server))
            server.client(EASY).config_set("key-load-delay", 0)
            wait_until(server.listens, what="a server that has loaded")
            assert server.probe("readiness")
        finally:
            process.terminate()
            process.wait(timeout=20)


def is_loading(server: Pod) -> bool:
    """Tell whether the server answers that it loads its data."""
    try:
        server.client(server.password).ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
    return False
