"""Names on the servers: any text goes in, comes out as it was, and means nothing to NATS on the way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.engines.nats.subjects import LONGEST, Names, escape, escape_path, unescape, unescape_path

TOKEN = re.compile(r"[A-Za-z0-9_=-]+")
NAMES = Names("certes")

texts = st.text(alphabet=st.characters(exclude_categories=()))


@given(texts)
def test_any_text_is_one_token_and_is_read_back(text: str) -> None:
    assert TOKEN.fullmatch(escape(text))
    assert unescape(escape(text)) == text


@given(texts)
def test_any_path_is_a_token_for_each_segment_and_is_read_back(path: str) -> None:
    tokens = escape_path(path).split(".")
    assert len(tokens) == path.count("/") + 1
    assert all(TOKEN.fullmatch(token) for token in tokens)
    assert unescape_path(escape_path(path)) == path


@given(texts, texts)
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (escape_path(one) == escape_path(other)) == (one == other)


@given(texts)
def test_a_document_s_key_is_read_back_from_its_subject(key: str) -> None:
    assert NAMES.key(NAMES.document(key)) == key


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("github", "github"),
        ("", "="),
        ("a.b", "a=2Eb"),
        ("=", "=3D"),
        ("*", "=2A"),
        (">", "=3E"),
        ("ü", "=C3=BC"),
        (" ", "=20"),
    ],
)
def test_tokens_are_as_documented(text: str, token: str) -> None:
    assert escape(text) == token


def test_the_subject_of_a_block_follows_the_event_uri() -> None:
    wanted = "certes.journal.of.community=2Ecertes=2Edev.github.1.push"
    assert NAMES.block("community.certes.dev/github/1/push") == wanted
    assert NAMES.block("events.meetly.com/_/1/my_event") == "certes.journal.of.events=2Emeetly=2Ecom._.1.my_event"
    assert NAMES.block("a.example/x/y/z/2/_version") == "certes.journal.of.a=2Eexample.x.y.z.2._version"


def test_a_block_of_several_types_or_of_one_too_long_has_a_subject_of_its_own() -> None:
    assert NAMES.block(None) == "certes.journal.mixed"
    assert NAMES.block(f"a.example/{'long/' * LONGEST}1/x") == "certes.journal.mixed"


def test_all_subjects_begin_with_the_prefix() -> None:
    other = Names("staging")
    subjects = [
        other.block("a.example/_/1/x"),
        other.lane("subscribers/a/subscriptions/b"),
        other.dead_letter("s", 1),
        other.gap("s", 1, 2),
        other.watermark("m1"),
        other.member("m1"),
        other.carried_ids("7-9"),
        other.members,
        other.post("m1"),
        other.attempts_of("s"),
        other.rejected_of("github"),
    ]
    assert all(subject.startswith("staging.") for subject in subjects)
    assert other.document("a/b") == "$KV.staging-settings.a.b"
    streams = (other.journal, other.lanes, other.attempts, other.rejected)
    assert all(stream.startswith("staging-") for stream in streams)
    assert other.settings == "KV_staging-settings"
