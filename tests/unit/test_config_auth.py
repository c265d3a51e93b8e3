"""The settings that say how callers prove who they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from certes_broker.config import Config
from certes_broker.config.auth_places import operator_key
from certes_broker.domain.access import ALL_ROLES
from certes_broker.domain.api_keys import digest_of
from certes_broker.domain.errors import Invalid, Reason

KEY = f"certes_root_{'s3cret-' * 6}"


def complaint(**given: object) -> str:
    with pytest.raises(Invalid) as caught:
        Config.load(None, {}, {f"auth.{key}": value for key, value in given.items()})
    assert caught.value.reason is Reason.SETTINGS_INVALID
    return str(caught.value)


def test_nobody_is_asked_by_default():
    assert not Config.load(None, {}, {}).auth.is_configured
    assert operator_key(Config().auth) is None


def test_the_operators_key_comes_from_the_environment_and_has_every_role():
    config = Config.load(None, {"CERTES_AUTH_OPERATOR_KEY": KEY}, {})
    key = operator_key(config.auth)
    assert config.auth.is_configured
    assert key is not None
    assert (key.id, key.digest, key.roles) == ("root", digest_of(KEY), ALL_ROLES)
    assert "s3cret" not in repr(config) + repr(key)


def test_the_operators_key_may_be_in_a_file(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    key = operator_key(Config.load(None, {}, {"auth.operator_key_file": str(file)}).auth)
    assert key is not None
    assert key.digest == digest_of(KEY)


@pytest.mark.parametrize("content", [None, "hunter2", "certes_root_short"])
def test_a_file_without_a_key_keeps_the_broker_from_starting_and_is_not_quoted(tmp_path: Path, content: str | None):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Invalid, match=r"auth\.operator_key_file") as caught:
        operator_key(Config.load(None, {}, {"auth.operator_key_file": str(file)}).auth)
    assert content is None or content not in str(caught.value)


def test_what_is_no_key_is_refused_and_not_quoted():
    said = complaint(operator_key="hunter2")
    assert "certes keys generate" in said
    assert "hunter2" not in said


def test_an_address_of_keys_has_no_credentials_and_they_are_not_repeated():
    for url in ("https://reader:hunter2@id.example.com/jwks.json", "http://reader:hunter2/@id.example.com/"):
        said = complaint(jwt_keys_url=url)
        assert "jwt_keys_url holds credentials" in said
        assert "hunter2" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"operator_key": KEY, "operator_key_file": "x"}, "the operator has one key"),
        ({"jwt_issuer": "https://id"}, "is of no use without auth.jwt_audience"),
        ({"jwt_issuer": "https://id", "jwt_audience": "c"}, "without auth.jwt_keys or auth.jwt_keys_url"),
        ({"jwt_audience": "c"}, "is of no use without auth.jwt_issuer"),
        ({"jwt_keys_url": "http://id.example.com/jwks"}, "with http for loopback only"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, object], said: str):
    assert said in complaint(**given)
