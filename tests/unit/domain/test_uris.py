"""Event URIs and gateway URIs; the vectors are shared with the SDKs."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import EventType, GatewayUri, parse_event_type, parse_gateway_uri

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "uris.json").read_text())
EVENT_TYPES = VECTORS["event_types"]
GATEWAYS = VECTORS["gateways"]

words = st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True)
domains = st.lists(st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4).map(
    ".".join
)
event_types = st.builds(
    EventType,
    domain=domains,
    namespace=st.lists(words, min_size=1, max_size=6).map("/".join),
    version=st.integers(1, 2**31 - 1),
    name=words,
)


@pytest.mark.parametrize("vector", EVENT_TYPES["valid"], ids=lambda vector: vector["text"][:40])
def test_an_event_uri_is_read_from_the_right(vector):
    event_type = parse_event_type(vector["text"])
    assert event_type == EventType(vector["domain"], vector["namespace"], vector["version"], vector["name"])
    assert event_type.text == str(event_type) == vector["canonical"]
    assert event_type.is_system is vector["system"]


@pytest.mark.parametrize(
    "vector", EVENT_TYPES["invalid"], ids=lambda vector: f"{vector['why']}: {vector['text'][:30]!r}"
)
def test_a_malformed_event_uri_is_refused_with_the_position_and_the_problem(vector):
    with pytest.raises(Invalid) as refusal:
        parse_event_type(vector["text"])
    assert refusal.value.reason is Reason.MALFORMED_URI
    assert refusal.value.metadata["position"] == str(vector["position"])
    assert f"at character {vector['position']}: {refusal.value.metadata['problem']}" in refusal.value.message


@given(event_types)
def test_reading_what_was_written_gives_the_same_event_type(event_type):
    assert parse_event_type(event_type.text) == event_type


@given(event_types)
def test_the_domain_alone_may_be_in_upper_case(event_type):
    domain, _, rest = event_type.text.partition("/")
    assert parse_event_type(f"{domain.upper()}/{rest}") == event_type


def _is_event_uri(text):
    """A second opinion: the grammar as one expression, and the bounds that an expression says badly."""
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    grammar = (
        rf"(?P<domain>({label}\.)*(?!\d+/){label})(/[a-z0-9_]+){{1,128}}/(?P<version>[1-9][0-9]{{0,9}})/[a-z0-9_]+"
    )
    match = re.fullmatch(grammar, text)
    if match is None:
        return False
    return len(text) <= 2048 and len(match["domain"]) <= 253 and int(match["version"]) < 2**31


@given(st.one_of(st.text(max_size=20), st.text(alphabet="ad0149./_*-A \n", max_size=16)))
def test_exactly_what_the_grammar_allows_is_accepted(text):
    if _is_event_uri(text):
        parse_event_type(text)
    else:
        with pytest.raises(Invalid) as refusal:
            parse_event_type(text)
        assert 0 <= int(refusal.value.metadata["position"]) <= len(text)


@given(event_types, st.data())
def test_one_strange_character_is_pointed_at_where_it_stands(event_type, data):
    position = data.draw(st.integers(0, len(event_type.text)))
    stranger = data.draw(st.sampled_from("!%é\x00"))
    with pytest.raises(Invalid) as refusal:
        parse_event_type(event_type.text[:position] + stranger + event_type.text[position:])
    assert refusal.value.metadata["position"] == str(position)


def test_a_refusal_does_not_repeat_a_long_text_whole():
    with pytest.raises(Invalid) as refusal:
        parse_event_type("d/" + "A" * 2000 + "/1/x")
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("vector", GATEWAYS["valid"], ids=lambda vector: vector["text"])
def test_a_gateway_uri_names_a_host_and_a_port(vector):
    gateway = parse_gateway_uri(vector["text"])
    assert gateway == GatewayUri(vector["host"], vector["port"])
    assert gateway.text == str(gateway) == vector["canonical"]
    assert parse_gateway_uri(gateway.text) == gateway


@pytest.mark.parametrize("vector", GATEWAYS["invalid"], ids=lambda vector: f"{vector['why']}: {vector['text'][:30]!r}")
def test_a_malformed_gateway_uri_is_refused_with_the_position_and_the_problem(vector):
    with pytest.raises(Invalid) as refusal:
        parse_gateway_uri(vector["text"])
    assert refusal.value.reason is Reason.MALFORMED_URI
    assert refusal.value.metadata["position"] == str(vector["position"])


def test_a_gateway_uri_without_end_is_refused():
    with pytest.raises(Invalid) as refusal:
        parse_gateway_uri("events://" + "a" * 5000)
    assert refusal.value.metadata["position"] == "2048"


def test_an_authority_always_has_its_port():
    assert parse_gateway_uri("events://d").authority == "d:9600"
    assert parse_gateway_uri("events://[::1]:80").authority == "[::1]:80"
