"""Redis's URL, put together from settings: what goes in comes out at redis-py, and no message shows a secret."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url as parse_url_async
from redis.connection import parse_url

from muleteer.errors import SettingsError
from muleteer.redis_url import with_credentials, without_secrets
from muleteer.settings import Settings, load_settings
from support.tls import Authority

URL = "redis://127.0.0.1:6379/3"
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MULETEER_"):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **env: str) -> Settings:
    for name, value in env.items():
        monkeypatch.setenv(f"MULETEER_REDIS_{name}", value)
    return load_settings(Settings)


def message(monkeypatch: pytest.MonkeyPatch, **env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **env)
    assert "\n" not in caught.value.message
    return caught.value.message


@given(username=TEXT, password=TEXT)
def test_any_user_and_password_arrive_as_they_are(username: str, password: str) -> None:
    for url, rest in (
        (URL, {"host": "127.0.0.1", "port": 6379, "db": 3}),
        ("rediss://[::1]:1/?ssl_cert_reqs=none", {"host": "::1", "port": 1, "ssl_cert_reqs": "none"}),
        ("unix:///run/valkey.sock", {"path": "/run/valkey.sock"}),
    ):
        for parse in (parse_url, parse_url_async):
            found = dict(parse(with_credentials(url, username, password)))
            assert found | rest == found
            assert (found["username"], found["password"]) == (username, password)


@given(password=TEXT)
def test_a_url_is_shown_without_what_is_secret(password: str) -> None:
    assert without_secrets(with_credentials(URL, "", password)) == "redis://***@127.0.0.1:6379/3"
    assert without_secrets(f"redis://user:{password}@h:1/0").startswith("redis://***@h:1/0")


def test_without_credentials_a_url_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, URL=URL, USERNAME="", PASSWORD="", CA="").redis == URL
    assert without_secrets(URL) == URL
    assert without_secrets("redis://h/0?password=x&db=1") == "redis://h/0?password=***&db=1"


def test_a_user_in_the_url_and_a_password_beside_it_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, URL="redis://me@h:1/0", PASSWORD="a/b")  # noqa: S106 - a test's
    assert settings.redis == "redis://me:a%2Fb@h:1/0"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"URL": "redis://:hush@h/0", "PASSWORD": "hush-2"}, "MULETEER_REDIS_URL and MULETEER_REDIS_PASSWORD both"),
        ({"URL": "redis://h/0?password=hush", "PASSWORD": "hush-2"}, "MULETEER_REDIS_PASSWORD both"),
        ({"URL": "redis://me@h/0", "USERNAME": "hush"}, "MULETEER_REDIS_URL and MULETEER_REDIS_USERNAME both"),
        ({"URL": "redsi://me:hush@h/0"}, "MULETEER_REDIS_URL='redsi://***@h/0': a Redis URL begins with"),
        ({"URL": "nonsense"}, "MULETEER_REDIS_URL='nonsense': "),
        ({"URL": "redis://:hush/hush@h:1/0"}, "MULETEER_REDIS_URL='redis://***@h:1/0': not a URL like"),
        ({"CA": "/nowhere/ca.pem"}, "MULETEER_REDIS_URL must begin with rediss://"),
        ({"URL": "rediss://h/0", "CA": "/nowhere/ca.pem"}, "MULETEER_REDIS_CA='/nowhere/ca.pem' cannot be read"),
        ({"URL": "rediss://h/0?ssl_ca_certs=x", "CA": "/nowhere/ca.pem"}, "take ssl_ca_certs out of the URL"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], said: str
) -> None:
    text = message(monkeypatch, **env)
    assert said in text
    assert "hush" not in text


def test_a_file_of_certificates_is_handed_to_redis_py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "with space & sign"
    folder.mkdir()
    authority = Authority(folder)
    settings = load(monkeypatch, URL="rediss://h:1/2?ssl_cert_reqs=required", CA=str(authority.ca), PASSWORD="x")  # noqa: S106 - a test's
    for parse in (parse_url, parse_url_async):
        found = dict(parse(settings.redis))
        assert (found["ssl_ca_certs"], found["ssl_cert_reqs"], found["db"]) == (str(authority.ca), "required", 2)
    (tmp_path / "empty.pem").write_text("no certificate")
    assert "cannot be read as PEM" in message(monkeypatch, CA=str(tmp_path / "empty.pem"))


def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, URL="redis://:hush@h/0", USERNAME="hush-user")
    assert "hush" not in repr(settings) + str(settings)
    assert settings.redis == "redis://hush-user:hush@h/0"
