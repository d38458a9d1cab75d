"""The gateway's settings: read from the environment, and one clear line for each way to get them wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muleteer.errors import SettingsError
from muleteer.settings import load_settings
from muleteer_gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MULETEER_"):
            monkeypatch.delenv(name)


def test_every_setting_has_a_default_and_a_description() -> None:
    settings = load_settings(GatewaySettings)
    assert (settings.gateway_port, settings.keys, settings.callback_host_names) == (8080, {}, frozenset())
    assert all(field.description for field in GatewaySettings.model_fields.values())


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_API_KEYS", " one, two,,")
    monkeypatch.setenv("MULETEER_CALLBACK_HOSTS", "A.example, b.example")
    settings = load_settings(GatewaySettings)
    assert list(settings.keys) == [b"one", b"two"]
    assert settings.callback_host_names == {"a.example", "b.example"}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_API_KEYS", "hush-1")
    monkeypatch.setenv("MULETEER_CALLBACK_SECRET", "hush-2")
    assert "hush" not in repr(load_settings(GatewaySettings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MULETEER_GATEWAY_PORT", "eighty"),
        ("MULETEER_GATEWAY_PORT", "70000"),
        ("MULETEER_MAX_BODY_BYTES", "1"),
        ("MULETEER_MAX_WAIT_SECONDS", "0"),
        ("MULETEER_LOG_LEVEL", "loud"),
        ("MULETEER_ACCESS_LOG", "perhaps"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(GatewaySettings)
    assert f"{name}={value!r}: " in caught.value.message
    assert "\n" not in caught.value.message


def test_two_ports_that_are_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_GATEWAY_PORT", "9090")
    monkeypatch.setenv("MULETEER_METRICS_PORT", "9090")
    with pytest.raises(SettingsError) as caught:
        load_settings(GatewaySettings)
    assert caught.value.message.startswith("MULETEER_METRICS_PORT and MULETEER_GATEWAY_PORT are both 9090: ")


def start(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MULETEER_")}
    command = [sys.executable, "-m", "muleteer_gateway"]
    return subprocess.run(command, env=clean | env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_gateway_with_wrong_settings_says_all_of_them_in_one_line_and_ends_with_78(tmp_path: Path) -> None:
    ended = start(tmp_path, MULETEER_GATEWAY_PORT="eighty", MULETEER_OBSERVE_SECONDS="-1")
    assert ended.returncode == 78
    (line,) = ended.stderr.splitlines()
    assert line.startswith("muleteer-gateway: ")
    assert "MULETEER_GATEWAY_PORT='eighty'" in line
    assert "MULETEER_OBSERVE_SECONDS='-1'" in line


@pytest.mark.parametrize("text", [None, "models: [", "models: {Bad_Name: {versions: {'1': {}}}}"])
def test_a_gateway_without_a_catalog_that_can_be_read_says_so_in_one_line_and_ends_with_78(
    tmp_path: Path, text: str | None
) -> None:
    catalog = tmp_path / "catalog.yaml"
    if text is not None:
        catalog.write_text(text)
    ended = start(tmp_path, MULETEER_CATALOG=str(catalog))
    assert ended.returncode == 78
    (line,) = ended.stderr.splitlines()
    assert str(catalog) in line


def test_a_gateway_that_cannot_reach_redis_says_so_and_ends_with_69(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("models: {}")
    env = {"MULETEER_CATALOG": str(catalog), "MULETEER_REDIS_URL": "redis://127.0.0.1:1/0"}
    ended = start(tmp_path, MULETEER_STARTUP_SECONDS="0.2", **env)
    assert ended.returncode == 69
    assert "MULETEER_REDIS_URL" in ended.stderr.splitlines()[-1]
