from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    NoScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace
from certes_broker.schemas.webhook_tables import Table, read_mapping, read_place, read_signature

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    [
        "hmac",
        "stripe",
        "slack",
        "standard_webhooks",
        "token",
        "basic",
        "none",
        "sha256",
        "hex",
        "x-topic",
        "a.b",
        "a/_/1/x",
    ]
)
keys = st.sampled_from(
    [
        *[
            "type",
            "types",
            "event",
            "id",
            "time",
            "subjects",
            "subscriber",
            "scheme",
            "header",
            "path",
            "algorithm",
            "encoding",
            "prefix",
            "tolerance",
        ],
        "x",
    ]
)
tables = st.dictionaries(keys, anything | words | st.dictionaries(keys, anything | words, max_size=2), max_size=6)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ('scheme = "hmac"\nheader = "X-Sig"', HmacScheme("x-sig")),
        (
            'scheme = "hmac"\nheader = "x"\nalgorithm = "sha1"\nencoding = "base64"\nprefix = "sha1="',
            HmacScheme("x", HashAlgorithm.SHA1, Encoding.BASE64, "sha1="),
        ),
        ('scheme = "stripe"', StripeScheme("stripe-signature", 300.0)),
        ('scheme = "stripe"\nheader = "X"\ntolerance = 1.5', StripeScheme("x", 1.5)),
        ('scheme = "slack"', SlackScheme()),
        ('scheme = "standard_webhooks"\ntolerance = 60', StandardWebhooksScheme(60.0)),
        ('scheme = "token"\nheader = "X-Gitlab-Token"', TokenScheme("x-gitlab-token")),
        ('scheme = "basic"', BasicScheme()),
        ('scheme = "none"', NoScheme()),
    ],
)
def test_every_scheme_is_read_with_its_defaults(text, scheme):
    assert read_signature(Table(tomllib.loads(text))) == scheme


@pytest.mark.parametrize(
    ("text", "place"),
    [('header = "X-Topic"', HeaderPlace("x-topic")), ('path = "data.object.id"', PathPlace(("data", "object", "id")))],
)
def test_a_place_is_a_header_or_a_path(text, place):
    assert read_place(Table(tomllib.loads(text))) == place


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "signature.scheme"),
        ("scheme = 1", "signature.scheme"),
        ('scheme = "HMAC"', "signature.scheme"),
        ('scheme = "hmac"', "signature.header"),
        ('scheme = "hmac"\nheader = ""', "signature.header"),
        ('scheme = "hmac"\nheader = "x"\nencoding = "base32"', "signature.encoding"),
        ('scheme = "hmac"\nheader = "x"\ntolerance = 5', "signature.tolerance"),
        ('scheme = "stripe"\ntolerance = true', "signature.tolerance"),
        ('scheme = "stripe"\ntolerance = "5m"', "signature.tolerance"),
        ('scheme = "slack"\ntolerance = 0', "signature.tolerance"),
        ('scheme = "slack"\nheader = "x"', "signature.header"),
        ('scheme = "basic"\nheader = "x"', "signature.header"),
        ('scheme = "none"\nsecret = "x"', "signature.secret"),
    ],
)
def test_a_mistake_in_a_scheme_names_its_key(text, field):
    with pytest.raises(Invalid) as caught:
        read_signature(Table(tomllib.loads(text), "signature"))
    assert caught.value.reason is Reason.SETTINGS_INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "mapping.type"),
        ('type = "a/_/1/x"\nevnt = 1', "mapping.evnt"),
        ('type = "a/_/1/x"\nevent = "x-topic"', "mapping.event"),
        ('type = "a/_/1/x"\nevent = { header = "x", path = "y" }', "mapping.event"),
        ('type = "a/_/1/x"\nevent = { heder = "x" }', "mapping.event.heder"),
        ('type = "a/_/1/x"\nid = { path = 7 }', "mapping.id.path"),
        ('type = "a/_/1/x"\nid = { header = "cookie" }', "mapping.id.header"),
        ('type = "a/_/1/x"\nsubjects = { path = "a" }', "mapping.subjects"),
        ('type = "a/_/1/x"\nsubjects = [{ path = "a" }, { path = ".b" }]', "mapping.subjects[1].path"),
        ('type = "a/_/1/x"\nevent = { path = "a" }\ntypes = { a = 1 }', "mapping.types.a"),
        ('type = "a/_/1/x"\nevent = { path = "a" }\ntypes = { a = "b" }', "mapping.types['a']"),
        ('type = "a/_/1/{event}"', "mapping.event"),
    ],
)
def test_a_mistake_in_a_mapping_names_its_key(text, field):
    with pytest.raises(Invalid) as caught:
        read_mapping(Table(tomllib.loads(text), "mapping"))
    assert caught.value.reason is Reason.SETTINGS_INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


@given(tables | anything)
def test_any_table_is_read_or_refused_naming_one_key(values):
    for read in (read_signature, read_mapping, read_place):
        try:
            read(Table(values))
        except Invalid as refusal:
            assert len(refusal.violations) == 1  # noqa: PT017
