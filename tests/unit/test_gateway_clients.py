"""Who calls: names of keys, of headers, and whose limits are whose."""

import pytest

from muleteer.errors import BadRequestError, SettingsError
from muleteer.queue.producer import ClientLimits
from muleteer.settings import load_settings
from muleteer_gateway.clients import Clients, client_id, read_keys
from muleteer_gateway.http import RequestHeaders
from muleteer_gateway.settings import GatewaySettings

NONE = ClientLimits()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", {}),
        ("web=abc, etl=def", {b"abc": "web", b"def": "etl"}),
        ("web=YWJj==", {b"YWJj==": "web"}),  # the key is base64 with its padding
        ("web=a=b", {b"a=b": "web"}),
    ],
)
def test_keys_have_the_names_that_they_are_given(text: str, keys: dict[bytes, str]) -> None:
    assert read_keys(text) == keys


@pytest.mark.parametrize("key", ["abc", "YWJj==", "a:b"])
def test_a_key_without_a_name_is_named_by_its_digest(key: str) -> None:
    ((found, name),) = read_keys(key).items()
    assert found == key.encode()
    assert name.startswith("key-")
    assert key not in name


@pytest.mark.parametrize("name", ["web", "team-a", "team_a", "A1"])
def test_a_plain_name_is_its_own_id(name: str) -> None:
    assert client_id(name) == name


@pytest.mark.parametrize("name", ["a:b", "a b", "ü", "x" * 33, "a.b"])
def test_any_other_name_becomes_a_digest_that_keys_can_hold(name: str) -> None:
    assert len(client_id(name)) == 16
    assert client_id(name).isalnum()
    assert client_id(name) != client_id(name + "x")


def test_without_keys_the_header_names_the_client() -> None:
    clients = Clients({}, NONE, {})
    assert clients.identify(RequestHeaders(client_id=b"team-a")).id == "team-a"
    assert clients.identify(RequestHeaders()).id == ""


def test_with_keys_the_header_names_nobody() -> None:
    clients = Clients({b"abc": "web"}, NONE, {})
    assert clients.identify(RequestHeaders(api_key=b"abc", client_id=b"somebody-else")).id == "web"


@pytest.mark.parametrize("sent", [b"x" * 101, b"", b" ", b"a b", b"a\x00b", b"\xe9"])
def test_a_header_that_is_no_name_is_refused(sent: bytes) -> None:
    with pytest.raises(BadRequestError, match="X-Client-Id must be"):
        Clients({}, NONE, {}).identify(RequestHeaders(client_id=sent))


def test_limits_are_the_clients_own_or_those_of_all() -> None:
    default, special = ClientLimits(rate=5), ClientLimits(concurrency=2)
    clients = Clients({b"abc": "web", b"def": "etl"}, default, {"etl": special, "free": NONE})
    assert clients.identify(RequestHeaders(api_key=b"abc")).limits == default
    assert clients.identify(RequestHeaders(api_key=b"def")).limits == special
    named = Clients({}, default, {"free": NONE})
    assert named.identify(RequestHeaders(client_id=b"free")).limits is None
    assert named.identify(RequestHeaders()).limits == default


def test_limits_come_from_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_CLIENT_RATE", "7")
    monkeypatch.setenv("MULETEER_CLIENT_LIMITS", '{"etl": {"rate": 2, "burst": 4, "concurrency": 1}}')
    settings = load_settings(GatewaySettings)
    assert settings.default_limits == ClientLimits(7, 0, 0)
    assert settings.special_limits == {"etl": ClientLimits(2, 4, 1)}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "is not JSON"),
        ('{"etl": {"rates": 2}}', "extra inputs"),
        ('{"etl": {"rate": -1}}', "greater than or equal"),
    ],
)
def test_wrong_limits_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("MULETEER_CLIENT_LIMITS", value)
    with pytest.raises(SettingsError, match=f"(?i)MULETEER_CLIENT_LIMITS.*{said}"):
        load_settings(GatewaySettings)
