"""Prefer: what is asked for by RFC 7240's rules, and what is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muleteer_gateway.prefer import SYNC, Preference, read_prefer

MAX_WAIT = 300.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", SYNC),
        ("respond-async", Preference("async")),
        ("Respond-Async", Preference("async")),
        ("wait=5", Preference("wait", 5.0)),
        ("WAIT = 5", Preference("wait", 5.0)),
        ('wait="5"', Preference("wait", 5.0)),
        ("wait=5; foo=bar", Preference("wait", 5.0)),
        ("respond-async, wait=10", Preference("wait", 10.0, respond_async=True)),
        ("wait=10,respond-async", Preference("wait", 10.0, respond_async=True)),
        ("wait=1, wait=2", Preference("wait", 1.0)),
        ("wait=0", Preference("async")),
        ("wait=0, respond-async", Preference("async")),
        ("wait=9999999", Preference("wait", MAX_WAIT)),
        ("wait=" + "9" * 400, Preference("wait", MAX_WAIT)),
        ("return=minimal", SYNC),
        ("handling=lenient, respond-async", Preference("async")),
        ("wait", SYNC),
        ("wait=", SYNC),
        ("wait=soon", SYNC),
        ("wait=-1", SYNC),
        ("wait=1.5", SYNC),
        ("wait=\u00b2", SYNC),
        (",,;;==", SYNC),
    ],
)
def test_a_preference_is_understood_or_ignored(header: str, expected: Preference) -> None:
    assert read_prefer(header.encode("latin-1"), MAX_WAIT) == expected


@pytest.mark.parametrize(
    ("preference", "value"),
    [(SYNC, b""), (Preference("async"), b"respond-async"), (Preference("wait", 5.0), b"wait=5")],
)
def test_what_was_applied_is_told(preference: Preference, value: bytes) -> None:
    assert preference.applied == value


@given(st.binary(max_size=200))
def test_any_header_gives_a_preference_with_a_bounded_wait(header: bytes) -> None:
    wait = read_prefer(header, MAX_WAIT).wait
    assert wait is None or 0 < wait <= MAX_WAIT
