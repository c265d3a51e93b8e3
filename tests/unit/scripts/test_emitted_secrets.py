"""The judge of what brokers write finds secrets, and shows none."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from certes_broker.domain.api_keys import KeyId, spell_key
from scripts.emitted_secrets import find_secrets, secrets_given, secrets_told

SIGNING = "whsec_" + b64encode(b"geheim-signatur-8d8d").decode()
KEY = spell_key(KeyId("operator"), bytes(range(32)))
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzaG9wIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "secret",
    [
        SIGNING,
        SIGNING.replace("whsec_", "whsk_"),
        KEY,
        TOKEN,
        "Bearer abcdefghijklmnop",
        "nats://certes:pw@nats.example.com",
        "-----BEGIN PRIVATE KEY-----",
        "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM",
    ],
)
def test_what_has_the_shape_of_a_secret_is_found_and_not_shown(secret: str) -> None:
    [told] = find_secrets(f'{{"event": "fine"}}\n{{"event": "broken", "error": "{secret}"}}\n', ())
    assert '"event": "broken"' in told
    assert secret not in told


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "serving", "http": "127.0.0.1:9600", "data_dir": "/tmp/whsec_/data"}',
        "auth.operator_key is no key: certes keys generate prints one, certes_{id}_{secret}",
        "set authorization: Bearer TOKEN",
        "The NATS servers (127.0.0.1:4222) cannot be used now: http://127.0.0.1:80/a@b",
    ],
)
def test_what_only_speaks_of_secrets_is_none(line: str) -> None:
    assert find_secrets(line, ("short",)) == []


def test_what_was_given_is_found_whatever_its_shape_and_so_is_the_secret_part_of_it() -> None:
    given = ("the secret of the source", SIGNING, KEY)
    for part in (given[0], SIGNING.removeprefix("whsec_"), KEY.rpartition("_")[2]):
        [told] = find_secrets(f"it was {part}, they say", given)
        assert told == "a secret that it was given in: it was …, they say"


def test_what_an_answer_is_there_to_tell_is_a_secret_but_for_public_keys() -> None:
    assert secrets_told('{"apiKey": {"name": "apiKeys/shop"}, "key": "certes_shop_x"}') == {"certes_shop_x"}
    assert secrets_told('{\n  "secret": "a-made-one",\n  "url": "http://localhost/"\n}') == {"a-made-one"}
    assert secrets_told('secrets {\n  secret: "whsec_x"\n}\nsecrets {\n  secret: "whpk_y"\n}\n') == {"whsec_x"}
    assert secrets_told('{"secret": ""}') == set()


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key-in-a-file-1\nkey-in-a-file-2\n")
    config = tmp_path / "certes.toml"
    config.write_text(f"""
engine = "a mistake"
[[sources]]
secrets = ["source-1", "source-2"]
[auth]
operator_key = "operator"
[nats]
token = "token"
[secrets]
keys_file = "{tmp_path / "keys"}"
""")
    environ = {"CERTES_SECRETS_KEYS": "key-1,key-2", "CERTES_SOURCE_SHOP_SECRETS": "source-3", "CERTES_TLS_KEY": "/k"}
    assert secrets_given(config, environ) == {
        "source-1",
        "source-2",
        "source-3",
        "operator",
        "token",
        "key-1",
        "key-2",
        "key-in-a-file-1",
        "key-in-a-file-2",
    }


def test_a_broken_file_holds_what_nobody_can_tell(tmp_path: Path) -> None:
    config = tmp_path / "certes.toml"
    config.write_text("= broken")
    assert secrets_given(config, {}) == secrets_given(None, {}) == set()
