"""Signatures of foreign webhooks; the vectors are shared with the SDKs."""

import hmac
import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from certes_broker.domain.errors import Reason, Unauthenticated
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
    signature_headers,
)
from certes_broker.domain.signatures import verify
from certes_broker.domain.signing import SigningSecret, sign
from certes_broker.domain.webhook_headers import WebhookHeaders
from certes_broker.schemas.webhook_tables import Table, read_signature

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "signatures.json").read_text())["verify"]
SCHEMES = [
    HmacScheme("x-signature"),
    HmacScheme("x-signature", HashAlgorithm.SHA512, Encoding.BASE64, "v1="),
    StripeScheme(),
    SlackScheme(),
    StandardWebhooksScheme(),
    TokenScheme("x-token"),
    BasicScheme(),
]
SECRETS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "user:hush")

texts = st.text(st.characters(max_codepoint=0x10FFFF))


def judge(scheme, secrets, headers, body, now=0.0):
    """Returns the problem with a request; None if it is accepted."""
    refusal = None
    try:
        verify(scheme, secrets, WebhookHeaders(tuple(headers)), body, now)
    except Unauthenticated as caught:
        refusal = caught
    if refusal is None:
        return None
    assert refusal.reason is Reason.SIGNATURE_INVALID
    assert refusal.__cause__ is None
    assert not [secret for secret in secrets if len(secret) > 3 and secret in str(refusal)]
    return refusal.metadata["problem"]


def body_of(vector):
    return b64decode(vector["body_base64"]) if "body_base64" in vector else vector["body"].encode()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["why"])
def test_a_request_is_accepted_or_refused_with_the_problem(vector):
    scheme = read_signature(Table(vector["scheme"]))
    headers = [tuple(pair) for pair in vector["headers"]]
    assert judge(scheme, vector["secrets"], headers, body_of(vector), vector.get("now", 0)) == vector["problem"]


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["problem"] is None and "now" in vector], ids=lambda v: v["why"]
)
def test_a_request_that_is_accepted_is_not_once_it_is_too_old(vector):
    scheme = read_signature(Table(vector["scheme"]))
    headers = [tuple(pair) for pair in vector["headers"]]
    assert judge(scheme, vector["secrets"], headers, body_of(vector), vector["now"] + 7200) == "TIMESTAMP_TOO_OLD"


def test_every_scheme_has_a_vector_that_is_accepted_and_every_problem_occurs():
    accepted = {vector["scheme"]["scheme"] for vector in VECTORS if vector["problem"] is None}
    assert accepted == {"hmac", "stripe", "slack", "standard_webhooks", "token", "basic", "none"}
    assert {vector["problem"] for vector in VECTORS} - {None} == {
        "HEADER_MISSING",
        "HEADER_MALFORMED",
        "TIMESTAMP_TOO_OLD",
        "TIMESTAMP_TOO_NEW",
        "NO_MATCH",
        "FORWARDED",
    }


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@given(values=st.lists(texts, min_size=3, max_size=3), body=st.binary(), now=st.floats(0, 4e9))
def test_headers_of_any_text_are_refused_and_never_fail_otherwise(scheme, values, body, now):
    headers = list(zip(signature_headers(scheme), values, strict=False))
    assert judge(scheme, SECRETS, headers, body, now) is not None


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@given(rest=texts, now=st.integers(0, 10**12))
def test_whatever_follows_a_sound_beginning_is_refused_and_never_fails_otherwise(scheme, rest, now):
    beginnings = {
        "x-signature": getattr(scheme, "prefix", ""),
        "stripe-signature": f"t={now},v1=",
        "x-slack-signature": "v0=",
        "x-slack-request-timestamp": str(now),
        "webhook-signature": "v1a,",
        "webhook-timestamp": str(now),
        "authorization": "Basic ",
    }
    timed = {"x-slack-request-timestamp", "webhook-timestamp"}
    headers = [
        (name, beginnings.get(name, "") + ("" if name in timed else rest or "x")) for name in signature_headers(scheme)
    ]
    assert judge(scheme, SECRETS, headers, b"{}", float(now)) is not None


