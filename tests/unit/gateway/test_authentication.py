"""Who calls, by what they show."""

from __future__ import annotations

import pytest

from certes_broker.domain.access import ALL_ROLES, Caller, Role
from certes_broker.domain.api_keys import ApiKey, KeyId, digest_of, spell_key
from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.gateway.authentication import Authenticator
from certes_broker.gateway.callers import Credentials
from tests.fakes.manual_clock import ManualClock

SHOP = spell_key(KeyId("shop"), b"1" * 32)
ROOT = spell_key(KeyId("root"), b"2" * 32)


class Keys:
    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.id: key for key in keys}

    def find(self, key_id: KeyId) -> ApiKey | None:
        return self.keys.get(key_id)

    async def look(self) -> None:
        pass


class Tokens:
    async def caller(self, token: str) -> Caller:
        return Caller(f"tokens/{token}")


def key(text: str, **fields) -> ApiKey:
    return ApiKey(KeyId(text.split("_")[1]), digest_of(text), frozenset({Role.EVENTS_READ}), **fields)


def authenticator(*keys: ApiKey, clock: ManualClock | None = None, tokens: Tokens | None = None) -> Authenticator:
    operator = ApiKey(KeyId("root"), digest_of(ROOT), ALL_ROLES)
    return Authenticator(Keys(*keys), clock or ManualClock(), operator, tokens)


async def refused(who: Authenticator, *authorization: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as raised:
        await who.caller(Credentials(authorization))
    return raised.value


async def test_a_key_says_who_calls_and_what_they_may() -> None:
    caller = await authenticator(key(SHOP)).caller(Credentials((f"Bearer {SHOP}",)))
    assert caller == Caller("apiKeys/shop", frozenset({Role.EVENTS_READ}))


async def test_the_operators_key_has_every_role_and_is_not_stored() -> None:
    assert (await authenticator().caller(Credentials((f"bearer  {ROOT}",)))).is_operator


async def test_a_stored_key_cannot_stand_in_for_the_operators() -> None:
    stored = ApiKey(KeyId("root"), digest_of(spell_key(KeyId("root"), b"3" * 32)), frozenset())
    who = authenticator(stored)
    assert (await who.caller(Credentials((f"Bearer {ROOT}",)))).is_operator
    assert (await refused(who, f"Bearer {spell_key(KeyId('root'), b'3' * 32)}")).reason is Reason.CREDENTIALS_INVALID


async def test_whatever_is_wrong_with_a_credential_is_said_in_the_same_words() -> None:
    clock = ManualClock()
    who = authenticator(key(SHOP), key(spell_key(KeyId("old"), b"4" * 32), expire_time=clock.now()), clock=clock)
    wrong_secret = await refused(who, f"Bearer {spell_key(KeyId('shop'), b'9' * 32)}")
    no_such_id = await refused(who, f"Bearer {spell_key(KeyId('nobody'), b'9' * 32)}")
    expired = await refused(who, f"Bearer {spell_key(KeyId('old'), b'4' * 32)}")
    no_tokens_taken = await refused(who, "Bearer eyJhbGciOiJub25lIn0.e30.")
    assert len({(str(e), e.reason, str(e.metadata)) for e in (wrong_secret, no_such_id, expired, no_tokens_taken)}) == 1


async def test_who_shows_nothing_is_told_what_to_show() -> None:
    error = await refused(authenticator())
    assert error.reason is Reason.CREDENTIALS_MISSING
    assert "authorization: Bearer" in str(error)


@pytest.mark.parametrize(
    "values", [("",), ("Bearer",), (f"Basic {SHOP}",), (f"Bearer {SHOP}", f"Bearer {SHOP}"), ("Bearer " + "x" * 9_000,)]
)
async def test_what_is_no_single_bearer_credential_is_refused(values) -> None:
    error = await refused(authenticator(key(SHOP)), *values)
    assert error.reason is Reason.CREDENTIALS_INVALID
    assert SHOP not in str(error)


async def test_what_is_no_key_is_a_token_where_tokens_are_taken() -> None:
    who = authenticator(tokens=Tokens())
    assert (await who.caller(Credentials(("Bearer abc",)))).id == "tokens/abc"
    assert (await refused(who, f"Bearer {SHOP}")).reason is Reason.CREDENTIALS_INVALID


class KeysOfOthers(Keys):
    """Keys of which another broker has told nothing yet."""

    def __init__(self, *keys: ApiKey) -> None:
        super().__init__()
        self.others = {key.id: key for key in keys}
        self.looks = 0

    async def look(self) -> None:
        self.looks += 1
        self.keys |= self.others


async def test_a_key_that_another_broker_has_just_made_is_looked_for_and_one_that_is_known_is_not() -> None:
    keys = KeysOfOthers(key(SHOP))
    who = Authenticator(keys, ManualClock(), None)
    for _ in range(2):
        assert (await who.caller(Credentials((f"Bearer {SHOP}",)))).id == "apiKeys/shop"
    assert keys.looks == 1


async def test_a_refusal_looks_for_others_keys_whether_or_not_there_is_one_of_this_id() -> None:
    keys = KeysOfOthers()
    who = Authenticator(keys, ManualClock(), None)
    for looks, has_key in enumerate((False, True), start=1):
        keys.keys = {KeyId("shop"): key(SHOP)} if has_key else {}
        wrong = f"Bearer {spell_key(KeyId('shop'), b'9' * 32)}"
        assert (await refused(who, wrong)).reason is Reason.CREDENTIALS_INVALID
        assert keys.looks == looks
