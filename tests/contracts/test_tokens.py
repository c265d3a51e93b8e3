"""Tokens as issuers sign them, and as those do who are none."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from certes_broker.domain.access import ALL_ROLES, Role
from certes_broker.domain.errors import Invalid, Reason, Unauthenticated, Unavailable
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.token_keys import (
    FRESH,
    PATIENCE,
    READ_TIMEOUT,
    FixedKeys,
    PublishedKeys,
    keys_of_file,
    read_keys,
)
from certes_broker.gateway.tokens import SKEW, TokenVerifier
from tests.fakes.manual_clock import ManualClock

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ed25519.Ed25519PrivateKey.generate()
ISSUER, AUDIENCE = "https://id.example.com", "certes"


def pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key: Any, key_id: str, **more: str) -> dict[str, Any]:
    make = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else OKPAlgorithm
    return {**make.to_jwk(key.public_key(), as_dict=True), "kid": key_id, **more}


def key_set(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": list(keys)})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def verifier(clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(FixedKeys(read_keys(key_set(jwk(RSA, "r"), jwk(ED, "e")))), ISSUER, AUDIENCE, clock)


def token(clock: ManualClock, key: Any = ED, *, algorithm: str = "EdDSA", kid: str | None = "e", **changes: Any) -> str:
    now = clock.now() // 1_000_000
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": now + 300, **changes}
    told = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


async def is_refused(verifier: TokenVerifier, text: str) -> bool:
    try:
        await verifier.caller(text)
    except Unauthenticated as error:
        return error.reason is Reason.CREDENTIALS_INVALID
    return False


async def test_a_token_of_either_algorithm_says_who_calls(verifier, clock) -> None:
    for text in (token(clock), token(clock, RSA, algorithm="RS256", kid="r"), token(clock, kid=None)):
        caller = await verifier.caller(text)
        assert (caller.id, caller.roles, caller.is_bound) == ("tokens/shop", frozenset(), False)


async def test_the_claim_says_what_the_caller_may_and_to_what_it_is_bound(verifier, clock) -> None:
    granted = {
        "roles": ["events:read", "publisher"],
        "subscribers": ["org_1"],
        "sources": ["//shop/*"],
        "types": ["d.x/**"],
    }
    caller = await verifier.caller(token(clock, certes=granted))
    assert {Role.EVENTS_READ, Role.EVENTS_WRITE} <= caller.roles
    assert caller.bindings.subscribers == {"org_1"}
    assert caller.bindings.sources == {"//shop/*"}
    assert caller.bindings.types == {parse_pattern("d.x/**")}
    assert (await verifier.caller(token(clock, certes={"roles": ["operator"]}))).roles == ALL_ROLES
    assert (await verifier.caller(token(clock, certes={"subscribers": []}))).is_bound


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://id.example.org"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1},
        {"nbf": 9e9},
        {"certes": "operator"},
        {"certes": {"roles": "operator"}},
        {"certes": {"roles": ["events:eat"]}},
        {"certes": {"subscriber": ["org_1"]}},
        {"certes": {"subscribers": "org_1"}},
        {"certes": {"subscribers": None}},
        {"certes": {"subscribers": ["a/b"]}},
        {"certes": {"types": ["**"]}},
    ],
    ids=repr,
)
async def test_a_token_that_says_something_else_is_refused(verifier, changes) -> None:
    def signed(claims: dict[str, Any]) -> str:
        told = {name: value for name, value in claims.items() if value is not None}
        return _encoded({"alg": "EdDSA", "kid": "e"}, told, ED)

    sound = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": 9e9}
    assert (await verifier.caller(signed(sound))).id == "tokens/shop"
    assert await is_refused(verifier, signed(sound | changes))


async def test_clocks_may_differ_a_little(verifier, clock) -> None:
    now = clock.now() // 1_000_000
    assert await verifier.caller(token(clock, exp=now - SKEW + 5, nbf=now + SKEW - 5))
    assert await is_refused(verifier, token(clock, exp=now - SKEW - 5))
    assert await is_refused(verifier, token(clock, nbf=now + SKEW + 5))


async def test_a_token_that_was_taken_is_not_when_its_time_is_over(verifier, clock) -> None:
    text = token(clock)
    caller = await verifier.caller(text)
    assert caller.until == (clock.now() // 1_000_000 + 300 + SKEW) * 1_000_000
    clock.advance(299 + SKEW)
    assert await verifier.caller(text) == caller
    clock.advance(2)
    assert await is_refused(verifier, text)


async def test_who_has_no_key_of_the_issuer_signs_nothing(verifier, clock) -> None:
    assert await is_refused(verifier, token(clock, OTHER))
    assert await is_refused(verifier, token(clock, kid="unknown"))
    assert await is_refused(verifier, token(clock)[:-4] + "AAAA")
    assert await is_refused(verifier, token(clock, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"))


def _encoded(header: dict[str, Any], claims: dict[str, Any], key: Any = None, *, secret: bytes | None = None) -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    if secret is not None:
        return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"
    return f"{text}.{part(key.sign(text.encode()) if key is not None else b'')}"


async def test_a_tokens_header_does_not_choose_how_a_key_is_used(verifier, clock) -> None:
    """The public key as the secret of an HMAC, no signature at all, and a key of another kind."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": 9e9, "certes": {"roles": ["operator"]}}
    public = pem(RSA).encode()
    for header in ({"alg": "HS256", "kid": "r"}, {"alg": "RS256", "kid": "r"}, {"alg": "HS256"}):
        assert await is_refused(verifier, _encoded(header, claims, secret=public))
    for algorithm in ("none", "None", "", None, "EdDSA", "RS256"):
        assert await is_refused(verifier, _encoded({"alg": algorithm, "kid": "e"}, claims))
    assert await is_refused(verifier, _encoded({"alg": "RS256", "kid": "e"}, claims, ED))
    assert await is_refused(verifier, _encoded({"alg": "EdDSA", "kid": "r"}, claims, OTHER))
    brought = jwk(OTHER, "e")
    assert await is_refused(verifier, _encoded({"alg": "EdDSA", "kid": "e", "jwk": brought}, claims, OTHER))


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "..", "é.é.é", "e30.e30.", "[" * 100, "A" * 8000])
async def test_what_is_no_token_is_refused(verifier, text) -> None:
    assert await is_refused(verifier, text)


