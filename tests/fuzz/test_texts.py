"""What is read of texts: URIs, patterns, names and signatures. Whatever they are, they are read or refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Unauthenticated
from certes_broker.domain.names import parse_id, parse_subscriber_name, parse_subscription_name
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
    signature_headers,
)
from certes_broker.domain.signatures import verify
from certes_broker.domain.uris import parse_event_type, parse_gateway_uri, parse_pattern
from certes_broker.domain.webhook_headers import WebhookHeaders
from tests.fuzz.calls import texts
from tests.fuzz.conftest import EXAMPLES, Fuzz

NOW: Final = 1_795_000_000.0
SECRET: Final = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes. ok").decode()

PARSERS: Final[tuple[Callable[[str], Any], ...]] = (
    parse_event_type,
    parse_pattern,
    parse_gateway_uri,
    parse_id,
    parse_subscriber_name,
    parse_subscription_name,
)

SCHEMES: Final[tuple[SignatureScheme, ...]] = (
    *(HmacScheme("x-signature", algorithm, encoding) for algorithm in HashAlgorithm for encoding in Encoding),
    HmacScheme("x-signature", prefix="sha256="),
    StripeScheme(),
    SlackScheme(),
    StandardWebhooksScheme(),
    TokenScheme("x-token"),
    BasicScheme(),
)

uri_like = st.lists(
    st.one_of(
        st.sampled_from(
            ("/", "//", ":", "events", "_", "*", "**", "1", "01", "0", "[", "]", "::1", "%2f", ".", "-", "é")
        ),
        st.sampled_from(("github.com", "GitHub.com", "push", "subscribers", "subscriptions", "9600", "99999", "\0")),
        st.characters(),
    ),
    max_size=12,
).map("".join)

signature_like = st.lists(
    st.one_of(
        st.sampled_from(
            ("v1", "v1a", "v0", "t", "=", ",", " ", "sha256=", "Basic ", "Bearer ", str(int(NOW)), "-1", "9" * 30)
        ),
        st.binary(max_size=64).map(lambda raw: base64.b64encode(raw).decode()),
        st.binary(max_size=32).map(bytes.hex),
        texts,
    ),
    max_size=8,
).map("".join)


def test_uris_patterns_and_names(fuzz: Fuzz) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from(PARSERS), st.one_of(uri_like, texts))
    def target(parse: Callable[[str], Any], text: str) -> None:
        try:
            read = parse(text)
        except Invalid as refused:
            str(refused).encode()  # can be told to whoever sent it
        else:
            # What is read is spelled in one way, and reading that is reading the same.
            assert parse(str(getattr(read, "text", read))) == read

    fuzz(target)


def test_signatures(fuzz: Fuzz) -> None:
    names = sorted({name for scheme in SCHEMES for name in signature_headers(scheme)} | {"authorization", "x-token"})
    headers = st.lists(st.tuples(st.sampled_from(names), signature_like), max_size=8)

    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from(SCHEMES), headers, st.binary(max_size=50))
    def target(scheme: SignatureScheme, pairs: list[tuple[str, str]], body: bytes) -> None:
        # Nobody can guess a signature, and nothing else is ever raised.
        with pytest.raises(Unauthenticated) as refused:
            verify(scheme, [SECRET], WebhookHeaders(tuple(pairs)), body, NOW)
        assert SECRET not in str(refused.value)

    fuzz(target)