@given(
    st.binary(min_size=1, max_size=100),
    st.binary(),
    st.sampled_from(HashAlgorithm),
    st.sampled_from(Encoding),
    st.sampled_from(("", "sha256=", "v1,")),
)
def test_an_hmac_is_what_the_standard_library_says(secret, body, algorithm, encoding, prefix):
    secret_text = secret.hex()
    digest = hmac.new(secret_text.encode(), body, algorithm.value).digest()
    written = digest.hex() if encoding is Encoding.HEX else b64encode(digest).decode()
    scheme = HmacScheme("x-signature", algorithm, encoding, prefix)
    assert judge(scheme, [secret_text], [("x-signature", prefix + written)], body) is None
    assert judge(scheme, [secret_text], [("x-signature", prefix + written)], body + b"\n") == "NO_MATCH"


@given(st.binary(min_size=24, max_size=64), st.text("abc019_-", min_size=1), st.integers(0, 4_000_000_000), st.text())
def test_what_the_standardwebhooks_library_signs_is_accepted(key, message_id, timestamp, body):
    secret = SigningSecret(key)
    theirs = Webhook(secret.text).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)
    assert sign([secret], message_id, timestamp, body.encode()) == theirs
    headers = [("webhook-id", message_id), ("webhook-timestamp", str(timestamp)), ("webhook-signature", theirs)]
    assert judge(StandardWebhooksScheme(), [secret.text], headers, body.encode(), timestamp) is None


@given(st.binary(min_size=32, max_size=32), st.text("abc019_-", min_size=1), st.integers(0, 4_000_000_000), st.binary())
def test_what_an_ed25519_key_signs_is_accepted_by_its_public_key_alone(seed, message_id, timestamp, body):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    signature = b64encode(private.sign(f"{message_id}.{timestamp}.".encode() + body)).decode()
    headers = [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", f"v1a,{signature}"),
    ]
    public = "whpk_" + b64encode(private.public_key().public_bytes_raw()).decode()
    scheme = StandardWebhooksScheme()
    assert judge(scheme, [public], headers, body, timestamp) is None
    assert judge(scheme, [public], headers, body + b" ", timestamp) == "NO_MATCH"


def test_an_id_that_is_no_ascii_is_signed_in_the_bytes_that_it_came_in():
    content = "größe.1700000000.{}".encode()
    signature = b64encode(hmac.digest(bytes(range(32)), content, "sha256")).decode()
    headers = [
        ("webhook-id", "größe".encode().decode("latin-1")),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", f"v1,{signature}"),
    ]
    secret = "whsec_" + b64encode(bytes(range(32))).decode()
    assert judge(StandardWebhooksScheme(), [secret], headers, b"{}", 1_700_000_000) is None


@given(st.binary(min_size=1), st.data())
def test_a_body_with_one_bit_changed_is_refused(body, data):
    signature = "sha256=" + hmac.digest(b"hush hush", body, "sha256").hex()
    at, bit = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 7))
    changed = body[:at] + bytes([body[at] ^ (1 << bit)]) + body[at + 1 :]
    scheme = HmacScheme("x-hub-signature-256", prefix="sha256=")
    assert judge(scheme, ["hush hush"], [("x-hub-signature-256", signature)], body) is None
    assert judge(scheme, ["hush hush"], [("x-hub-signature-256", signature)], changed) == "NO_MATCH"


@pytest.mark.parametrize("header", ["x-slack-retry-num", "user-agent", "x-request-id", "host", "forwarded-by-nobody"])
def test_a_source_without_signatures_takes_what_no_proxy_passed_on(header):
    assert judge(NoScheme(), [], [(header, "1")], b"{}") is None
