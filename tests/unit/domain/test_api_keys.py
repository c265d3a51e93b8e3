"""How API keys are spelled, kept and compared."""

from __future__ import annotations

import pytest

from certes_broker.domain.access import Role
from certes_broker.domain.api_keys import (
    ApiKey,
    KeyId,
    digest_of,
    is_key,
    parse_key_id,
    parse_key_name,
    read_key,
    spell_key,
)
from certes_broker.domain.errors import Invalid

ID = KeyId("shop-1")
KEY = spell_key(ID, bytes(range(32)))


def known(key: str = KEY) -> ApiKey:
    return ApiKey(ID, digest_of(key), frozenset({Role.EVENTS_WRITE}))


def test_a_key_says_its_id_and_a_secret_of_256_bits() -> None:
    assert KEY.startswith("certes_shop-1_")
    assert read_key(KEY) == ID
    assert len(KEY.rpartition("_")[2]) == 64


def test_only_the_key_itself_is_the_key() -> None:
    assert is_key(KEY, known())
    assert not is_key(KEY[:-1] + "0", known())
    assert not is_key(KEY, None)
    assert not is_key(KEY, known(spell_key(ID, bytes(32))))


@pytest.mark.parametrize(
    "text", ["", "certes_", "certes_a", "certes_a_", "certes_a_short", f"certes_A_{'x' * 40}", f"other_a_{'x' * 40}"]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert read_key(text) is None


def test_a_secret_of_somebodys_own_making_may_have_underscores() -> None:
    assert read_key(f"certes_root_{'a_b-' * 10}") == "root"


def test_what_is_kept_does_not_show_in_a_representation() -> None:
    assert repr(known().digest) not in repr(known())


def test_names_and_ids_are_read_and_refused() -> None:
    assert parse_key_name("apiKeys/shop-1") == ID
    for text in ("shop-1", "apiKeys/", "apiKeys/-a", "apiKeys/A", "apiKeys/a/b", f"apiKeys/{'a' * 64}"):
        with pytest.raises(Invalid):
            parse_key_name(text)
    with pytest.raises(Invalid):
        parse_key_id("a_b")
