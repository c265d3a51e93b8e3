"""Files of credentials for NATS servers: what is taken, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.engines.nats.credentials import Credentials
from tests.fakes.nats_operator import Operator

JWT = "-----BEGIN NATS USER JWT-----\n"
SEED = "-----BEGIN USER NKEY SEED-----\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "user.creds"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "BEGIN NATS USER JWT"),
        (b"\xff\xfe", "no text"),
        (JWT.encode(), "BEGIN NATS USER JWT"),
        (f"{JWT}e30.e30.sig\n".encode(), "BEGIN USER NKEY SEED"),
        (f"{JWT}e30.e30.sig\n{SEED}\n".encode(), "BEGIN USER NKEY SEED"),
        (f"{JWT}e30.e30.sig\n{SEED}SUAMKX\n".encode(), "no key"),
        (f"{JWT}e30.e30.sig\n{SEED}s3cret!\n".encode(), "no key"),
    ],
    ids=["nothing", "bytes", "no JWT", "no seed", "an empty seed", "half a seed", "another secret"],
)
def test_what_is_no_file_of_credentials_is_refused_with_what_is_missing(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=why) as refusal:
        Credentials(path)
    assert refusal.value.reason is Reason.STORAGE_UNAVAILABLE
    assert str(path) in str(refusal.value)
    assert "nats.credentials" in refusal.value.hint
    assert "s3cret" not in str(refusal.value)


def test_a_file_that_is_not_there_is_refused_with_its_name(path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"user\.creds.*No such file"):
        Credentials(path)


def test_a_file_that_was_replaced_is_what_servers_are_shown_next(path: Path) -> None:
    account = Operator().account()
    credentials = Credentials(account.user(path))
    before = credentials.sign("nonce"), credentials.jwt()
    assert before == (credentials.sign("nonce"), credentials.jwt())
    account.user(path)
    after = credentials.sign("nonce"), credentials.jwt()
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert after[1].decode() in path.read_text()


def test_a_file_that_is_being_replaced_leaves_what_was_there(path: Path) -> None:
    credentials = Credentials(Operator().account().user(path))
    before = credentials.sign("nonce"), credentials.jwt()
    path.write_bytes(b"")
    assert (credentials.sign("nonce"), credentials.jwt()) == before
    path.unlink()
    assert (credentials.sign("nonce"), credentials.jwt()) == before