async def test_deep_nesting_is_refused(verifier) -> None:
    deep = base64.urlsafe_b64encode(b'{"a":' * 1_200 + b"1" + b"}" * 1_200).decode().rstrip("=")
    assert await is_refused(verifier, f"{deep}.{deep}.AAAA")
    assert await is_refused(verifier, f"{base64.urlsafe_b64encode(b'[' * 5_000).decode().rstrip('=')}.e30.AAAA")


async def test_what_was_verified_is_remembered_and_not_without_end(clock) -> None:
    verifier = TokenVerifier(FixedKeys(read_keys(pem(ED))), ISSUER, AUDIENCE, clock, remembered=2)
    texts = [token(clock, jti=str(number)) for number in range(3)]
    for text in (*texts, *texts):
        assert (await verifier.caller(text)).id == "tokens/shop"
    assert len(verifier) == 2


# Below: where keys come from.


def test_keys_are_read_from_pem_and_from_a_set_each_for_one_algorithm() -> None:
    assert [key.algorithm for key in read_keys(pem(RSA) + pem(ED))] == ["RS256", "EdDSA"]
    found = read_keys(key_set(jwk(RSA, "r"), jwk(ED, "e", use="enc"), {"kty": "oct", "k": "AAAA", "kid": "o"}))
    assert [(key.id, key.algorithm) for key in found] == [("r", "RS256")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "no keys",
        key_set({"kty": "oct", "k": "AAAA"}),
        key_set(jwk(RSA, "r", alg="RS512")),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        pem(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_what_holds_no_usable_key_keeps_the_broker_from_starting(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"auth\.jwt_keys") as caught:
        keys_of_file(file)
    assert caught.value.reason is Reason.SETTINGS_INVALID


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        keys_of_file(tmp_path / "nothing")


class Issuer:
    """Publishes keys, counts how often they are read, and can be away."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.away = False
        self.read = 0

    def fetch(self) -> str:
        self.read += 1
        if self.away:
            raise ConnectionRefusedError("nobody there")
        return key_set(*self.keys)


async def test_published_keys_are_read_once_and_again_when_they_are_old(clock) -> None:
    issuer = Issuer(jwk(ED, "e"))
    keys = PublishedKeys(issuer.fetch, clock)
    first = await keys.current("e")
    assert await keys.current("e") is first
    assert issuer.read == 1
    clock.advance(FRESH)
    await keys.current("e")
    assert issuer.read == 2


async def test_a_key_that_is_not_known_yet_is_looked_for_at_once_but_not_at_everybodys_bidding(clock) -> None:
    issuer = Issuer(jwk(ED, "e"))
    keys = PublishedKeys(issuer.fetch, clock)
    await keys.current("e")
    issuer.keys.append(jwk(OTHER, "new"))
    assert [key.id for key in await keys.current("new")] == ["e", "new"]
    for number in range(5):
        await keys.current(f"made up {number}")
    assert issuer.read == 2
    clock.advance(PATIENCE)
    await keys.current("made up")
    await keys.current("made up")
    assert issuer.read == 3


async def test_a_token_whose_key_is_not_there_cannot_be_judged_while_keys_cannot_be_read(clock) -> None:
    issuer = Issuer(jwk(ED, "e"))
    keys = PublishedKeys(issuer.fetch, clock)
    first = await keys.current("e")
    issuer.away = True
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            await keys.current("new")
        assert raised.value.reason is Reason.TOKEN_KEYS_UNAVAILABLE
    assert await keys.current("e") is await keys.current("") is first
    issuer.away = False
    clock.advance(PATIENCE)
    assert await keys.current("new") == first


async def test_who_asks_and_goes_away_keeps_nobody_from_the_keys(clock) -> None:
    issuer, going = Issuer(jwk(ED, "e")), threading.Event()

    def fetch() -> str:
        going.wait(60)
        return issuer.fetch()

    keys = PublishedKeys(fetch, clock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await keys.current("e")
    going.set()
    async with asyncio.timeout(60):
        while await refuses(keys, "e"):  # noqa: ASYNC110  what was begun for the first comes in
            await asyncio.sleep(0)
    assert [key.id for key in await keys.current("e")] == ["e"]
    assert issuer.read == 1


async def refuses(keys: PublishedKeys, key_id: str) -> bool:
    try:
        await keys.current(key_id)
    except Unavailable:
        return True
    return False


async def test_an_issuer_that_never_comes_to_an_end_is_as_one_that_is_away(clock) -> None:
    issuer, ending, begun = Issuer(jwk(ED, "e")), threading.Event(), threading.Event()
    ending.set()

    def fetch() -> str:
        begun.set()
        ending.wait(60)
        return issuer.fetch()

    keys = PublishedKeys(fetch, clock)
    first = await keys.current("e")
    ending.clear()
    clock.advance(FRESH)
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(keys.current("e"))
            while not clock.alarms:  # noqa: ASYNC110  the other task sets one
                await asyncio.sleep(0)
            clock.advance(READ_TIMEOUT)
            assert await asked is first
            # Nor does anybody wait for it later, or begin another beside it.
            begun.clear()
            for _ in range(3):
                clock.advance(FRESH)
                assert await keys.current("e") is first
                assert await refuses(keys, "made up")
            assert not begun.is_set()
    finally:
        ending.set()
    async with asyncio.timeout(30):
        while issuer.read < 3:  # What was begun comes in, and then another is begun.
            clock.advance(FRESH)
            assert await keys.current("e") == first
            await asyncio.sleep(0)


@pytest.mark.parametrize("answer", ["", "{", "[" * 100_000, '{"keys": [{"kty": "RSA"}]}', None])
async def test_whatever_an_issuer_answers_the_keys_that_are_known_go_on(clock, answer: str | None) -> None:
    answers = [key_set(jwk(ED, "e"))]

    def fetch() -> str:
        if answers[-1] is None:
            raise IncompleteRead(b"half")
        return answers[-1]

    keys = PublishedKeys(fetch, clock)
    first = await keys.current("e")
    answers.append(answer)
    clock.advance(FRESH)
    assert await keys.current("e") is first


async def test_a_token_of_a_key_that_the_issuer_took_back_is_refused(clock) -> None:
    issuer = Issuer(jwk(ED, "e"))
    verifier = TokenVerifier(PublishedKeys(issuer.fetch, clock), ISSUER, AUDIENCE, clock)
    text = token(clock, exp=9e9)
    assert not await is_refused(verifier, text)
    issuer.keys = [jwk(OTHER, "new")]
    clock.advance(FRESH)
    assert await is_refused(verifier, text)


async def test_an_issuer_that_is_away_stops_nobody_who_is_known_and_is_said_to_be(clock) -> None:
    issuer = Issuer(jwk(ED, "e"))
    keys = PublishedKeys(issuer.fetch, clock)
    issuer.away = True
    with pytest.raises(Unavailable) as raised:
        await keys.current("e")
    assert raised.value.reason is Reason.TOKEN_KEYS_UNAVAILABLE
    issuer.away = False
    clock.advance(PATIENCE)
    first = await keys.current("e")
    issuer.away = True
    clock.advance(FRESH)
    assert await keys.current("e") is first
