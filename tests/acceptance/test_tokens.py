"""Tokens of an issuer that publishes its keys, changes them, and goes away, at the real process."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from certes.v1 import event_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.conftest import StartBroker

LIST = "certes.v1.EventService/ListEvents"
AUDIENCE = "certes"
SETTINGS = """
[auth]
jwt_issuer = "https://id.example.com"
jwt_audience = "certes"
jwt_keys_url = "{url}"
"""
FIRST = generate_private_key(public_exponent=65537, key_size=2048)
SECOND, MADE_UP = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

Key = RSAPrivateKey | Ed25519PrivateKey


class Issuer:
    """Publishes keys where brokers read them, and counts how often one does."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.reads = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.reads += 1
                body = json.dumps({"keys": [jwk(key, key_id) for key_id, key in issuer.keys.items()]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def go_away(self) -> None:
        """Answers nobody from then on. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def jwk(key: Key, key_id: str) -> dict[str, Any]:
    public = key.public_key()
    told = (
        RSAAlgorithm.to_jwk(public, as_dict=True)
        if isinstance(public, RSAPublicKey)
        else OKPAlgorithm.to_jwk(public, as_dict=True)
    )
    return {**told, "kid": key_id}


def claims(**changes: Any) -> dict[str, Any]:
    granted = {"roles": ["subscriber"], "subscribers": ["org_1"]}
    until = time.time() + 3600
    return {
        "iss": "https://id.example.com",
        "aud": AUDIENCE,
        "sub": "shop",
        "exp": until,
        "certes": granted,
        **changes,
    }


def token(key: Key, key_id: str, **changes: Any) -> str:
    algorithm = "RS256" if isinstance(key, RSAPrivateKey) else "EdDSA"
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": key_id})


def forged(header: dict[str, str], secret: bytes) -> str:
    """Spells a token by hand, as libraries refuse to: with an HMAC, or nothing where the secret is empty."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims())]
    text = ".".join(parts)
    signature = hmac.digest(secret, text.encode(), hashlib.sha256) if secret else b""
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.go_away()


def refusal(broker: BrokerProcess, shown: str) -> str:
    """Returns the reason for which a token is refused over HTTP; empty if it is not."""
    headers = {"authorization": f"Bearer {shown}"}
    request = {"parent": "subscribers/org_1"}
    answer = httpx.post(f"http://{broker.http}/api/{LIST}", json=request, headers=headers, timeout=60, trust_env=False)
    reason: str = "" if answer.status_code == 200 else answer.json()["details"][0]["debug"]["reason"]
    return reason


def is_let_in_by_grpc(broker: BrokerProcess, shown: str) -> bool:
    with grpc.insecure_channel(broker.grpc) as channel:
        call = channel.unary_unary(f"/{LIST}")
        wire = pb.ListEventsRequest(parent="subscribers/org_1").SerializeToString()
        try:
            call(wire, timeout=60, metadata=(("authorization", f"Bearer {shown}"),))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            return False
    return True


def test_tokens_are_judged_by_the_keys_that_the_issuer_publishes_now_and_by_no_others(
    start_broker: StartBroker, issuer: Issuer
) -> None:
    issuer.keys = {"first": FIRST}
    broker = start_broker(SETTINGS.format(url=issuer.url))
    assert issuer.reads == 0

    # The keys are read for the first token, and again for the first of a key that is new.
    known = [token(FIRST, "first")]
    assert refusal(broker, known[0]) == ""
    issuer.keys["second"] = SECOND
    known.append(token(SECOND, "second"))
    assert refusal(broker, known[1]) == ""
    assert is_let_in_by_grpc(broker, known[0])
    assert issuer.reads == 2

    # Nobody has them read at will.
    for number in range(20):
        assert refusal(broker, token(MADE_UP, f"made up {number}")) == "CREDENTIALS_INVALID"
    assert issuer.reads < 10

    public = FIRST.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bad = {
        "expired": token(FIRST, "first", exp=time.time() - 60),
        "for another": token(FIRST, "first", aud="another"),
        "by another": token(FIRST, "first", iss="https://evil.example.com"),
        "signed by another's key": token(MADE_UP, "second"),
        "the public key as a secret": forged({"alg": "HS256", "kid": "first"}, public),
        "the same, called RS256": forged({"alg": "RS256", "kid": "first"}, public),
        "not signed": forged({"alg": "none"}, b""),
        "not signed, with a key's id": forged({"alg": "none", "kid": "first"}, b""),
    }
    assert {name: refusal(broker, shown) for name, shown in bad.items()} == dict.fromkeys(bad, "CREDENTIALS_INVALID")
    assert [name for name, shown in bad.items() if is_let_in_by_grpc(broker, shown)] == []

    # While the issuer is away, those whose keys are known go on.
    issuer.go_away()
    assert [refusal(broker, shown) for shown in (*known, token(FIRST, "first", sub="another"))] == ["", "", ""]
    # Whether it is looked for now or was lately, it is not let in.
    assert refusal(broker, token(MADE_UP, "unknown")) in ("CREDENTIALS_INVALID", "TOKEN_KEYS_UNAVAILABLE")
    assert all(shown not in broker.log for shown in (*known, *bad.values()))
