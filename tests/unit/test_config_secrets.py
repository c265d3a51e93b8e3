"""The keys that seal secrets at rest, as the settings give them."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from certes_broker.config import Config
from certes_broker.config.sealing_keys import sealing_keys
from certes_broker.domain.errors import Invalid

ONE, TWO = (b64encode(letter * 32).decode() for letter in (b"1", b"2"))


def load(**given: str) -> Config:
    environ = {f"CERTES_SECRETS_{name.upper()}": value for name, value in given.items()}
    return Config.load(None, environ, {})


def test_without_keys_there_are_none() -> None:
    assert sealing_keys(load()) == ()


def test_keys_come_from_the_environment_or_a_file_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{ONE}\n\n{TWO}\n")
    found = sealing_keys(load(keys=f"{ONE}, {TWO}"))
    assert [key.key for key in found] == [b"1" * 32, b"2" * 32]
    assert sealing_keys(load(keys_file=str(file))) == found


@pytest.mark.parametrize(
    ("keys", "file", "problem"),
    [
        (ONE, "1", "secrets.keys_file: is given, and secrets.keys too"),
        ("", "", "in which there is no key"),
        ("", None, "cannot be read"),
        ("geheim", "none", "key 1 is not base64"),
        (f"{ONE},Z2VoZWlt", "none", "key 2 has 6 bytes"),
        (",".join([ONE] * 9), "none", "has 9 keys; 8 are allowed"),
    ],
)
def test_what_is_no_ring_of_keys_is_refused_by_the_setting_and_never_repeated(
    tmp_path: Path, keys: str, file: str | None, problem: str
) -> None:
    given = {"keys": keys}
    if file != "none":
        given["keys_file"] = str(tmp_path / "keys")
        if file is not None:
            (tmp_path / "keys").write_text(file)
    with pytest.raises(Invalid, match=problem) as refusal:
        sealing_keys(load(**given))
    assert "secrets.keys" in str(refusal.value)
    assert "geheim" not in str(refusal.value)
    assert ONE not in str(refusal.value)


def test_settings_do_not_show_their_keys() -> None:
    assert ONE not in repr(load(keys=ONE))
