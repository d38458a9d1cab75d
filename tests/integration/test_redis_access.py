"""Redis with a password, with users, behind TLS: both services get in, and no secret gets out."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from muleteer.queue.connection import connect
from muleteer.redis_url import with_credentials
from support.models import write_catalog, write_version
from support.predict_api import ECHO, TEXT
from support.services import System
from support.tls import Authority, TlsDoor

PASSWORD = "p@ss/w:rd%# ?&=é"  # noqa: S105 - a test's
OTHER = "of-another-user/%40"
SECRETS = (PASSWORD, "p%40ss", "w:rd", OTHER, "of-another-user")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    write_version(tmp_path / "models", "echo")
    catalog = write_catalog(tmp_path / "catalog.yaml", {"echo": {"versions": {"1": {}}}})
    with System(tmp_path, catalog, MULETEER_STARTUP_SECONDS="1") as made:
        with connect(made.valkey.url) as connection:
            connection.acl_setuser("service", enabled=True, passwords=[f"+{OTHER}"], categories=["+@all"], keys=["*"])
            connection.config_set("requirepass", PASSWORD)
        yield made


def serve(system: System, **env: str) -> None:
    """Run a gateway and a worker with these settings, and assert that they answer and say no secret."""
    gateway, worker = system.add_gateway(**env), system.add_worker(**env)
    system.wait_ready()
    response = httpx.post(f"{gateway.url}{ECHO}", json=TEXT)
    assert response.json() == {"predictions": [{"echo": "hello"}]}
    assert "muleteer_redis_memory_bytes" in gateway.metrics()
    for service in (gateway, worker):
        assert_no_secret(service.log.read_text())


def assert_no_secret(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def refused(system: System, module: str, **env: str) -> str:
    """Run a service that cannot reach Redis, and return what it said."""
    service = {"muleteer_gateway": system.add_gateway, "muleteer_worker": system.add_worker}[module](**env)
    assert service.process is not None
    assert service.process.wait(60) == 69
    said = service.log.read_text()
    assert_no_secret(said)
    return said


def test_a_password_with_special_characters_is_given_as_it_is(system: System) -> None:
    serve(system, MULETEER_REDIS_PASSWORD=PASSWORD)


def test_a_user_and_a_password(system: System) -> None:
    serve(system, MULETEER_REDIS_USERNAME="service", MULETEER_REDIS_PASSWORD=OTHER)
    with connect(with_credentials(system.valkey.url, "", PASSWORD)) as connection:
        assert {client["user"] for client in connection.client_list()} == {"service", "default"}


def test_a_user_in_the_url_and_its_password_beside_it(system: System) -> None:
    url = system.valkey.url.replace("//", "//service@")
    serve(system, MULETEER_REDIS_URL=url, MULETEER_REDIS_PASSWORD=OTHER)


@pytest.mark.parametrize("module", ["muleteer_gateway", "muleteer_worker"])
@pytest.mark.parametrize("password", ["", "not-it"])
def test_without_the_right_password_a_service_ends_at_once_and_names_the_settings(
    system: System, module: str, password: str
) -> None:
    said = refused(system, module, MULETEER_REDIS_PASSWORD=password, MULETEER_STARTUP_SECONDS="60")
    assert "MULETEER_REDIS_PASSWORD" in said
    assert "not-it" not in said


def test_through_tls_with_an_authority_of_its_own(system: System, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TlsDoor(system.valkey.port, authority) as door:
        url = f"rediss://127.0.0.1:{door.port}/0"
        env = {"MULETEER_REDIS_URL": url, "MULETEER_REDIS_PASSWORD": PASSWORD}
        serve(system, MULETEER_REDIS_CA=str(authority.ca), **env)
        for module in ("muleteer_gateway", "muleteer_worker"):
            assert "certificate verify failed" in refused(system, module, **env)
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"), connect(url) as connection:
            connection.ping()


def test_a_password_in_the_url_is_not_shown_either(system: System, tmp_path: Path) -> None:
    url = with_credentials(system.valkey.url, "", PASSWORD)
    serve(system, MULETEER_REDIS_URL=url)
    program = "from muleteer.cli.app import main; main()"
    command = [sys.executable, "-c", program, "up", "--models", str(system.catalog), "--redis-url", url]
    command += ["--gateway-port", "0", "--worker-port", "0", "--state-dir", str(tmp_path / "up")]
    done = subprocess.run(
        [*command, "--then", "true", "--once"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "redis    redis://***@127.0.0.1" in done.stdout
    assert_no_secret(done.stdout + done.stderr)
