"""Signatures of webhooks that go out; the vectors are shared with the SDKs."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.signature_schemes import StandardWebhooksScheme
from certes_broker.domain.signatures import verify
from certes_broker.domain.signing import SigningKeyPair, SigningSecret, generate_secret, parse_signer, sign, verifier_of
from certes_broker.domain.webhook_headers import WebhookHeaders

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "signatures.json").read_text())

secrets = st.binary(min_size=24, max_size=64).map(SigningSecret)
message_ids = st.text("abcXYZ019_-", min_size=1, max_size=40)
timestamps = st.integers(0, 4_000_000_000)


@pytest.mark.parametrize("vector", VECTORS["secrets"]["valid"], ids=lambda vector: vector["text"])
def test_a_secret_is_read_and_written_with_its_prefix(vector):
    secret = SigningSecret.parse(vector["text"])
    assert secret.key == bytes.fromhex(vector["hex"])
    assert secret.text == vector.get("canonical", vector["text"])
    assert SigningSecret.parse(secret.text) == secret == generate_secret(secret.key)


@pytest.mark.parametrize("vector", VECTORS["secrets"]["invalid"], ids=lambda vector: vector["why"])
def test_what_is_no_secret_is_refused_without_repeating_it(vector):
    with pytest.raises(Invalid) as refusal:
        SigningSecret.parse(vector["text"])
    assert refusal.value.reason is Reason.FIELD_INVALID
    assert refusal.value.__cause__ is None
    encoded = vector["text"][len("whsec_") :]
    assert not encoded or encoded not in repr(refusal.value) + str(refusal.value)


@given(secrets)
def test_a_secret_does_not_show_itself(secret):
    assert repr(secret) == str(secret) == "SigningSecret()"


@pytest.mark.parametrize("vector", VECTORS["sign"], ids=lambda vector: vector["why"])
def test_signing_gives_the_known_signature(vector):
    known = [SigningSecret.parse(text) for text in vector["secrets"]]
    assert sign(known, vector["id"], vector["timestamp"], vector["body"].encode()) == vector["signature"]


@given(secrets, message_ids, timestamps, st.text())
def test_signatures_are_those_of_the_standardwebhooks_library(secret, message_id, timestamp, body):
    theirs = Webhook(secret.text).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)
    assert sign([secret], message_id, timestamp, body.encode()) == theirs


@given(secrets, secrets, message_ids, st.text())
def test_the_standardwebhooks_library_accepts_either_secret_of_a_rotation(old, new, message_id, body):
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([new, old], message_id, now, body.encode()),
    }
    for secret in (old, new):
        Webhook(secret.text).verify(body, headers, json_parse=False)
    stranger = SigningSecret(b64encode(old.key + new.key)[:24])
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger.text).verify(body, headers, json_parse=False)


# The private half of the pair whose public one is in the vectors; both are those of Svix's documentation.
PAIR = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
V1A = next(one for one in VECTORS["verify"] if one["why"].endswith("the vector of Svix's server"))
seeds = st.binary(min_size=32, max_size=32)


def test_a_key_pair_signs_as_another_implementation_does():
    headers, pair = dict(V1A["headers"]), parse_signer(PAIR)
    signature = sign([pair], headers["webhook-id"], int(headers["webhook-timestamp"]), V1A["body"].encode())
    assert signature == headers["webhook-signature"]
    assert verifier_of(pair.text) == V1A["secrets"][0]
    assert pair.text == PAIR


@given(secrets, seeds, message_ids, st.binary())
def test_a_secret_and_a_pair_sign_side_by_side_and_each_verifier_accepts(secret, seed, message_id, body):
    signers, now = [SigningKeyPair(seed), secret], 1_800_000_000
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(signers, message_id, now, body),
    }
    for signer in signers:
        found = WebhookHeaders(list(headers.items()))
        verify(StandardWebhooksScheme(), [verifier_of(signer.text)], found, body, now)


@given(seeds)
def test_a_pair_is_read_with_and_without_its_public_key_and_shows_nothing_of_itself(seed):
    pair = SigningKeyPair(seed)
    alone = "whsk_" + b64encode(seed).decode()
    assert parse_signer(alone).text == parse_signer(pair.text.rstrip("=")).text == pair.text
    assert repr(pair) == str(pair) == "SigningKeyPair()"


@pytest.mark.parametrize(
    "text",
    [
        "whsk_",
        "whsk_" + "A" * 40,
        "whsk_" + "?" * 44,
        "whsk_" + b64encode(bytes(64)).decode(),
        V1A["secrets"][0],
    ],
)
def test_what_is_no_key_pair_is_refused_without_repeating_it(text):
    with pytest.raises(Invalid) as refusal:
        parse_signer(text)
    assert refusal.value.__cause__ is None
    assert text[5:] == "" or text[5:] not in str(refusal.value)
