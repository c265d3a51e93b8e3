from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    HmacScheme,
    NoScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
    credential_header,
    needs_secret,
    signature_headers,
)
from certes_broker.domain.source_secrets import check_source_secret, generate_source_secret

TOKEN = TokenScheme("x-gitlab-token")
SCHEMES = [HmacScheme("x"), StripeScheme(), SlackScheme(), StandardWebhooksScheme(), TOKEN, BasicScheme()]
PUBLIC_KEY = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (HmacScheme("x"), "It's a Secret to Everybody"),
        (StripeScheme(), "whsec_test_secret"),
        (SlackScheme(), "8f742231b10e8888abcd99yyyzzz85a5"),
        (StandardWebhooksScheme(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (StandardWebhooksScheme(), PUBLIC_KEY),
        (StandardWebhooksScheme(), PUBLIC_KEY.rstrip("=")),
        (TOKEN, "a token with blanks"),
        (BasicScheme(), "user:pass:word"),
        (BasicScheme(), ":"),
    ],
)
def test_a_secret_that_can_verify_is_taken(scheme, text):
    check_source_secret(scheme, text)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        *((scheme, "") for scheme in SCHEMES),
        *((scheme, "u:" + "x" * 1024) for scheme in SCHEMES),
        *((scheme, "user:not text \udcff") for scheme in SCHEMES),
        (StandardWebhooksScheme(), "no prefix at all, and long enough"),
        (StandardWebhooksScheme(), "whsec_short"),
        (StandardWebhooksScheme(), "whpk_" + "A" * 42),
        (StandardWebhooksScheme(), "whpk_no base64"),
        (StandardWebhooksScheme(), "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (TOKEN, " token"),
        (TOKEN, "token\n"),
        (TOKEN, "to\x00ken"),
        (BasicScheme(), "no colon"),
        (BasicScheme(), "us\ner:password"),
        (NoScheme(), "whatever"),
    ],
)
def test_a_secret_that_could_verify_nothing_is_refused_and_not_repeated(scheme, text):
    with pytest.raises(Invalid) as caught:
        check_source_secret(scheme, text)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.violations[0].field == "secret"
    assert len(text) < 4 or text not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@given(st.binary(min_size=24, max_size=64))
def test_a_secret_that_is_made_for_a_scheme_fits_it_and_differs_as_its_bytes_do(scheme, random_bytes):
    made = generate_source_secret(scheme, random_bytes)
    check_source_secret(scheme, made)
    assert made != generate_source_secret(scheme, random_bytes[:-1] + bytes([random_bytes[-1] ^ 1]))


def test_a_scheme_without_signatures_has_no_secret():
    assert generate_source_secret(NoScheme(), b"x" * 32) == ""
    assert not needs_secret(NoScheme())
    assert all(needs_secret(scheme) for scheme in SCHEMES)


def test_only_tokens_and_passwords_are_credentials():
    credentials = {scheme: credential_header(scheme) for scheme in (*SCHEMES, NoScheme())}
    assert {header for header in credentials.values() if header} == {"x-gitlab-token", "authorization"}
    assert all(header in signature_headers(scheme) for scheme, header in credentials.items() if header)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: HmacScheme("X-Upper"), "header"),
        (lambda: HmacScheme("a b"), "header"),
        (lambda: HmacScheme("x", prefix="ü"), "prefix"),
        (lambda: HmacScheme("x", prefix="x" * 65), "prefix"),
        (lambda: StripeScheme(""), "header"),
        (lambda: StripeScheme(tolerance=0.0), "tolerance"),
        (lambda: SlackScheme(3601.0), "tolerance"),
        (lambda: SlackScheme(float("nan")), "tolerance"),
        (lambda: StandardWebhooksScheme(-1.0), "tolerance"),
        (lambda: TokenScheme("x\n"), "header"),
    ],
)
def test_a_scheme_that_could_verify_nothing_is_refused_by_the_name_of_its_field(make, field):
    with pytest.raises(Invalid) as caught:
        make()
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.violations[0].field == field
