from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.schemas.compiling.event_names import snake_case


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("MyEvent", "my_event"),
        ("Push", "push"),
        ("HTTPPing", "http_ping"),
        ("PingHTTP", "ping_http"),
        ("V2Thing", "v2_thing"),
        ("ThingV2", "thing_v2"),
        ("OAuth2Token", "o_auth2_token"),
        ("SHA256Sum", "sha256_sum"),
        ("ABTest", "ab_test"),
        ("A", "a"),
        ("AB", "ab"),
        ("my_event", "my_event"),
        ("My_Event", "my_event"),
        ("MY_EVENT", "my_event"),
        ("_Private", "_private"),
        ("x9", "x9"),
    ],
)
def test_the_words_of_a_messages_name_are_parted_by_underscores(message, event):
    assert snake_case(message) == event


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True))
def test_a_name_made_of_a_messages_is_a_word_of_the_same_letters_and_stays_what_it_is(message):
    event = snake_case(message)
    assert event == event.lower()
    assert event.replace("_", "") == message.replace("_", "").lower()
    assert snake_case(event) == event
